import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tersor.formats.encoded import encode
from tersor.formats.grids import fit
from tersor.gram import Gram
from tersor.passes.quantization.rounding.entropy import entropy_constrained, even
from tersor.passes.quantization.rounding.gptq import gptq
from tersor.passes.quantization.rounding.objective import Matrix, Objective
from tersor.passes.quantization.rounding.rounding import Entropy, Gptq
from tersor.shipping.entropy import entropy_bytes
from tersor.sparsity import Unstructured
from tersor.weight_format import Codebook, Integer, Microscaling, PowerOfTwo, Ternary, WeightFormat


def problem(outputs: int = 24, columns: int = 60, groups: int = 1, seed: int = 0) -> tuple[Matrix, Objective]:
    """A weight [outputs, columns], and what correlated inputs make of its errors."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(groups, columns, columns)) * np.exp(rng.normal(size=(groups, 1, columns)))
    rows = rng.normal(size=(groups, 800, columns)) @ mixed
    moment = np.einsum("gri,grj->gij", rows, rows) / 800
    gram = Gram(moment.astype(np.float32), np.zeros((groups, columns)), 800)
    return rng.normal(size=(outputs, columns)).astype(np.float32), Objective.of(gram, centred=False)


def coded(values: Matrix) -> float:
    """Bytes of entropy of which number each element is."""
    return entropy_bytes(np.unique(values, return_inverse=True)[1])


def lost(values: Matrix, weight: Matrix, objective: Objective) -> float:
    return float(objective.errors(values - weight).sum())


def test_a_dearer_bit_means_fewer_bytes_and_more_noise_until_all_is_zero() -> None:
    weight, objective = problem()
    found = [
        Entropy(rate)(weight, Codebook(5), False, objective).values for rate in (1e-6, 1e-5, 1e-4, 1e-3, 1.0)
    ]
    sizes = [coded(values) for values in found]
    noises = [lost(values, weight, objective) for values in found]
    assert sizes == sorted(sizes, reverse=True)
    assert noises == sorted(noises)
    zeros = [int((values == 0).sum()) for values in found]
    assert zeros == sorted(zeros)
    assert not found[-1].any()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1e-5, 1e-4, 1e-3]))
def test_noise_and_bits_together_cost_less_than_of_gptq(seed: int, rate: float) -> None:
    weight, objective = problem(seed=seed)
    price = 8 * rate * float(objective.errors(weight).sum())

    def cost(values: Matrix) -> float:
        return lost(values, weight, objective) + price * coded(values)

    plain = Gptq()(weight, Codebook(4), False, objective).values
    assert cost(Entropy(rate)(weight, Codebook(4), False, objective).values) < cost(plain)


def test_bits_that_cost_nothing_leave_the_numbers_of_gptq() -> None:
    weight, objective = problem()
    grid = fit(weight, Integer(4), True, "mse", objective.importance)
    values, same = entropy_constrained(weight, grid, objective, rate=0.0)
    assert same is grid
    assert np.mean(values == gptq(weight, grid, objective)) > 0.999  # halves may go either way


def test_entries_are_fitted_to_the_output() -> None:
    weight, objective = problem(groups=2)
    grid = even(fit(weight, Codebook(3), False), weight)
    values, fitted = entropy_constrained(weight, grid, objective, rate=1e-5)
    assert 0 in fitted.levels
    least = lost(values, weight, objective)
    for entry in fitted.levels[fitted.levels != 0]:
        for factor in (0.99, 1.01):
            moved = np.where(values == entry, entry * np.float32(factor), values)
            assert lost(moved, weight, objective) >= least * (1 - 1e-6)


@pytest.mark.parametrize("integer", [True, False])
@pytest.mark.parametrize(
    "format", [Integer(4), Integer(3, 16), Ternary(), PowerOfTwo(4), Codebook(1), Codebook(4)], ids=str
)
def test_what_it_gives_is_stored_and_read_back(format: WeightFormat, integer: bool) -> None:
    weight, objective = problem(groups=3)
    found = Entropy(1e-4)(weight, format, integer, objective)
    encoded = encode(found.values, found.grid, None, weight.shape, 0)
    decoded = encoded.decode().astype(np.float32)
    if encoded.scale is not None:
        decoded = decoded * encoded.scale[:, None]
    np.testing.assert_array_equal(decoded, found.values)


def test_blocks_of_a_microscaling_format_have_their_own_numbers() -> None:
    weight, objective = problem()
    found = Entropy(1e-5)(weight, Microscaling("mxfp4"), False, objective)
    np.testing.assert_array_equal(found.grid.nearest(found.values), found.values)


def test_pruned_weights_stay_zero_and_are_not_stored() -> None:
    weight, objective = problem()
    kept = np.random.default_rng(3).random(weight.shape) < 0.5
    pruned = np.where(kept, weight, np.float32(0))
    found = Entropy(1e-5)(pruned, Codebook(4), False, objective, kept)
    assert not found.values[~kept].any()
    assert found.values[kept].any()
    encoded = encode(found.values, found.grid, Unstructured(50.0), weight.shape, 0)
    np.testing.assert_array_equal(encoded.decode(), found.values)


def test_a_weight_of_zeros_stays_one() -> None:
    _, objective = problem()
    weight = np.zeros((24, 60), np.float32)
    assert not Entropy(1e-4)(weight, Codebook(4), False, objective).values.any()
