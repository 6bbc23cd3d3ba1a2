import numpy as np
import pytest

from tersor.scheduler.figures import Figure, figure_of, modelled
from tersor.scheduler.front import front
from tersor.scheduler.hypervolume import hypervolume, nondominated
from tersor.scheduler.search import Solution, solve
from tests.scheduler.spaces import Everything, space


def figures(solution: Solution, *names: Figure) -> list[float]:
    return [figure_of(solution.cost, solution.loss, name) for name in names]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("quantities", [("energy", "drop"), ("latency", "energy", "drop")])
def test_ten_policies_or_more_of_which_no_policy_at_all_is_better_in_everything(
    seed: int, quantities: tuple
) -> None:
    problem = space(seed, mappings=1)
    everything = Everything(problem)
    found = front(problem, quantities, 12)
    assert len(found) >= 10
    names = [modelled(quantity) for quantity in quantities]
    points = np.stack([everything.figures(name) for name in names], axis=1)
    for solution in found:
        mine = np.array(figures(solution, *names))
        as_good = (points <= mine * (1 + 1e-12)).all(axis=1)
        assert not (points[as_good] < mine * (1 - 1e-9)).any()


def test_of_a_small_problem_the_whole_front_is_found() -> None:
    problem = space(1, layers=3, mappings=1)
    everything = Everything(problem)
    points = list(zip(everything.figures("energy"), everything.figures("loss"), strict=True))
    whole = sorted(points[place] for place in nondominated(points))
    found = sorted(figures(each, "energy", "loss") for each in front(problem, ("energy", "drop"), 1000))
    assert np.array(found) == pytest.approx(np.array(whole))


def test_the_product_of_time_and_energy_may_be_traded_for_loss() -> None:
    problem = space(2, mappings=2)
    found = front(problem, ("edp", "drop"), 10)
    assert len(found) >= 10
    points = [figures(each, "edp", "loss") for each in found]
    assert nondominated(points) == list(range(len(points)))
    assert points[-1][0] == solve(problem, "edp").value
    assert points[0][1] == solve(problem, "loss").value


def test_the_ends_are_the_least_of_each_and_limits_are_kept() -> None:
    problem = space(3)
    energy = 1.5 * solve(problem, "energy").value
    found = front(problem, ("latency", "drop"), 10, {"energy": energy})
    assert all(each.cost.energy <= energy for each in found)
    assert min(each.cost.seconds for each in found) == solve(problem, "latency", {"energy": energy}).value
    assert min(each.loss for each in found) == solve(problem, "loss", {"energy": energy}).value


def test_ten_policies_have_most_of_the_volume_of_all() -> None:
    problem = space(4, mappings=1)
    everything = Everything(problem)
    points = np.log(np.stack([everything.figures("energy"), everything.figures("loss")], axis=1))
    reference = points.max(axis=0)
    found = [np.log(figures(each, "energy", "loss")) for each in front(problem, ("energy", "drop"), 10)]
    best = hypervolume(pareto(points), reference)
    assert hypervolume(found, reference) > 0.9 * best


def pareto(points: np.ndarray) -> list[tuple[float, float]]:
    """The points of two figures that no other dominates."""
    found: list[tuple[float, float]] = []
    for x, y in sorted(map(tuple, points)):
        if not found or y < found[-1][1]:
            found.append((x, y))
    return found


def test_a_front_needs_two_quantities() -> None:
    for quantities in (("energy",), ("energy", "energy"), ()):
        with pytest.raises(ValueError, match="two or more different quantities"):
            front(space(1), quantities)
