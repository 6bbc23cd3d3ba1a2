"""Dropping channels: what goes together, and the narrowed network against the masked one."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tersor.compression import canonical
from tersor.error import UserError
from tersor.frontend import import_model
from tersor.frontend.verification import run_plainly
from tersor.ir.graph import Graph, replace_weights, shape_of, weights_of
from tersor.ir.untyped import relax
from tersor.passes.extract import extract
from tersor.passes.pruning.channels import kept_channels, narrowed
from tersor.passes.pruning.dependency import Dependencies
from tersor.passes.pruning.masking import masked
from tersor.passes.pruning.selection import Selection, select_channels
from tersor.plan import GroupPlan
from tersor.recipe import Criterion
from tersor.scheme import Scheme
from tests.models import Net, concat_net, conv_kinds, mlp, mobile_net, pool_net, random_inputs, residual_net
from tests.relax_modules import Net as RelaxNet


def module(model: onnx.ModelProto) -> Any:
    return canonical(import_model(model))


def gated_net() -> onnx.ModelProto:
    """[1, 4, 8, 8]: a squeeze-and-excitation gate, a sliced branch, an image flattened for a dense layer."""
    net = Net("gated_net", [1, 4, 8, 8])
    x = net.op("Relu", net.conv("x", "stem", (4, 16), bias=True), name="relu")
    pooled = net.op("GlobalAveragePool", x, name="squeeze")
    gate = net.op("Relu", net.conv(pooled, "reduce", (16, 8), 1, bias=True), name="reduced")
    gate = net.op("Sigmoid", net.conv(gate, "expand", (8, 16), 1, bias=True), name="gate")
    x = net.op("Mul", x, gate, name="gated")
    half = net.op("Slice", x, net.ints("from", 8), net.ints("to", 16), net.ints("axis", 1), name="half")
    x = net.op("Relu", net.conv(half, "narrow", (8, 8), stride=2, bias=True), name="relu_narrow")
    x = net.op(
        "Mul", x, net.weight("scale", net.random.normal(size=(1, 8, 1, 1)).astype("f4")), name="scaled"
    )
    x = net.op("Sigmoid", x, name="sigmoid")
    net.linear(net.op("Flatten", x, name="flatten"), "fc", (128, 10), last=True)
    return net.finish()


def grouped_net() -> onnx.ModelProto:
    """[1, 8, 9, 9]: a convolution in four groups, and a depthwise one with two outputs for each input."""
    net = Net("grouped_net", [1, 8, 9, 9])
    x = net.op("Relu", net.conv("x", "first", (8, 32), 1, bias=True), name="relu0")
    x = net.op("Relu", net.conv(x, "grouped", (32, 64), groups=4, bias=True), name="relu1")
    x = net.op("Relu", net.conv(x, "doubled", (64, 128), groups=64, bias=True), name="relu2")
    net.conv(x, "y", (128, 8), 1, bias=True)
    return net.finish(rank=4)


NETWORKS: list[Callable[[], onnx.ModelProto]] = [
    mlp,
    residual_net,
    mobile_net,
    conv_kinds,
    concat_net,
    pool_net,
    gated_net,
    grouped_net,
]


def run(mod: Any, inputs: dict[str, np.ndarray]) -> Any:
    (result,) = run_plainly(mod, inputs)
    return result


def groups_of(mod: Any, share: float = 50, criterion: Criterion = "global", lanes: int = 4) -> Selection:
    network = extract(mod)
    schemes = {layer.name: Scheme.parse(f"fp32+channels{share:g}") for layer in network.layers}
    return select_channels(mod, network, schemes, criterion, None, lanes)


@pytest.mark.parametrize("make", NETWORKS)
def test_the_narrowed_network_is_the_masked_dense_one(make: Callable[[], onnx.ModelProto]) -> None:
    model = make()
    mod = module(model)
    selection = groups_of(mod, 40)
    zeroed = masked(mod, selection.groups)
    small = narrowed(zeroed, selection.groups)
    inputs = random_inputs(model)
    dense, expected, result = (run(each, inputs) for each in (mod, zeroed, small))
    assert extract(small).macs < extract(zeroed).macs == extract(mod).macs
    assert np.abs(result - expected).max() <= 1e-5 * np.abs(expected).max()
    assert np.abs(result - dense).max() > 1e-2 * np.abs(dense).max()


@pytest.mark.parametrize("make", [mobile_net, gated_net])
def test_what_is_dropped_reaches_nothing_but_zeros(make: Callable[[], onnx.ModelProto]) -> None:
    """Any numbers in place of what made the dropped channels give the same outputs: nothing reads them."""
    model = make()
    mod = module(model)
    groups = groups_of(mod).groups
    graph = Graph(mod)
    dependencies = Dependencies(graph)
    dropped = dependencies.dropped(groups)
    zeroed = masked(mod, groups)
    readers = weights_of(mod)
    for (var, place), cuts in dependencies.stored.items():
        value = graph.definition(var)
        if place != 1 or value.op.name not in ("relax.nn.conv2d", "relax.matmul"):
            continue
        for cut in cuts[1:]:  # the columns
            gone = ~dependencies.kept_mask(cut.numbers, dropped)
            readers[value.args[1].name] = np.array(readers[value.args[1].name])
            np.moveaxis(readers[value.args[1].name], cut.axis, 0)[gone] = 0
    inputs = random_inputs(model)
    expected = run(replace_weights(mod, readers), inputs)
    np.testing.assert_allclose(run(zeroed, inputs), expected, rtol=1e-5, atol=1e-5)


def test_layers_that_an_addition_ties_lose_the_same_channels() -> None:
    mod = module(residual_net())
    groups = {group.layers for group in Dependencies(Graph(mod)).groups}
    # The first block adds the network's input, the second gives its output: only inner channels are free.
    assert groups == {("block0.conv1.weight",), ("block1.conv1.weight",)}
    assert (
        Dependencies(Graph(mod)).why_kept("block0.conv2.weight") == "they meet a tensor whose channels stay"
    )
    assert Dependencies(Graph(mod)).why_kept("block1.conv2.weight") == "they are the network's output"


def test_a_depthwise_convolution_goes_with_what_it_reads() -> None:
    mod = module(mobile_net())
    (group,) = Dependencies(Graph(mod)).groups
    assert group.layers == ("expand.weight", "depthwise.weight")
    small = narrowed(mod, [GroupPlan(group.layers, tuple(range(5, 25)))])
    assert weights_of(small)["depthwise.weight"].shape == (20, 1, 3, 3)
    np.testing.assert_array_equal(
        weights_of(small)["project.weight"], weights_of(mod)["project.weight"][:, 5:25]
    )


def test_groups_of_a_convolution_stay_alike() -> None:
    mod = module(grouped_net())
    first, grouped = Dependencies(Graph(mod)).groups
    assert first.layers == ("first.weight",)
    assert len(first.classes) == 8  # the same place in each of four groups
    assert grouped.layers == ("grouped.weight", "doubled.weight")
    assert len(grouped.classes) == 16
    assert Dependencies(Graph(mod)).outputs["doubled.weight"].tolist()[:4] == [
        each for each in grouped.classes[:2] for _ in range(2)
    ]


def test_a_concatenation_ties_nothing() -> None:
    mod = module(concat_net())
    dependencies = Dependencies(Graph(mod))
    assert {group.layers for group in dependencies.groups} == {("left.weight",), ("right.weight",)}
    left, right = dependencies.outputs["left.weight"], dependencies.outputs["right.weight"]
    assert dependencies.inputs["y.weight"].tolist() == [*left, *right]


def test_a_flattened_image_has_a_column_for_each_pixel() -> None:
    mod = module(gated_net())
    small = narrowed(mod, [GroupPlan(("narrow.weight",), (0, 2, 3, 7))])
    columns = weights_of(mod)["fc.weight"].reshape(8, 16, 10)[[0, 2, 3, 7]]
    np.testing.assert_array_equal(weights_of(small)["fc.weight"], columns.reshape(64, 10))


def test_an_operator_that_mixes_channels_keeps_them() -> None:
    random = np.random.default_rng(0)
    net = RelaxNet((1, 4, 6, 6))
    x = net.conv(net.inputs[0], "a", random.normal(size=(8, 4, 1, 1)).astype("f4"))
    x = net.emit(relax.op.nn.softmax(x, axis=1))
    y = net.conv(x, "b", random.normal(size=(4, 8, 1, 1)).astype("f4"))
    mod = net.finish(net.emit(relax.op.nn.relu(y)))
    dependencies = Dependencies(Graph(mod))
    assert dependencies.groups == ()
    assert dependencies.why_kept("a.weight") == "nn.softmax reads them"
    assert groups_of(mod).kept["a.weight"] == "its channels stay: nn.softmax reads them"


def test_an_image_returned_as_channels_last_keeps_them() -> None:
    random = np.random.default_rng(0)
    net = RelaxNet((1, 4, 6, 6))
    x = net.conv(net.inputs[0], "a", random.normal(size=(8, 4, 1, 1)).astype("f4"))
    x = net.emit(relax.op.permute_dims(x, [0, 2, 3, 1]))
    y = net.dense(
        net.emit(relax.op.reshape(x, (1, 36, 8))),
        "b",
        random.normal(size=(8, 5)).astype("f4"),
    )
    mod = net.finish(y)
    (group,) = Dependencies(Graph(mod)).groups
    small = narrowed(mod, [GroupPlan(group.layers, (1, 4))])
    assert weights_of(small)["b.weight"].shape == (2, 5)
    assert [shape_of(var) for var, _ in Graph(small).bindings][1:3] == [(1, 6, 6, 2), (1, 36, 2)]


def test_half_of_the_multiplications_go() -> None:
    criteria: tuple[Criterion, ...] = ("global", "magnitude")
    for criterion in criteria:
        mod = module(wide_net())
        selection = groups_of(mod, 50, criterion, lanes=8)
        left = extract(narrowed(mod, selection.groups)).macs / extract(mod).macs
        assert abs(left - 0.5) <= 0.02
        assert all(len(group.kept) % 8 == 0 for group in selection.groups)


def wide_net() -> onnx.ModelProto:
    net = Net("wide_net", [1, 4, 8, 8])
    x = "x"
    for i, pair in enumerate(pairwise((4, 64, 96, 128, 96))):
        x = net.op("Relu", net.conv(x, f"conv{i}", pair, bias=True), name=f"relu{i}")
    net.linear(
        net.op("Flatten", net.op("GlobalAveragePool", x, name="p"), name="f"), "fc", (96, 4), last=True
    )
    return net.finish()


def test_the_least_important_channels_go_first() -> None:
    mod = module(mlp())
    (group, *_) = groups_of(mod, 30).groups
    weights = weights_of(mod)
    powers = (
        np.square(weights["fc0.weight"]).sum(axis=0) / np.square(weights["fc0.weight"]).sum()
        + np.square(weights["fc1.weight"]).sum(axis=1) / np.square(weights["fc1.weight"]).sum()
    )
    kept = set(np.argsort(-powers)[: len(group.kept)].tolist())
    assert group.layers == ("fc0.weight",)
    assert set(group.kept) == kept


def test_the_tensors_that_lose_channels_are_known() -> None:
    mod = module(mobile_net())
    left = kept_channels(mod, [GroupPlan(("expand.weight", "depthwise.weight"), (0, 1, 40))])
    assert {name: (axis, kept.tolist()) for name, (axis, kept) in left.items()} == {
        "expand.weight:out": (1, [0, 1, 40]),
        "depthwise.weight:out": (1, [0, 1, 40]),
    }


@pytest.mark.parametrize(
    ("group", "sentence"),
    [
        (
            GroupPlan(("expand.weight",), (0,)),
            r"its channels go with \['expand.weight', 'depthwise.weight'\]",
        ),
        (GroupPlan(("project.weight",), (0,)), "project.weight they meet a tensor whose channels stay"),
        (GroupPlan(("expand.weight", "depthwise.weight"), (48,)), "keep channels 0 to 47"),
    ],
)
def test_a_group_that_the_network_does_not_have_is_refused(group: GroupPlan, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        narrowed(module(mobile_net()), [group])


def normed_net() -> onnx.ModelProto:
    """[1, 4, 8, 8]: two convolutions with batch norms and one with a bias, 16 channels each."""
    net = Net("normed_net", [1, 4, 8, 8])
    x = net.op("Relu", net.batch_norm(net.conv("x", "a", (4, 16)), "a_norm", 16), name="relu_a")
    x = net.op("Relu", net.batch_norm(net.conv(x, "b", (16, 16)), "b_norm", 16, -3.0), name="relu_b")
    x = net.op("Relu", net.conv(x, "c", (16, 16), bias=True), name="relu_c")
    net.linear(
        net.op("Flatten", net.op("GlobalAveragePool", x, name="p"), name="f"), "fc", (16, 4), last=True
    )
    return net.finish()


def test_bn_keeps_the_channels_whose_batch_norms_have_the_largest_factors() -> None:
    model = normed_net()
    factors = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    selection = groups_of(module(model), 40, "bn", lanes=1)
    kept = {group.layers: group.kept for group in selection.groups}
    # Factors of `b` are three times as large, so its channels go after those of `a`.
    assert len(kept["a.weight",]) < len(kept.get(("b.weight",), range(16)))
    for layers, left in kept.items():
        sizes = np.abs(factors[layers[0].replace(".", "_norm.")])
        assert left == tuple(sorted(np.argsort(-sizes)[: len(left)].tolist()))
    assert "no batch norm" in selection.kept["c.weight"]


def test_the_factors_of_folded_batch_norms_are_kept_through_rewrites() -> None:
    model = residual_net()
    mod = module(model)
    factors = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    scales = Graph(canonical(replace_weights(mod, {}))).norm_scales
    assert scales.keys() == {
        *(f"block{block}.conv{i}.weight" for block in (0, 1) for i in (1, 2)),
        "block1.downsample.0.weight",
    }
    for layer, scale in scales.items():
        norm = layer.replace("conv", "bn").replace("downsample.0", "downsample.1")
        np.testing.assert_array_equal(scale, factors[norm])


def test_criteria_that_need_what_is_not_there_are_refused() -> None:
    mod = module(mlp())
    with pytest.raises(UserError, match="taylor needs the gradients of what"):
        groups_of(mod, criterion="taylor")
    selection = groups_of(mod, criterion="bn")
    assert not selection.groups
    assert "no batch norm" in selection.kept["fc0.weight"]
    with pytest.raises(UserError, match="needs calibration statistics"):
        groups_of(mod, criterion="wanda")
    with pytest.raises(UserError, match="needs calibration statistics with the Gram"):
        masked(mod, groups_of(mod).groups, None, repair=True)
