from random import Random

import numpy as np
import pytest

from tersor.targets.accelerator.counts import STREAMS, Counts, count
from tersor.targets.accelerator.nest import Nest
from tests.targets.accelerator.brute_force import BruteForce
from tests.targets.accelerator.tiny_cases import Case, tiny_case, with_homes


def counted(case: Case) -> Counts:
    return count(*Nest.of(case.mapping, case.layer, case.hardware))


def as_dictionary(
    case: Case, reads: np.ndarray, writes: np.ndarray, streams: tuple[str, ...] = STREAMS
) -> dict[tuple[str, str, str], int]:
    return {
        (memory.name, stream, what): int(array[level, STREAMS.index(stream), 0])
        for level, memory in enumerate(case.hardware.memories)
        for stream in streams
        for what, array in (("read", reads), ("write", writes))
        if array[level, STREAMS.index(stream), 0]
    }


def present(
    counter: dict[tuple[str, str, str], int], streams: tuple[str, ...]
) -> dict[tuple[str, str, str], int]:
    return {key: value for key, value in counter.items() if value and key[1] in streams}


def check(case: Case, about: str) -> None:
    slow = BruteForce(case.layer, case.hardware, case.mapping)
    fast = counted(case)
    assert as_dictionary(case, fast.reads, fast.writes) == present(slow.counted, STREAMS), about
    assert fast.steps[0] == slow.steps, about
    factors = ("weight", "input")
    busiest = as_dictionary(case, fast.busiest_reads, fast.busiest_writes, factors)
    assert busiest == present(slow.first, factors), about


@pytest.mark.parametrize("hundred", range(11))
def test_accesses_are_those_of_the_loop_nest_run_product_by_product(hundred: int) -> None:
    for seed in range(100 * hundred, 100 * hundred + 100):
        case = tiny_case(seed, most_products=200)
        check(case, f"seed {seed}: {case}")


@pytest.mark.parametrize("hundred", range(11))
def test_so_they_are_where_operands_lie_in_inner_memories_from_the_beginning(hundred: int) -> None:
    homes = 0
    seed = 10_000 * hundred
    while homes < 100:
        case = tiny_case(seed, most_products=200)
        homed = with_homes(case, Random(seed))
        if homed != case:
            homes += 1
            check(homed, f"seed {seed}: {homed}")
        seed += 1


def test_many_mappings_at_once_are_counted_as_each_alone() -> None:
    for seed in range(15):
        case = tiny_case(seed)
        nest, sizes = Nest.of(case.mapping, case.layer, case.hardware)
        random = np.random.default_rng(seed)
        sizes = np.where(random.random((len(sizes), 16)) < 0.5, sizes, 1)
        outermost = [place for place, (_, at) in enumerate(nest.loops) if at == "dram"]
        sizes[outermost] += 8  # so that all of the layer is covered
        together = count(nest, sizes)
        for column in range(sizes.shape[1]):
            alone = count(nest, sizes[:, column : column + 1])
            np.testing.assert_array_equal(together.reads[..., column], alone.reads[..., 0])
            np.testing.assert_array_equal(together.writes[..., column], alone.writes[..., 0])


def test_a_nest_gives_the_mapping_of_its_sizes_back_without_loops_of_one() -> None:
    for seed in range(50):
        case = tiny_case(seed)
        nest, sizes = Nest.of(case.mapping, case.layer, case.hardware)
        again = nest.mapping(sizes[:, 0])
        assert all(loop.size > 1 for loop in again.loops)
        fast, slow = counted(Case(case.layer, case.hardware, again)), counted(case)
        np.testing.assert_array_equal(fast.reads, slow.reads)
        np.testing.assert_array_equal(fast.writes, slow.writes)
