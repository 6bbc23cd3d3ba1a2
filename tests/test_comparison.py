"""Networks in which each cause really occurs: the comparison names the layer and the cause."""

from typing import Any

import numpy as np
import onnx
import pytest

import tersor
from tersor.comparison import compare
from tersor.compiler import Model
from tersor.diagnosis import Diagnosis
from tersor.error import UserError
from tersor.recipe import Recipe
from tests.models import Net, mlp, random_inputs
from tests.quantized_models import nncf_style

Sample = dict[str, Any]


def data(shape: tuple[int, ...], scale: float = 1.0, count: int = 8, shift: float = 0.0) -> list[Sample]:
    random = np.random.default_rng(0)
    return [{"x": (shift + scale * random.normal(size=shape)).astype("f4")} for _ in range(count)]


def compared(
    model: Model,
    calibration: list[Sample],
    evaluation: list[Sample],
    config: tersor.Config | str = "int8",
) -> Diagnosis:
    compiled = tersor.compile(model, calibration, config, measure=False)
    return compare(model, compiled.plan, compiled.statistics, evaluation)


@pytest.fixture(scope="module")
def dense() -> Model:
    return tersor.load_model(mlp(), check=False)


def test_a_network_calibrated_on_its_own_data_has_no_cause(dense: Model) -> None:
    found = compared(dense, data((1, 64)), data((1, 64)))
    assert (found.layer, found.cause) == (None, None)
    names = [errors.tensor.name for errors in found.errors]
    assert names[:4] == ["x", "fc0.weight:out", "fc1.weight:out", "fc2.weight:out"]
    assert [errors.tensor.sources for errors in found.errors][1:3] == [("x",), ("fc0.weight:out",)]
    assert all(errors.snr is not None and errors.snr > 25 for errors in found.errors)


def test_data_a_hundred_times_smaller_than_calibrated_is_a_range(dense: Model) -> None:
    found = compared(dense, data((1, 64), 100), data((1, 64)))
    assert (found.layer, found.cause) == ("fc0.weight", "range")
    assert "'x'" in found.reason


def test_data_much_larger_than_calibrated_saturates(dense: Model) -> None:
    found = compared(dense, data((1, 64), 0.1), data((1, 64)))
    assert (found.layer, found.cause) == ("fc0.weight", "saturation")


def test_a_tensor_that_no_layer_makes_is_named_by_the_first_that_reads_it() -> None:
    """Exponentials of rare large values widen a range that the input shows nothing of."""
    net = Net("exponential", (16, 1))  # of one channel: with several, each would have its own step
    hidden = net.op("MatMul", "x", net.weight("first.weight", 2 * np.eye(1, dtype="f4")), name="hidden")
    second = net.weight("second.weight", net.random.normal(size=(1, 4)).astype("f4"))
    net.op("MatMul", net.op("Exp", hidden, name="exp"), second, name="y")
    model = tersor.load_model(net.finish(), check=False)
    config = tersor.Config(recipe=Recipe("minmax"))
    found = compared(model, data((16, 1), 1.2), data((16, 1), 0.3), config)
    assert (found.layer, found.cause) == ("second.weight", "range")
    assert "'exp.1'" in found.reason


def depthwise_net(largest: float) -> onnx.ModelProto:
    net = Net("depthwise", (1, 8, 12, 12))
    weight = net.random.uniform(0.5, 1, (8, 1, 3, 3)).astype("f4") / 3
    weight[3] *= largest
    options: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "group": 8}
    conv = net.op("Conv", "x", net.weight("spatial.weight", weight), name="spatial", **options)
    net.conv(net.op("Relu", conv, name="relu"), "y", (8, 4), 1)
    return net.finish(4)


@pytest.mark.parametrize(
    ("largest", "named"), [(300.0, ("spatial.weight", "depthwise")), (1.0, (None, None))]
)
def test_one_huge_channel_of_a_depthwise_convolution(largest: float, named: tuple[str | None, ...]) -> None:
    model = tersor.load_model(depthwise_net(largest), check=False)
    found = compared(model, data((1, 8, 12, 12)), data((1, 8, 12, 12)))
    assert (found.layer, found.cause) == named


def test_weights_that_all_round_down_are_a_bias_unless_it_is_corrected() -> None:
    net = Net("biased", (1, 64))
    steps = np.full((64, 8), 0.45)
    steps[0] = 127  # a column's step is 1
    net.op("MatMul", "x", net.weight("fc.weight", steps.astype("f4")), name="y")
    model = tersor.load_model(net.finish(), check=False)
    samples = data((1, 64), 0.05, shift=1.0)
    found = compared(model, samples, samples, tersor.Config(recipe=Recipe(bias_correction=False)))
    assert (found.layer, found.cause) == ("fc.weight", "bias")
    assert compared(model, samples, samples).cause is None


def test_a_plan_for_another_model_and_no_data_are_refused(dense: Model) -> None:
    compiled = tersor.compile(dense, data((1, 64)), measure=False)
    other = tersor.load_model(mlp(seed=1), check=False)
    with pytest.raises(UserError, match="another model"):
        compare(other, compiled.plan, compiled.statistics, data((1, 64)))
    with pytest.raises(UserError, match="no samples"):
        compare(dense, compiled.plan, compiled.statistics, [])


def test_a_model_that_came_quantized_is_compared_with_the_grids_it_brings() -> None:
    source = nncf_style()
    samples = [random_inputs(source, seed) for seed in range(2)]
    found = compared(tersor.load_model(source, check=False), samples, samples)
    assert found.cause is None
    assert any(errors.tensor.grid is not None for errors in found.errors)
