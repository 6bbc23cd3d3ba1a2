"""On an accelerator mappings are searched as well as there is time for, and always so that there are some."""

from math import inf

from tersor.autoscheduler.accelerator import SHORT, Accelerator
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
    """A clock on which each search takes a second, and after the first five, which are short, `later`."""

    def __init__(self, left: float, later: float = 1.0) -> None:
        self.left, self.later, self.steps = left, later, 0
        self.machine = Accelerator(Costs(TOY, effort=EFFORT, workers=1), TOY, 10 * EFFORT)

    def show(self, done: int, of: int) -> None:
        self.steps += 1
        self.left -= 1.0 if self.steps <= 5 else self.later

    def settle(self) -> int:
        return self.machine.settle(NETWORK, SCHEMES, self.show, lambda: self.left)


def silent(done: int, of: int) -> None:
    pass


def test_without_a_bound_all_effort_is_made() -> None:
    assert Searching(inf).settle() == EFFORT


def test_with_no_time_at_all_there_is_a_mapping_of_each_layer_all_the_same() -> None:
    searching = Searching(0.0)
    effort = searching.settle()
    assert effort == EFFORT // SHORT
    settled = searching.machine.settled(effort)
    problem = settled.problem(NETWORK, SCHEMES, LOSSES, silent)
    policy = {name: row[0] for name, row in problem.choices.items()}
    assert all(choice.mappings for choice in policy.values())
    assert settled.cost(NETWORK, problem, policy).seconds > 0


def test_the_more_time_the_more_effort() -> None:
    efforts = [Searching(left).settle() for left in (0.0, 30.0, 1000.0)]
    assert efforts == sorted(efforts)
    assert efforts[-1] == EFFORT


def test_when_time_runs_out_meanwhile_what_was_found_shortly_is_taken() -> None:
    searching = Searching(100.0, later=60.0)
    assert searching.settle() == EFFORT // SHORT
    assert searching.steps > 5


def test_what_was_settled_decides_the_same_again() -> None:
    searching = Searching(1000.0)
    settled = searching.machine.settled(EFFORT // 8)
    fresh = Accelerator(Costs(TOY, effort=EFFORT, workers=1), TOY, EFFORT).settled(EFFORT // 8)
    one, other = (each.problem(NETWORK, SCHEMES, LOSSES, silent) for each in (settled, fresh))
    assert one == other
