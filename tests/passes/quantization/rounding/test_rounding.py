import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tersor.formats.grids import Grid, fit
from tersor.gram import Gram
from tersor.passes.quantization.rounding.descent import descend
from tersor.passes.quantization.rounding.gptq import gptq
from tersor.passes.quantization.rounding.objective import Objective
from tersor.passes.quantization.rounding.rounding import ROUNDINGS
from tersor.weight_format import Codebook, Integer, Microscaling, PowerOfTwo, Ternary, WeightFormat

FORMATS = (
    Integer(4),
    Integer(3, 16),
    Integer(8),
    Ternary(),
    Codebook(4),
    PowerOfTwo(4),
    Microscaling("mxfp4"),
)


def problem(
    outputs: int = 12, columns: int = 40, groups: int = 1, seed: int = 0
) -> tuple[np.ndarray, Gram, np.ndarray]:
    """A weight [outputs, columns]; moments and rows [groups, 600, columns] of correlated inputs."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(groups, columns // 2, columns)) * np.exp(rng.normal(size=(groups, 1, columns)))
    rows = (
        rng.normal(size=(groups, 600, columns // 2)) @ mixed + rng.normal(size=(groups, 600, columns)) * 0.3
    )
    rows += rng.normal(size=(groups, 1, columns))
    moment = np.einsum("gri,grj->gij", rows, rows) / 600
    weight = rng.normal(size=(outputs, columns)).astype(np.float32)
    return weight, Gram(moment.astype(np.float32), rows.mean(axis=1), 600), rows


def is_on(grid: Grid, values: np.ndarray) -> bool:
    return np.array_equal(grid.nearest(values), values)


@pytest.mark.parametrize("format", FORMATS, ids=str)
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("how", ["gptq", "adaround"])
def test_the_output_loses_less_than_with_the_nearest_numbers(
    format: WeightFormat, groups: int, how: str
) -> None:
    weight, gram, rows = problem(groups=groups)
    objective = Objective.of(gram, centred=False)
    integer = not isinstance(format, Microscaling)
    nearest = ROUNDINGS["mse"](weight, format, integer, None)
    found = ROUNDINGS[how](weight, format, integer, objective)  # pyright: ignore[reportArgumentType]
    assert is_on(found.grid, found.values)

    def lost(values: np.ndarray) -> float:
        difference = (values - weight).reshape(groups, -1, weight.shape[1])
        return float(np.square(np.einsum("grn,gkn->grk", rows, difference)).sum())

    assert lost(found.values) < lost(nearest.values)


def test_inputs_that_are_not_correlated_round_to_the_nearest() -> None:
    weight, _, _ = problem()
    gram = Gram(np.eye(40, dtype=np.float32)[None], np.zeros((1, 40)), 9)
    grid = fit(weight, Integer(4), integer=True)
    rounded = gptq(weight, grid, Objective.of(gram, centred=False))
    np.testing.assert_array_equal(rounded, grid.nearest(weight))


def test_groups_are_problems_of_their_own() -> None:
    weight, gram, _ = problem(12, 20, groups=3)
    grid = fit(weight, Integer(4), integer=True)
    # The same order of the columns in all of them, which the mean of the diagonals decides.
    together = descend(weight, grid.nearest(weight), grid, Objective.of(gram, False), 9)
    for group in range(3):
        rows = slice(4 * group, 4 * group + 4)
        alone = Gram(gram.second_moment[group : group + 1], gram.mean[group : group + 1], 9)
        own = fit(weight[rows], Integer(4), integer=True)
        expected = descend(weight[rows], own.nearest(weight[rows]), own, Objective.of(alone, False), 9)
        np.testing.assert_array_equal(together[rows], expected)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_descent_never_loses_and_ends_where_no_single_change_helps(seed: int) -> None:
    weight, gram, _ = problem(3, 8, seed=seed)
    objective = Objective.of(gram, centred=True)
    grid = fit(weight, Integer(3), integer=True)
    start = grid.nearest(weight)
    found = descend(weight, start, grid, objective, 100)
    errors = objective.errors(found - weight)
    assert (errors <= objective.errors(start - weight) * (1 + 1e-6)).all()
    numbers = grid.numbers(np.tile(np.arange(len(grid.levels)), (3, 1)))
    for column, level in itertools.product(range(8), range(numbers.shape[1])):
        other = found.copy()
        other[:, column] = numbers[:, level]
        assert (objective.errors(other - weight) >= errors * (1 - 1e-4)).all()


@pytest.mark.parametrize("how", ["gptq", "adaround"])
def test_pruned_weights_stay_zero(how: str) -> None:
    weight, gram, _ = problem()
    kept = np.random.default_rng(3).random(weight.shape) < 0.5
    pruned = np.where(kept, weight, np.float32(0))
    found = ROUNDINGS[how](pruned, Integer(4), True, Objective.of(gram, True), kept)  # pyright: ignore[reportArgumentType]
    assert not found.values[~kept].any()
    assert found.values[kept].any()


def test_a_centred_objective_does_not_count_what_the_bias_takes_up() -> None:
    weight, gram, rows = problem()
    change = np.random.default_rng(5).normal(size=weight.shape)
    expected = (rows[0] @ change.T).var(axis=0)
    np.testing.assert_allclose(Objective.of(gram, True, damping=0.0).errors(change), expected, rtol=1e-3)


def test_steps_of_the_input_are_taken_out_of_its_moments() -> None:
    weight, gram, _ = problem()
    steps = np.exp(np.random.default_rng(6).normal(size=(1, 40)))
    change = np.random.default_rng(5).normal(size=weight.shape)
    plain = Objective.of(gram, True, damping=0.0).errors(change)
    stepped = Objective.of(gram, True, steps, damping=0.0).errors(change * steps)
    np.testing.assert_allclose(stepped, plain, rtol=1e-6)


@pytest.mark.parametrize("how", ["gptq", "adaround"])
def test_inputs_that_are_always_zero_do_no_harm(how: str) -> None:
    weight, _, _ = problem()
    gram = Gram(np.zeros((1, 40, 40), np.float32), np.zeros((1, 40)), 5)
    found = ROUNDINGS[how](weight, Integer(4), True, Objective.of(gram, True))  # pyright: ignore[reportArgumentType]
    assert np.abs(found.values - weight).max() < 1
