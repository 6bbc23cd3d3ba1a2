"""Regression finds the rates that hide behind times, and what the parts of the work miss."""

import numpy as np
import pytest

from tersor.tuning.regression import Analytic, Array, Corrected, Kernels, Model, Parts, models

RATES = np.array([2e-9, 0.5e-9, 4e-9])
ANALYTIC, PARTS, RIDGE, PROCESS = models()


def drawn(count: int, seed: int = 0) -> Kernels:
    rng = np.random.default_rng(seed)
    return Kernels(np.exp(rng.uniform(2, 10, (count, 3))), rng.uniform(-1, 1, (count, 4)))


def error(model: Model, seen: Kernels, times: Array, others: Kernels, truth: Array) -> float:
    return float(np.abs(np.exp(model.fit(seen, times)(others) - truth) - 1).mean())


def test_parts_are_found_with_a_rate_each() -> None:
    seen, others = drawn(20), drawn(50, 1)
    times, truth = (np.log(each.parts @ RATES) for each in (seen, others))
    assert error(Parts(), seen, times, others, truth) < 0.05
    assert error(Analytic(), seen, times, others, truth) > 0.2


def test_a_part_of_which_nothing_is_measured_has_the_rate_of_the_others() -> None:
    seen, others = drawn(20), drawn(50, 1)
    seen.parts[:, 2] = 0
    predicted = Parts().fit(seen, np.log(seen.parts.sum(axis=1) * 1e-9))(others)
    np.testing.assert_array_less(0, np.exp(predicted))


@pytest.mark.parametrize("model", [RIDGE, PROCESS])
def test_a_correction_finds_what_the_parts_miss(model: Corrected) -> None:
    seen, others = drawn(48), drawn(50, 1)

    def hidden(some: Kernels) -> Array:
        return np.log(some.parts @ RATES) + 0.4 * some.features[:, 1]

    truth = hidden(others)
    assert error(model, seen, hidden(seen), others, truth) < 0.06
    assert error(Parts(), seen, hidden(seen), others, truth) > 0.15


@pytest.mark.parametrize("model", models())
def test_the_same_measurements_give_the_same_model(model: Model) -> None:
    seen, others = drawn(20), drawn(9, 1)
    noise = np.random.default_rng(2).normal(0, 0.1, 20)
    first, again = (model.fit(seen, np.log(seen.parts @ RATES) + noise)(others) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_a_feature_that_is_always_the_same_says_nothing() -> None:
    seen, others = drawn(20), drawn(9, 1)
    seen.features[:, 0] = 1
    others.features[:, 0] = 100
    assert error(RIDGE, seen, np.log(seen.parts @ RATES), others, np.log(others.parts @ RATES)) < 0.1


def test_kernels_need_a_row_each() -> None:
    with pytest.raises(ValueError, match="a row for each kernel"):
        Kernels(np.ones((2, 3)), np.ones((3, 3)))
