import functools
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from tersor import arithmetic as A
from tersor.ir.graph import Graph, expose, operator, shape_of, weights_of
from tersor.ir.operators import (
    AveragePool,
    Dequantize,
    Quantize,
    Requantize,
    RequantizeAdd,
    Rescale,
    RescaleAccumulator,
    read_operator,
)
from tersor.passes.integerize import integerize
from tersor.passes.quantization.quantize import quantize
from tersor.passes.quantization.ranges import affine, ranges
from tersor.scheme import FP32, INT8, Scheme
from tersor.statistics import Statistics
from tests.numpy_network import is_given_on
from tests.numpy_semantics import Meaning
from tests.relax_modules import Net, compiled, he, residual_net, run, samples, schemes_for, statistics_of
from tests.rounded_weights import quantize_weight

op = relax.op


def both(mod: tvm.IRModule, x: list[np.ndarray]) -> tuple[tvm.IRModule, tvm.IRModule]:
    """The network in its exchange form (quantize and dequantize around float operators), and in integers."""
    exchanged = quantize(mod, schemes_for(mod, INT8), statistics_of(mod, x))
    return exchanged, integerize(exchanged)


@functools.cache
def residual() -> tuple[tvm.IRModule, Statistics, tvm.IRModule, tvm.IRModule]:
    """The residual network, its statistics, and both of its forms."""
    mod = residual_net()
    statistics = statistics_of(mod, samples(1, 8, 10, 10))
    exchanged = quantize(mod, schemes_for(mod, INT8), statistics)
    return mod, statistics, exchanged, integerize(exchanged)


def steps(mod: tvm.IRModule) -> list[str]:
    """What a module computes, in order: integer operators by their names, others by TVM's."""
    found = ((read_operator(mod, value), value) for _, value in Graph(mod).bindings)
    return [step.name if step is not None else operator(value) for step, value in found]


def floats_between(mod: tvm.IRModule) -> list[str]:
    """The float tensors made after the first quantization and before the last return to float."""
    graph = Graph(mod)
    into, out_of = (Quantize,), (Dequantize, RescaleAccumulator)
    entries, exits = [], []
    for i, (_, value) in enumerate(graph.bindings):
        step = read_operator(mod, value)
        if isinstance(step, into) or operator(value) == "quantize":
            entries.append(i)
        if isinstance(step, out_of) or operator(value) == "dequantize":
            exits.append(i)
    between = graph.bindings[entries[0] : exits[-1]]
    return [var.name for var, _ in between if str(getattr(var.ty, "dtype", "")).startswith("float")]


# No float tensor between integer operators


def test_between_the_first_quantization_and_the_last_rescaling_nothing_is_float() -> None:
    _, _, exchanged, integer = residual()
    assert floats_between(integer) == []
    assert len(floats_between(exchanged)) > 20  # the scan does find them


def test_a_residual_network_is_integer_operators_only() -> None:
    *_, integer = residual()
    convolution = ["nn.pad", "nn.conv2d", "add"]
    assert steps(integer) == [
        "quantize",
        *convolution, "requantize",
        *convolution, "requantize_add",
        *convolution, "requantize",
        *convolution, "requantize",
        "nn.conv2d", "add", "requantize_add",  # the shortcut is the later one: it adds
        "average_pool", "reshape",
        "matmul", "add", "rescale_accumulator",
    ]  # fmt: skip


def test_weights_are_int8_biases_int32_and_only_what_is_read_remains() -> None:
    *_, integer = residual()
    weights = weights_of(integer)
    for layer in ("a", "b", "c", "d", "down"):
        assert weights[f"{layer}.weight"].dtype == np.int8
        assert weights[f"{layer}.weight.bias"].dtype == np.int32
        assert weights[f"{layer}.weight.multiplier"].dtype == np.float32
    assert len(weights) == 3 * 6
    graph = Graph(integer)
    assert all(graph.users(var) for var in graph.weights)


# The same numbers as arithmetic, exactly


