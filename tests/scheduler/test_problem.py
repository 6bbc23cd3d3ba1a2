from dataclasses import replace

import pytest

from tersor.cost import Cost
from tersor.scheduler.problem import Choice, Problem
from tersor.scheme import FP32, INT8

DEAR = Choice(FP32, Cost(0.1, 10.0, {"dram": 4.0}, 40, 7), 0.0)
CHEAP = Choice(INT8, Cost(0.2, 3.0, {"dram": 1.0}, 10, 5), 0.25)
PROBLEM = Problem(
    {"fc1": (DEAR, CHEAP), "fc2": (DEAR, CHEAP), "fc4": (CHEAP,)},
    {"fc1": ("fc1", "fc3"), "fc2": ("fc2",), "fc4": ("fc4",)},
    Cost(0.3, 1.0, {}, 2, 9),
)
POLICY = {"fc1": CHEAP, "fc2": DEAR, "fc4": CHEAP}


def test_there_are_as_many_policies_as_ways_to_choose() -> None:
    assert PROBLEM.size == 4
    assert Problem({}, {}).size == 1


def test_a_policy_costs_what_its_choices_cost_and_the_rest() -> None:
    assert PROBLEM.cost(POLICY) == Cost(0.8, 17.0, {"dram": 6.0}, 62, 9)
    assert PROBLEM.loss(POLICY) == 0.5


def test_sums_are_rounded_once_whatever_the_order() -> None:
    tenth = Choice(FP32, Cost(seconds=0.1, energy=0.1), 0.1)
    names = [f"layer{i}" for i in range(10)]
    problem = Problem({name: (tenth,) for name in names}, {name: (name,) for name in names})
    policy = dict.fromkeys(names, tenth)
    cost = problem.cost(policy)
    assert (cost.seconds, cost.energy, problem.loss(policy)) == (1.0, 1.0, 1.0)


def test_all_layers_of_a_group_get_its_scheme() -> None:
    assert PROBLEM.schemes(POLICY) == {"fc1": INT8, "fc3": INT8, "fc2": FP32, "fc4": INT8}


def test_a_part_of_the_choices_makes_a_smaller_problem() -> None:
    cheap = PROBLEM.only(lambda name, choice: choice.scheme == INT8 or name == "fc2")
    assert {name: len(row) for name, row in cheap.choices.items()} == {"fc1": 1, "fc2": 2, "fc4": 1}
    assert cheap.rest == PROBLEM.rest
    with pytest.raises(ValueError, match="fc4 has nothing to choose from"):
        PROBLEM.only(lambda name, choice: choice.scheme == FP32)


def test_what_is_left_of_a_problem_can_all_be_picked() -> None:
    tied = replace(PROBLEM, no_narrower={"fc1": ("fc2",)})
    assert tied.only(lambda name, choice: True).no_narrower == {}


def test_a_question_is_answered_once() -> None:
    problem, asked = Problem({}, {}), []
    for _ in range(2):
        assert problem.once("how many", lambda: asked.append(1) or len(asked)) == 1
    assert problem.once("another", lambda: 7) == 7


def test_a_problem_names_what_is_missing() -> None:
    with pytest.raises(ValueError, match="fc has nothing to choose from"):
        Problem({"fc": ()}, {"fc": ("fc",)})
    with pytest.raises(ValueError, match="each group of layers needs choices"):
        Problem({"fc": (DEAR,)}, {})
    with pytest.raises(ValueError, match="a loss is not negative, got -1"):
        Choice(INT8, Cost(), -1.0)
