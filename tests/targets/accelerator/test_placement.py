"""Tensors that may be on the chip at the same time lie apart, and tiles have a gap beside them."""

from itertools import combinations
from random import Random

import pytest

from tersor.targets.accelerator.placement import Gap, Order, Tensor, gaps, place

CHAIN = Order((0b000, 0b001, 0b011, 0b111))


def random_order(random: Random, programs: int) -> Order:
    """Programs of which each needs the results of some before it, and of what these need."""
    before: list[int] = []
    for program in range(programs):
        needed = 0
        for other in range(program):
            if random.random() < 0.4:
                needed |= before[other] | 1 << other
        before.append(needed)
    return Order(tuple(before))


def runs(random: Random, order: Order) -> list[int]:
    """The programs in one of the orders that are possible."""
    done, ran = 0, list[int]()
    while len(ran) < len(order.before):
        ready = [p for p, before in enumerate(order.before) if p not in ran and before & ~done == 0]
        ran.append(random.choice(ready))
        done |= 1 << ran[-1]
    return ran


def test_a_chain_needs_two_tensors_at_a_time() -> None:
    tensors = [Tensor(0, (1,), 10), Tensor(1, (2,), 10), Tensor(2, (3,), 10)]
    addresses = place(tensors, CHAIN, 20)
    assert addresses == [0, 10, 0]
    assert place(tensors, CHAIN, 19) is None
    assert gaps(tensors, addresses, CHAIN, 25) == [Gap(10, 25), Gap(20, 25), Gap(20, 25), Gap(10, 25)]


def test_a_tensor_that_is_read_again_later_stays_over_the_programs_between() -> None:
    kept, between = Tensor(0, (1, 3), 10), Tensor(1, (2,), 5)
    assert CHAIN.while_there(kept) == 0b1111
    assert CHAIN.while_there(between) == 0b0110
    assert place([kept, between], CHAIN, 20) == [0, 10]


def test_programs_that_may_run_in_any_order_are_taken_to_come_in_between() -> None:
    fork = Order((0b000, 0b001, 0b001, 0b111))
    assert fork.while_there(Tensor(1, (3,), 1)) == 0b1110


@pytest.mark.parametrize("seed", range(100))
def test_whatever_the_order_nothing_lies_on_anything_else(seed: int) -> None:
    random = Random(seed)
    order = random_order(random, random.randint(2, 9))
    tensors = []
    for producer in range(len(order.before)):
        readers = [p for p, before in enumerate(order.before) if before >> producer & 1]
        if readers and random.random() < 0.8:
            chosen = tuple(random.sample(readers, random.randint(1, len(readers))))
            tensors.append(Tensor(producer, chosen, random.randint(1, 40)))
    addresses = place(tensors, order, 100)
    if addresses is None:
        assert sum(tensor.size for tensor in tensors) > 100
        return
    free = gaps(tensors, addresses, order, 100)
    ran = runs(random, order)
    for step, program in enumerate(ran):
        there = [
            range(address, address + tensor.size)
            for tensor, address in zip(tensors, addresses, strict=True)
            if ran.index(tensor.producer) <= step <= max(map(ran.index, tensor.readers))
        ]
        there.append(range(free[program].begin, free[program].end))
        for one, other in combinations(there, 2):
            assert not set(one) & set(other)
        assert all(not each or (each[0] >= 0 and each[-1] < 100) for each in there)
