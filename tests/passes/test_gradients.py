"""Gradients against finite differences of the loss, and importances against their closed form."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from tvm import relax

from tersor.compression import canonical
from tersor.error import UserError
from tersor.formats.matrix import matrix_of
from tersor.frontend import import_model
from tersor.frontend.verification import run_plainly
from tersor.ir.graph import replace_weights, weights_of
from tersor.passes.extract import extract
from tersor.passes.gradients import with_gradients
from tersor.passes.saliencies import SaliencyObserver, weight_gradient
from tests.models import concat_net, conv_kinds, conv_net, mlp, mobile_net, pool_net, random_inputs
from tests.relax_modules import Net

STEP = 1e-4


def module(model: onnx.ModelProto) -> Any:
    return canonical(import_model(model))


def loss(
    mod: Any, inputs: dict[str, np.ndarray], chosen: np.ndarray | None = None
) -> tuple[float, np.ndarray]:
    """The cross entropy of `chosen`, or of the network's own first choice, which is given as well."""
    (scores,) = run_plainly(mod, inputs)
    axis = 1 if scores.ndim == 4 else -1
    scores = scores.astype(np.float64)
    chosen = np.expand_dims(scores.argmax(axis), axis) if chosen is None else chosen
    logs = scores - np.log(np.exp(scores).sum(axis, keepdims=True))
    return -float(np.take_along_axis(logs, chosen, axis).sum()), chosen


@pytest.mark.parametrize("make", [mlp, conv_net, mobile_net, conv_kinds, concat_net, pool_net])
def test_gradients_are_finite_differences_of_the_loss(make: Callable[[], onnx.ModelProto]) -> None:
    model = make()
    mod, inputs, random = module(model), random_inputs(model), np.random.default_rng(0)
    weights = weights_of(mod)
    layers = [layer.name for layer in extract(mod).layers]
    backwards, uses = with_gradients(mod, layers)
    assert [use.layer for use in uses] == layers
    tensors: Any = run_plainly(backwards, inputs)
    _, chosen = loss(mod, inputs)
    for use in uses:
        weight = weights[use.layer]
        direction = random.normal(size=weight.shape).astype("f4")
        moved = [
            loss(replace_weights(mod, {use.layer: weight + sign * STEP * direction}), inputs, chosen)[0]
            for sign in (1, -1)
        ]
        gradient = weight_gradient(use.window, tensors[use.data], tensors[use.gradient])
        along = matrix_of(direction, 0 if weight.ndim == 4 else 1).reshape(gradient.shape)
        # ReLUs that switch within the step are what is not linear.
        difference = (moved[0] - moved[1]) / (2 * STEP)
        assert (gradient * along).sum() == pytest.approx(difference, rel=0.02, abs=0.02), use.layer


def test_importances_are_the_squared_first_order_changes_of_each_sample() -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=(5, 8)).astype("f4")
    weight, bias = random.normal(size=(8, 4)).astype("f4"), random.normal(size=4).astype("f4")
    net = Net((5, 8))
    product = net.emit(relax.op.matmul(net.inputs[0], net.weight("w", weight)))
    mod = net.finish(net.emit(relax.op.add(product, net.weight("b", bias))))
    backwards, uses = with_gradients(mod, ["w"])
    observer = SaliencyObserver(lambda arrays: run_plainly(backwards, arrays), uses, {"w": weight.T})
    observer.observe({"x": x}, 3)
    observer.observe({"x": x[::-1]}, 2)
    found = observer.saliencies()["w"]
    scores = x.astype(np.float64) @ weight + bias
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    slopes = shares - (scores == scores.max(axis=1, keepdims=True))  # d loss / d scores
    changes = np.einsum("bk,bc,ck->bkc", slopes, x, weight)
    assert found.samples == 5
    np.testing.assert_allclose(found.weights, np.square(changes).mean(axis=0), rtol=1e-3, atol=1e-8)
    np.testing.assert_allclose(found.outputs, np.square(slopes * scores).mean(axis=0), rtol=1e-3)


def test_what_has_no_gradient_is_refused_by_its_name() -> None:
    random = np.random.default_rng(0)
    first, second = (random.normal(size=(8, size)).astype("f4") for size in (8, 4))
    net = Net((1, 8))
    hidden = net.emit(relax.op.matmul(net.inputs[0], net.weight("a", first)))
    hidden = net.emit(relax.op.erf(hidden))
    scores = net.emit(relax.op.matmul(hidden, net.weight("b", second)))
    mod = net.finish(scores)
    with pytest.raises(UserError, match="there is none of erf"):
        with_gradients(mod, ["a", "b"])
    # Behind it there is one.
    assert [use.layer for use in with_gradients(mod, ["b"])[1]] == ["b"]


def test_a_network_without_classes_is_refused() -> None:
    net = Net((1, 8))
    mod = net.finish(net.emit(relax.op.matmul(net.inputs[0], net.weight("a", np.ones((8, 1), "f4")))))
    with pytest.raises(UserError, match="one output, the scores of several classes"):
        with_gradients(mod, ["a"])
