"""On an accelerator mappings are searched as well as there is time for, and always so that there are some."""

from math import inf

import pytest

from tersor.autoscheduler.accelerator import SHORT, Accelerator, Settled
from tersor.autoscheduler.budget import TimeUp, until
from tersor.layer import Layer
from tersor.network import Network
from tersor.scheduler.costs import Costs
from tersor.scheme import INT8, Scheme
from tests.scheduler.toy_machine import TOY

LAYERS = (Layer("fc1", "matmul", N=4, K=16, C=32), Layer("fc2", "matmul", N=4, K=8, C=16))
NETWORK = Network(LAYERS)
SCHEMES = {layer.name: (INT8, Scheme.parse("w4a8")) for layer in LAYERS}
LOSSES = {name: dict.fromkeys(row, 0.1) for name, row in SCHEMES.items()}
EFFORT = 640


class Searching:
    """A clock on which each search takes a second, and after the first eight, which are short, `later`."""

    short = 8

    def __init__(self, left: float, later: float = 1.0) -> None:
        self.left, self.later, self.steps = left, later, 0
        self.machine = Accelerator(Costs(TOY, effort=EFFORT, workers=1), TOY, 10 * EFFORT)

    def show(self, done: int, of: int) -> None:
        self.steps += 1
        self.left -= 1.0 if self.steps <= self.short else self.later

    def settle(self) -> Settled:
        return self.machine.settle(NETWORK, SCHEMES, self.show, lambda: self.left)


def silent(done: int, of: int) -> None:
    pass


def test_without_a_bound_all_effort_is_made() -> None:
    assert Searching(inf).settle() == Settled(effort=EFFORT, most=2)


def test_with_no_time_at_all_there_is_a_mapping_of_each_layer_in_int8_all_the_same() -> None:
    searching = Searching(0.0)
    found = searching.settle()
    assert found == Settled(effort=EFFORT // SHORT, most=1)
    settled = searching.machine.settled(found)
    problem = settled.problem(NETWORK, SCHEMES, LOSSES, silent)
    assert {name: [choice.scheme for choice in row] for name, row in problem.choices.items()} == {
        layer.name: [INT8] for layer in LAYERS
    }
    policy = {name: row[0] for name, row in problem.choices.items()}
    assert all(choice.mappings for choice in policy.values())
    assert settled.rated(NETWORK, problem, policy).cost.seconds > 0


def test_what_is_heard_may_end_it_before_there_is_int8() -> None:
    machine = Searching(0.0).machine
    with pytest.raises(TimeUp):
        machine.settle(NETWORK, SCHEMES, until(lambda: 1.0, silent, longest=1.0), lambda: 1.0)


def test_the_more_time_the_more_schemes_and_the_more_effort() -> None:
    found = [Searching(left).settle() for left in (0.0, 12.0, 30.0, 1000.0)]
    amounts = [(each["most"], each["effort"]) for each in found]
    assert amounts == sorted(amounts)
    assert amounts[0] == (1, EFFORT // SHORT)
    assert amounts[1][0] == 2
    assert amounts[-1] == (2, EFFORT)


def test_when_time_runs_out_meanwhile_what_was_found_shortly_is_taken() -> None:
    searching = Searching(100.0, later=60.0)
    assert searching.settle() == Settled(effort=EFFORT // SHORT, most=2)
    assert searching.steps > searching.short


def test_what_was_settled_decides_the_same_again() -> None:
    searching, found = Searching(1000.0), Settled(effort=EFFORT // 8, most=2)
    settled = searching.machine.settled(found)
    fresh = Accelerator(Costs(TOY, effort=EFFORT, workers=1), TOY, EFFORT).settled(found)
    one, other = (each.problem(NETWORK, SCHEMES, LOSSES, silent) for each in (settled, fresh))
    assert one == other
