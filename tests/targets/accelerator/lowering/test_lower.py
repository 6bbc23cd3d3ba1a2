"""A program does what its mapping says: the right tiles, at the right time, in places of their own."""

from collections import defaultdict
from dataclasses import replace
from functools import cache
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import get_args

import pytest

from tersor.hardware import Hardware
from tersor.layer import INDEXED_BY, Dim, Layer, Operand
from tersor.loop_tree import parse_tree
from tersor.mapping import Keep, Loop, Mapping
from tersor.scheme import Scheme
from tersor.targets.accelerator.bits import element_bits
from tersor.targets.accelerator.counts import PARTIAL, STREAMS
from tersor.targets.accelerator.density import DENSE
from tersor.targets.accelerator.isa.assembly import assemble, disassemble
from tersor.targets.accelerator.isa.encoding import decode, encode
from tersor.targets.accelerator.isa.instruction import Compute, Load, Store
from tersor.targets.accelerator.isa.program import digest_of
from tersor.targets.accelerator.lowering.lower import lower
from tests.targets.accelerator.brute_force import BruteForce
from tests.targets.accelerator.lowering.cases import INT8, lowered_case
from tests.targets.accelerator.lowering.walk import check_balance, tiles, walk

MACHINES = Path(__file__).parents[4] / "targets" / "machines"
EDGE = Hardware.load(MACHINES / "edge.toml")
LAYER = Layer("conv", "conv2d", K=8, C=16, P=4, Q=4, R=3, S=3)
MAPPING = parse_tree("""\
dram: weight, input, output
  for P in 4
    buffer: weight, input, output
      for Q in 4
        for R in 3
          for S in 3
            for C in 16 on rows
              for K in 8 on columns
                registers: weight, output
""")


def test_a_layer_that_does_not_fit_is_refused_with_the_memory_and_both_sizes() -> None:
    small = replace(EDGE, memories=(EDGE.memories[0], replace(EDGE.memories[1], size=2048), EDGE.memories[2]))
    with pytest.raises(ValueError, match=r"the tiles in buffer need \d+ bytes, two of each .* it has 2048"):
        lower(LAYER, INT8, MAPPING, small)


def test_a_mapping_that_does_not_cover_the_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="the loops over P make 4 iterations, the layer 'conv' has 5"):
        lower(replace(LAYER, P=5), INT8, MAPPING, EDGE)


def test_a_program_knows_the_machine_that_it_was_made_for() -> None:
    program = lower(LAYER, INT8, MAPPING, EDGE)
    assert program.machine == "edge"
    assert program.digest == digest_of(Hardware.load(MACHINES / "edge.toml"))
    assert program.digest != digest_of(replace(EDGE, clock=EDGE.clock + 1))


@pytest.mark.parametrize("hundred", range(3))
def test_no_token_is_waited_for_in_vain_and_none_is_left_over(hundred: int) -> None:
    for seed in range(100 * hundred, 100 * hundred + 100):
        _, program = lowered_case(seed)
        check_balance(program)


@cache
def brute_force(seed: int) -> BruteForce:
    case, _ = lowered_case(seed)
    return BruteForce(case.layer, case.hardware, case.mapping)


def touched(seed: int, operand: Operand, level: int) -> list[dict[tuple[int, ...], set[tuple[int, ...]]]]:
    """By brute force: of each stay of a tile, in order, the elements that each unit's products touch."""
    brute = brute_force(seed)
    place, position = brute._place(operand, level), brute._position(operand, level)
    around = [at for at, loop in enumerate(brute.loops[:position]) if loop.at in brute.axes and loop.size > 1]
    stays: dict[tuple[int, ...], dict[tuple[int, ...], set[tuple[int, ...]]]] = defaultdict(
        lambda: defaultdict(set)
    )
    for each in brute.products:
        unit = tuple(each.unit[at] for at in around)
        stays[each.time[:place]][unit].add(each.elements[operand])
    return [dict(stays[stay]) for stay in sorted(stays)]


def test_a_tile_is_what_the_products_of_its_stay_touch() -> None:
    for seed in range(100):
        case, program = lowered_case(seed)
        fetched: dict[tuple[Operand, int], list] = defaultdict(list)
        left: dict[int, list] = defaultdict(list)
        for step in walk(program):
            match step.instruction:
                case Load(operand, _, level, extents):
                    tile = tiles(program, case.hardware, operand, level, extents, step.at)
                    fetched[operand, level].append(tile)
                case Store(level, _, extents):
                    left[level].append(tiles(program, case.hardware, "output", level, extents, step.at))
        names = [memory.name for memory in case.hardware.memories]
        assert set(fetched) == {
            (keep.operand, names.index(keep.at)) for keep in case.mapping.keep if keep.at != "dram"
        }
        for operand, level in fetched:
            stays = fetched[operand, level]
            assert stays == touched(seed, operand, level), f"seed {seed}: {operand} at {level}"
            if operand == "output":
                assert left[level] == stays


def test_sums_are_brought_back_only_where_some_have_left_incomplete() -> None:
    seen: set[bool] = set()
    for seed in range(60):
        _, program = lowered_case(seed)
        for each in program.instructions:
            if isinstance(each, Load) and each.operand == "output":
                stays = touched(seed, "output", each.target)
                units = [(unit, element) for stay in stays for unit in stay for element in stay[unit]]
                visited_again = len(set(units)) < len(units)
                assert each.restore or not visited_again, seed
                seen.add(each.restore)
            elif isinstance(each, Load):
                assert not each.restore
    assert seen == {False, True}


