"""The quadratic form is the noise that one measures, channel groups and means included."""

import numpy as np
import pytest

from tersor.gram import Gram
from tersor.scheduler.second_order import input_noise, signal, weight_noise


@pytest.mark.parametrize("groups", [1, 3])
def test_the_noise_of_a_weight_is_exact(groups: int) -> None:
    random = np.random.default_rng(groups)
    x = random.normal(1.0, 2.0, size=(groups, 500, 8))
    change = random.normal(size=(groups * 4, 8)).astype(np.float32)
    moment = np.stack([each.T @ each / 500 for each in x]).astype(np.float32)
    gram = Gram(moment, x.mean(axis=1), 500)
    errors = np.einsum("gkn,grn->gkr", change.reshape(groups, 4, 8), x)
    assert weight_noise(change, gram, corrected=False) == pytest.approx(np.square(errors).mean(), rel=1e-4)
    corrected = errors - errors.mean(axis=2, keepdims=True)
    assert weight_noise(change, gram, corrected=True) == pytest.approx(np.square(corrected).mean(), rel=1e-3)
    assert signal(change, gram) == weight_noise(change, gram, corrected=True)


def test_the_noise_of_a_rounded_input_is_near_what_is_measured() -> None:
    random = np.random.default_rng(0)
    x, weight = random.uniform(-1, 1, size=(20000, 16)), random.normal(size=(5, 16)).astype(np.float32)
    errors = (np.rint(x / 0.05) * 0.05 - x) @ weight.T
    assert input_noise(weight, 0.05) == pytest.approx(np.square(errors).mean(), rel=0.05)
