"""Which tensors stay on the chip: on tiny networks the best of all subsets, tried one by one."""

from collections.abc import Sequence
from itertools import chain, combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from tersor.scheduler.packing import pack
from tersor.targets.accelerator.passing import Passed, Programs
from tersor.targets.accelerator.placement import Order
from tersor.targets.accelerator.residency import Operands, with_size
from tests.scheduler.toy_machine import TOY

CAPACITY = 100
LAYERS = 6  # one after the other, each of which reads one or two results before it
SIZES = st.lists(st.integers(1, 120), min_size=LAYERS - 1, max_size=LAYERS - 1)
LAST = st.lists(st.integers(1, 3), min_size=LAYERS - 1, max_size=LAYERS - 1)  # how far a result is read


def programs(sizes: Sequence[int], far: Sequence[int]) -> Programs:
    passed: list[Passed] = []
    for number, (size, reach) in enumerate(zip(sizes, far, strict=True)):
        adds = min(number + reach, LAYERS - 1)  # reads it at its end
        readers: list[tuple[int, Operands]] = [(number + 1, ("input",))]
        passed.append(Passed(number, (*readers, *([(adds, ())] if adds > number + 1 else [])), size))
    views = tuple({"weight": 0, "input": own, "output": own} for own in (*sizes, 0))
    before = Order(tuple((1 << number) - 1 for number in range(LAYERS)))
    return Programs(with_size(TOY, 1, CAPACITY), tuple("abcdef"), before, tuple(passed), views)


def taken(network: Programs, kept: Sequence[Passed]) -> int:
    """The most bytes that are there at once."""
    there = [network.order.while_there(each.tensor) for each in kept]
    return max(
        sum(each.size for each, programs in zip(kept, there, strict=True) if programs >> number & 1)
        for number in range(LAYERS)
    )


def subsets(tensors: Sequence[Passed]) -> list[tuple[Passed, ...]]:
    return list(chain.from_iterable(combinations(tensors, count) for count in range(len(tensors) + 1)))


def best(network: Programs, tensors: Sequence[Passed], part: float, beside: Sequence[Passed] = ()) -> int:
    room = CAPACITY * (1 - part)
    return max(
        sum(map(network.saved, some))
        for some in subsets(tensors)
        if taken(network, [*beside, *some]) <= max(room, taken(network, beside))
    )


@settings(deadline=None, max_examples=60)
@given(SIZES, LAST, st.sampled_from([0.0, 0.125, 0.5]))
def test_what_stays_saves_the_most_that_fits(sizes: list[int], far: list[int], part: float) -> None:
    network = programs(sizes, far)
    kept = pack(network, part)
    assert taken(network, kept) <= CAPACITY * (1 - part)
    assert network.rooms(kept) is not None
    most = best(network, network.passed, part)
    in_one_piece = max(
        sum(map(network.saved, some))
        for some in subsets(network.passed)
        if taken(network, some) <= CAPACITY * (1 - part) and network.rooms(some) is not None
    )
    assert sum(map(network.saved, kept)) == most or most > in_one_piece


@settings(deadline=None, max_examples=60)
@given(SIZES, LAST)
def test_others_stay_beside_those_that_do(sizes: list[int], far: list[int]) -> None:
    network = programs(sizes, far)
    kept = pack(network, 0.5)
    others = [each for each in network.passed if each not in kept]
    more = pack(network, 0.125, others, kept)
    assert set(more) <= set(others)
    assert taken(network, [*kept, *more]) <= CAPACITY * 0.875
    rooms, alone = network.rooms(kept, more), network.rooms([*kept, *more])
    assert rooms is not None
    assert alone is not None
    for room, less in zip(rooms, alone, strict=True):
        assert room.end - room.begin >= less.end - less.begin
        assert room.homes.items() <= less.homes.items()


def test_what_can_never_stay_or_is_too_large_does_not() -> None:
    network = programs([101, 10, 10, 10, 10], [1] * 5)
    assert network.why_not(network.passed[0]) == "it takes 101 bytes, buffer has 100"
    assert pack(network, 0.0) == network.passed[1:]
    (first,) = (Passed(1, network.passed[1].readers, 10, "it is an output of the network"),)
    assert pack(network, 0.0, [first, network.passed[2]]) == (network.passed[2],)
