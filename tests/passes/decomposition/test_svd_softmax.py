"""A preview of many outputs: the largest are exact, and they are the ones that are the largest."""

import numpy as np
import pytest

from tersor.compiler import compile, load_model
from tersor.error import UserError
from tersor.model import Model
from tersor.passes.decomposition.decompose import decompose
from tersor.passes.decomposition.svd_softmax import svd_softmax
from tersor.scheme import Scheme
from tests.models import Net

INPUTS, OUTPUTS = 32, 600


def vocabulary(rows: int = 3) -> Model:
    """Scores of words whose vectors lie near a space of few dimensions, as trained ones do."""
    net = Net("vocabulary", [rows, INPUTS])
    spread = np.geomspace(1, 0.05, INPUTS)
    turned = np.linalg.qr(net.random.normal(size=(INPUTS, INPUTS)))[0]
    words = net.random.normal(size=(OUTPUTS, INPUTS)) * spread @ turned
    weights = net.weight("w", words.astype(np.float32)), net.weight("b", words[:, 0].astype(np.float32))
    net.op("Gemm", "x", *weights, name="y", transB=1)
    return load_model(net.finish(), check=False)


def scores(model: Model, scheme: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mod, _ = decompose(model.mod, {"w": Scheme.parse(scheme)})
    got = Model("previewed", mod, model.host).float_runner({"x": x})[0]
    return model.float_runner({"x": x})[0], got


def test_the_rotation_keeps_the_product() -> None:
    weight = np.random.default_rng(0).normal(size=(8, 90))
    rotation, columns, table = svd_softmax(weight, 3)
    np.testing.assert_allclose(rotation @ table.T, weight, atol=1e-5)
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(8), atol=1e-6)
    np.testing.assert_array_equal(columns, table.T[:3])
    powers = np.square(table).sum(axis=0)
    assert (np.diff(powers) <= 1e-6).all()


def test_the_chosen_scores_are_exact_and_among_them_are_the_largest() -> None:
    model = vocabulary()
    x = np.random.default_rng(1).normal(size=(3, INPUTS)).astype(np.float32)
    expected, got = scores(model, "fp32+svdsoftmax16x60", x)
    right = np.isclose(got, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    assert (right.sum(axis=1) >= 60).all()
    assert not right.all()
    top = np.argsort(-expected, axis=1)[:, :10]
    assert np.take_along_axis(right, top, axis=1).mean() >= 0.95
    np.testing.assert_array_equal(got.argmax(axis=1), expected.argmax(axis=1))


def test_a_preview_of_all_columns_is_the_layer() -> None:
    model = vocabulary()
    x = np.random.default_rng(2).normal(size=(3, INPUTS)).astype(np.float32)
    expected, got = scores(model, f"fp32+svdsoftmax{INPUTS}x1", x)
    assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_it_is_compiled(precision: str) -> None:
    model = vocabulary()
    samples = [model.buckets.largest.draw() for _ in range(4)]
    compiled = compile(model, samples, f"{precision}+svdsoftmax16x60", measure=False)
    assert str(compiled.plan.layers["w"].scheme) == f"{precision}+svdsoftmax16x60"
    for sample in samples:
        expected = model.float_runner(sample)[0]
        got = compiled(sample)[0]
        found = np.take_along_axis(expected, got.argmax(axis=1)[:, None], axis=1)[:, 0]
        assert (found >= 0.9 * expected.max(axis=1)).all()


def test_outputs_that_are_no_scores_are_refused() -> None:
    net = Net("hidden", [1, 8])
    net.op("Relu", net.op("MatMul", "x", net.weight("w", np.ones((8, 80), "f4")), name="h"), name="y")
    model = load_model(net.finish(), check=False)
    with pytest.raises(UserError, match="no scores"):
        decompose(model.mod, {"w": Scheme.parse("fp32+svdsoftmax4x8")})