def test_tiles_have_places_of_their_own_in_each_memory_and_fit_them() -> None:
    for seed in range(60):
        case, program = lowered_case(seed)
        bits = element_bits(case.layer, INT8, case.hardware, DENSE)
        taken: dict[int, list[range]] = defaultdict(list)
        for each in program.instructions:
            if isinstance(each, Load):
                memory = case.hardware.memories[each.target]
                assert each.places == (2 if memory.double_buffered else 1)
                for place in range(each.places):
                    start = each.address + place * each.pitch
                    taken[each.target].append(range(start, start + each.pitch))
                largest = max(
                    len(tile) for stay in touched(seed, each.operand, each.target) for tile in stay.values()
                )
                stream = PARTIAL if each.restore else STREAMS.index(each.operand)
                assert 8 * each.pitch >= largest * bits[each.target, stream], seed
        for level, ranges in taken.items():
            ranges.sort(key=lambda each: each.start)
            assert all(a.stop <= b.start for a, b in pairwise(ranges)), seed
            assert ranges[-1].stop <= case.hardware.memories[level].size


def test_a_store_takes_the_sums_from_where_they_were_added_up() -> None:
    for seed in range(60):
        _, program = lowered_case(seed)
        loads = {
            each.target: each
            for each in program.instructions
            if isinstance(each, Load) and each.operand == "output"
        }
        stores = {each.source: each for each in program.instructions if isinstance(each, Store)}
        assert loads.keys() == stores.keys()
        for level, store in stores.items():
            load = loads[level]
            assert (store.target, store.extents) == (load.source, load.extents)
            assert (store.address, store.places, store.pitch) == (load.address, load.places, load.pitch)


def test_windows_slide_along_the_loop_just_outside_of_them_where_the_memory_keeps_halos() -> None:
    seen: set[bool] = set()
    for seed in range(100):
        _, program = lowered_case(seed)
        brute = brute_force(seed)
        for each in program.instructions:
            if isinstance(each, Load):
                place = brute._place(each.operand, each.target)
                assert each.slides == brute._slides(each.operand, each.target, place), seed
                seen.add(each.slides)
    assert seen == {False, True}


def test_a_program_is_as_long_as_its_loop_tree_whatever_the_sizes() -> None:
    large = replace(LAYER, K=8, C=16, P=1000)
    wide = Mapping((replace(MAPPING.loops[0], size=1000), *MAPPING.loops[1:]), MAPPING.keep)
    small, long = lower(LAYER, INT8, MAPPING, EDGE), lower(large, INT8, wide, EDGE)
    assert len(long.instructions) == len(small.instructions) < 25


def test_steps_are_those_of_the_loop_nest() -> None:
    for seed in range(60):
        _, program = lowered_case(seed)
        steps = sum(isinstance(step.instruction, Compute) for step in walk(program))
        assert steps == brute_force(seed).steps, seed


def test_only_what_indexes_an_operand_has_an_extent_in_its_tiles() -> None:
    for each in lower(LAYER, Scheme.parse("w4a8+2:4"), MAPPING, EDGE).instructions:
        if isinstance(each, Load):
            walked = {dim for dim, size in zip("NGKCPQRS", each.extents, strict=True) if size > 1}
            assert walked <= INDEXED_BY[each.operand]


def test_a_tile_of_half_a_byte_takes_a_whole_one() -> None:
    program = lower(LAYER, Scheme.parse("w4a8"), MAPPING, EDGE)
    registers = [each for each in program.instructions if isinstance(each, Load) and each.target == 2]
    assert [(each.operand, each.address, each.pitch) for each in registers] == [
        ("output", 2, 4),
        ("weight", 0, 1),
    ]


def mapping_of(layer: Layer, machine: Hardware) -> Mapping:
    """Spread what the axes take, and keep a tile of each operand wherever that can be."""
    dims: tuple[Dim, ...] = get_args(Dim)
    left: dict[Dim, int] = {dim: layer.size(dim) for dim in dims}
    spread: list[Loop] = []
    for axis in machine.axes:
        useful: list[Dim] = [each for each in axis.unrolls if left[each] > 1]
        dim = useful[0] if useful else axis.unrolls[0]
        spread.append(Loop(dim, min(left[dim], axis.size), axis.name))
        left[dim] = ceil(left[dim] / spread[-1].size)
    levels = [memory.name for memory in machine.memories]
    spread.sort(key=lambda loop: levels.index(machine.axis(loop.at).inside))
    outside = [Loop(dim, left[dim], levels[0]) for dim in dims]
    keep = [Keep(operand, memory.name) for memory in machine.memories for operand in memory.keeps]
    return Mapping((*outside, *spread), tuple(keep))


@pytest.mark.parametrize("path", sorted(MACHINES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_machine_has_programs(path: Path) -> None:
    machine = Hardware.load(path)
    program = lower(LAYER, INT8, mapping_of(LAYER, machine), machine)
    check_balance(program)
    assert assemble(disassemble(program, machine), machine) == program
    assert decode(encode(program), machine) == program