def reference(mod: tvm.IRModule, statistics: Any, method: Any, x: np.ndarray) -> np.ndarray:
    """The residual network of `relax_modules`, written down once more with arithmetic alone."""
    weights = weights_of(mod)
    grids = {name: affine(*ranges(each, method)) for name, each in statistics.tensors.items()}

    def accumulate(
        codes: np.ndarray, source: str, name: str, **options: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        scale, zero_point = grids[source]
        stored, scales = quantize_weight(weights[f"{name}.weight"], 1 if name == "fc" else 0)
        real = np.float64(scale) * scales.astype(np.float64)
        bias = A.quantize_bias(weights[f"{name}.bias"].reshape(-1), real)
        if name == "fc":
            return A.matmul(codes, stored, bias, zero_point), real
        return A.conv2d(codes, stored, bias, zero_point, **options), real

    def layer(codes, source, name, limits=(None, None), added=None, **options):
        acc, real = accumulate(codes, source, name, **options)
        scale, zero_point = grids[f"{name}.weight:out"]
        multiplier = (real / np.float64(scale)).astype(np.float32)
        low, high = (None if limit is None else int(A.quantize(np.float32([limit]), scale, zero_point)[0])
                     for limit in limits)  # fmt: skip
        bounds = (low or 0, 255 if high is None else high)
        if added is None:
            return A.requantize(acc, multiplier, zero_point, bounds)
        residual, other = added
        ratio = np.float32(np.float64(grids[other][0]) / np.float64(scale))
        return A.requantize_add(acc, multiplier, residual, ratio, grids[other][1], zero_point, bounds)

    pad, relu = {"padding": (1, 1, 1, 1)}, (0.0, None)
    x = A.quantize(x, *grids["x"])
    a = layer(x, "x", "a", relu, **pad)
    b = layer(a, "a.weight:out", "b", relu, (x, "x"), **pad)
    c = layer(b, "b.weight:out", "c", (0.0, 6.0), stride=(2, 2), **pad)
    d = layer(c, "c.weight:out", "d", **pad)
    down = layer(b, "b.weight:out", "down", relu, (d, "d.weight:out"), stride=(2, 2))
    (from_scale, from_zero), (to_scale, to_zero) = grids["down.weight:out"], grids["mean.1"]
    ratio = np.float32(np.float64(from_scale) / (np.float64(to_scale) * 25))
    mean = A.average_pool(down, ratio, from_zero, to_zero, (5, 5), (1, 1))
    acc, real = accumulate(mean.reshape(1, 12), "mean.1", "fc")
    return A.rescale_accumulator(acc, real.astype(np.float32))


@pytest.mark.parametrize("method", ["minmax", "mse"])
def test_the_integer_network_is_arithmetic_to_the_last_bit(method: Any) -> None:
    mod, statistics, *_ = residual()
    integer = integerize(quantize(mod, schemes_for(mod, INT8), statistics, method, correct_bias=False))
    run_integer = compiled(integer)
    x = samples(1, 8, 10, 10)
    for sample in (*x, 10 * x[0]):  # the last one saturates
        np.testing.assert_array_equal(run_integer(sample)[0], reference(mod, statistics, method, sample))


def test_integers_and_the_exchange_form_agree_to_a_few_steps() -> None:
    _, _, exchanged, integer = residual()
    x, *_ = samples(1, 8, 10, 10)
    (theirs,), (ours,) = run(exchanged, x), run(integer, x)
    assert np.abs(theirs - ours).max() < 0.05 * np.abs(theirs).max()


# Each operator's integer form


def after(build: Any, shape: tuple[int, ...] = (1, 4, 6, 6)) -> tuple[tvm.IRModule, float]:
    """Integerize a network of one input, and give its distance from the exchange form as dB."""
    net = Net(shape)
    mod = net.finish(build(net, net.inputs[0]))
    x = samples(*shape)
    exchanged, integer = both(mod, x)
    (theirs,), (ours,) = run(exchanged, x[0]), run(integer, x[0])
    assert theirs.shape == ours.shape
    noise = max(float(np.square(theirs - ours).sum()), 1e-30)
    return integer, 10 * np.log10(float(np.square(theirs).sum()) / noise)


def conv(net: Net, x: Any, name: str, channels: int = 4, window: int = 1, **attributes: Any) -> Any:
    rng = np.random.default_rng(len(name))
    return net.conv(x, name, he(rng, 4, channels, window, window), **attributes)


FORMS: dict[str, tuple[Any, list[str]]] = {
    "residual of two branches": (
        lambda net, x: conv(net, net.emit(op.add(net.emit(op.nn.max_pool2d(x, [1, 1])), x)), "a"),
        ["quantize", "nn.max_pool2d", "add"],
    ),
    "concat": (
        lambda net, x: conv(net, net.emit(op.concat([conv(net, x, "a"), conv(net, x, "bb")], 1)), "c", 8),
        ["quantize", *["nn.conv2d", "add", "requantize"] * 2, "rescale"],
    ),
    "clip": (
        lambda net, x: conv(net, net.emit(op.clip(net.emit(op.nn.max_pool2d(x, [2, 2])), 0.25, 1)), "a"),
        ["quantize", "nn.max_pool2d", "rescale"],
    ),
    "average pool": (
        lambda net, x: conv(net, net.emit(op.nn.avg_pool2d(x, [2, 3], [2, 1])), "a"),
        ["quantize", "average_pool"],
    ),
    "mean": (
        lambda net, x: conv(net, net.emit(op.mean(x, [2, 3], keepdims=True)), "a"),
        ["quantize", "average_pool"],
    ),
    "mean without its axes": (
        lambda net, x: net.dense(
            net.emit(op.mean(x, [2, 3])), "a", he(np.random.default_rng(0), 4, 3, fan_in=4)
        ),
        ["quantize", "average_pool", "reshape"],
    ),
    "moves": (
        lambda net, x: conv(
            net, net.emit(op.reshape(net.emit(op.permute_dims(x, [0, 1, 3, 2])), (1, 4, 9, 4))), "a"
        ),
        ["quantize", "permute_dims", "reshape"],
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_operators_between_layers_have_integer_forms(name: str) -> None:
    build, expected = FORMS[name]
    integer, distance = after(build)
    assert steps(integer)[: len(expected)] == expected
    assert floats_between(integer) == []
    assert distance > 30


@pytest.mark.parametrize(
    ("pool", "attributes"),
    [
        (op.nn.avg_pool2d, {"padding": [1, 1, 1, 1]}),
        (op.nn.avg_pool2d, {"ceil_mode": True}),
        (op.nn.avg_pool2d, {"dilation": [2, 2]}),
        (op.nn.max_pool2d, {"padding": [1, 1, 1, 1], "ceil_mode": True, "dilation": [2, 2]}),
    ],
)
def test_pools_beyond_the_image_keep_their_meaning(pool: Any, attributes: dict[str, Any]) -> None:
    """Averages over partial windows stay float; a maximum has none that its padding could win."""
    integer, distance = after(
        lambda net, x: conv(net, net.emit(pool(conv(net, x, "a"), [3, 3], [2, 2], **attributes)), "b")
    )
    assert distance > 30
    assert ("nn.avg_pool2d" in steps(integer)) == (pool is op.nn.avg_pool2d)


@pytest.mark.parametrize("kind", ["weight", "constant"])
def test_concatenation_with_a_stored_tensor_stays_float(kind: str) -> None:
    stored = he(np.random.default_rng(0), 1, 4, 6, 6)

    def build(net: Net, x: Any) -> Any:
        other = net.weight("stored", stored) if kind == "weight" else relax.const(stored)
        return conv(net, net.emit(op.concat([conv(net, x, "a"), other], 1)), "b", 8)

    integer, distance = after(build)
    assert distance > 30
    assert "concat" in steps(integer)


def test_parts_of_a_split_are_requantized_one_by_one() -> None:
    def build(net: Net, x: Any) -> Any:
        parts = net.emit(op.split(conv(net, x, "a"), 2, axis=1))
        halves = [net.emit(relax.TupleGetItem(parts, i)) for i in (1, 0)]
        return conv(net, net.emit(op.concat(halves, 1)), "b")

    assert after(build)[1] > 30


def test_a_float_operator_between_layers_reads_rescaled_and_is_quantized_again() -> None:
    def build(net: Net, x: Any) -> Any:
        y = conv(net, x, "a")
        return conv(net, net.emit(op.multiply(y, net.emit(op.sigmoid(y)))), "b")

    integer, distance = after(build)
    layer = ["nn.conv2d", "add", "rescale_accumulator"]
    assert steps(integer) == ["quantize", *layer, "sigmoid", "multiply", "quantize", *layer]
    assert distance > 40


def test_a_gate_on_codes_that_a_layer_reads_as_well_is_dequantized_once() -> None:
    def build(net: Net, x: Any) -> Any:
        y = net.emit(op.nn.max_pool2d(x, [2, 2], [2, 2]))
        gated = net.emit(op.multiply(y, net.emit(op.sigmoid(y))))
        return net.emit(op.multiply(conv(net, y, "a"), conv(net, gated, "b")))

    assert steps(after(build)[0]).count("dequantize") == 1


def test_a_layer_left_in_fp32_is_dequantized_into_and_quantized_behind() -> None:
    mod, statistics, *_ = residual()
    exchanged = quantize(mod, {**schemes_for(mod, INT8), "c.weight": FP32}, statistics)
    integer = integerize(exchanged)
    x, *_ = samples(1, 8, 10, 10)
    found = steps(integer)
    at = found.index("dequantize")
    assert found[at : at + 5] == ["dequantize", "nn.conv2d", "add", "clip", "quantize"]
    assert weights_of(integer)["c.weight"].dtype == np.float32
    np.testing.assert_allclose(run(integer, x)[0], run(exchanged, x)[0], atol=0.05)


def test_the_last_block_of_a_network_is_integer_though_its_sum_is_float() -> None:
    def build(net: Net, x: Any) -> Any:
        y = net.emit(op.nn.relu(conv(net, x, "a", window=3, padding=[1, 1])))
        z = conv(net, y, "b", window=3, padding=[1, 1])
        return net.emit(op.nn.relu(net.emit(op.add(z, conv(net, x, "shortcut")))))

    integer, distance = after(build)
    found = steps(integer)
    assert found.count("rescale_accumulator") == 2
    assert found[-2:] == ["add", "clip"]
    graph = Graph(integer)
    assert all(
        str(var.ty.dtype) == "int32" for var, value in graph.bindings if operator(value) == "nn.conv2d"
    )
    assert distance > 40


def test_a_weight_used_twice_is_stored_once_with_constants_for_each_use() -> None:
    rng = np.random.default_rng(0)
    weight, bias = he(rng, 4, 4, 1, 1), rng.normal(size=4).astype(np.float32)

    def build(net: Net, x: Any) -> Any:
        return net.conv(net.conv(x, "w", weight, bias), "w", weight, bias)

    integer, distance = after(build)
    weights = weights_of(integer)
    assert sorted(weights) == [
        "w.weight", "w.weight.bias.0", "w.weight.bias.1", "w.weight.multiplier.0", "w.weight.rescale.1",
    ]  # fmt: skip
    assert distance > 40


def test_an_output_that_a_layer_reads_too_leaves_as_dequantized_codes() -> None:
    net = Net((1, 4, 6, 6))
    y = conv(net, net.inputs[0], "a")
    mod = net.finish(y, conv(net, y, "b"))
    x = samples(1, 4, 6, 6)
    exchanged, integer = both(mod, x)
    for theirs, ours in zip(run(exchanged, x[0]), run(integer, x[0]), strict=True):
        np.testing.assert_allclose(theirs, ours, atol=0.05)
    assert steps(integer).count("dequantize") == 1


# Numbers of the emitted operators


def test_activations_become_bounds_on_codes() -> None:
    mod, statistics, *_ = residual()
    integer = integerize(quantize(mod, schemes_for(mod, INT8), statistics, "minmax"))
    found = [read_operator(integer, value) for _, value in Graph(integer).bindings]
    plain = [step for step in found if isinstance(step, Requantize)]
    added = [step for step in found if isinstance(step, RequantizeAdd)]
    scale, zero_point = affine(*ranges(statistics.tensors["c.weight:out"], "minmax"))
    assert plain[0].bounds == (plain[0].zero_point, 255)  # relu
    assert plain[1].bounds == (zero_point, min(255, zero_point + round(6 / float(scale))))  # clip 0 .. 6
    assert plain[2].bounds == (0, 255)
    assert all(step.bounds == (step.zero_point, 255) for step in added)


def test_codes_of_fewer_bits_end_at_their_last() -> None:
    """Whatever makes them saturates there, so that the clips are gone."""
    mod, statistics, *_ = residual()
    integer = integerize(quantize(mod, schemes_for(mod, Scheme.parse("w4a4")), statistics))
    graph = Graph(integer)
    found = [read_operator(integer, value) for _, value in graph.bindings]
    ends = [step.bounds for step in found if hasattr(step, "bounds")]
    assert [operator(value) for _, value in graph.bindings].count("clip") == 0
    assert len(ends) == 7  # the input, five convolutions and the mean
    assert {last for _, last in ends} <= set(range(16))
    assert [last for _, last in ends].count(15) >= 6  # where a clip at 6 does not cut sooner
    assert steps(integer) == steps(residual()[3])


@pytest.mark.parametrize("text", ["w4a4", "w2a4", "w8a3", "mixed"])
def test_integers_of_fewer_bits_are_arithmetic_to_the_last_bit(text: str) -> None:
    mod, statistics, *_ = residual()
    turns = ["int8", "w4a4", "w2a4", "w4a6"] if text == "mixed" else [text]
    schemes = {name: Scheme.parse(turns[i % len(turns)]) for i, name in enumerate(schemes_for(mod, INT8))}
    integer = integerize(quantize(mod, schemes, statistics))
    (x,) = samples(1, 8, 10, 10, count=1)
    graph = Graph(integer)
    codes = [var for var, value in graph.bindings if is_given_on(graph, var, value)]
    measured = run(expose(integer, codes), 2 * x)
    meaning = Meaning(integer, {graph.inputs[0]: 2 * x})
    for var, got in zip(codes, measured, strict=True):
        np.testing.assert_array_equal(got, meaning.value(var), err_msg=var.name)


def test_padding_is_by_the_zero_point_of_the_input() -> None:
    *_, integer = residual()
    graph = Graph(integer)
    first = next(value for _, value in graph.bindings if operator(value) == "nn.pad")
    quantized = read_operator(integer, graph.definition(first.args[0]))
    assert isinstance(quantized, Quantize)
    assert 0 < quantized.zero_point < 255
    assert float(first.attrs.pad_value) == quantized.zero_point
    assert shape_of(first.args[0]) == (1, 8, 10, 10)


def test_uneven_padding_reaches_the_sides_it_is_meant_for() -> None:
    integer, distance = after(
        lambda net, x: conv(net, x, "a", window=3, padding=[2, 0, 1, 1], strides=[1, 2], dilation=[2, 1])
    )
    assert steps(integer)[:2] == ["quantize", "nn.pad"]
    assert distance > 60


def test_an_average_divides_by_its_window() -> None:
    integer, _ = after(lambda net, x: conv(net, net.emit(op.nn.avg_pool2d(x, [2, 3], [2, 1])), "a"))
    pool = next(
        step
        for _, value in Graph(integer).bindings
        if isinstance(step := read_operator(integer, value), AveragePool)
    )
    assert (pool.kernel, pool.stride) == ((2, 3), (2, 1))
    assert 1 / 6 < pool.multiplier < 1  # the input's scale is larger than the average's


def test_a_float_network_stays_as_it_is() -> None:
    mod = residual_net()
    tvm.ir.assert_structural_equal(integerize(mod), mod)


def test_integerizing_twice_changes_nothing() -> None:
    *_, integer = residual()
    tvm.ir.assert_structural_equal(integerize(integer), integer)
    assert any(
        isinstance(read_operator(integer, v), Rescale | Requantize) for _, v in Graph(integer).bindings
    )
