"""What is found in integer networks that an accelerator could run, and how its tensors are told apart."""

from typing import Any

import numpy as np
import pytest

from tersor.formats.decoding import PlaceNM, Unpack, parse_step
from tersor.formats.encoded import Encoded
from tersor.ir import operators
from tersor.ir.graph import Graph, shape_of
from tersor.ir.untyped import relax
from tersor.layer import Layer
from tersor.scheme import INT8, Scheme
from tersor.targets.accelerator.isa import vector
from tersor.targets.accelerator.isa.epilogue import Requantize, Rescale
from tersor.targets.accelerator.offload.composite import (
    ArrayWork,
    Composite,
    VectorWork,
    find_composites,
)
from tersor.targets.accelerator.offload.region import Codes, StoredWeight
from tests.relax_modules import Net
from tests.rounded_weights import encoded_codes
from tests.targets.accelerator.offload.networks import integer_attention_net, integer_image_net

RNG = np.random.default_rng(0)


def by_name(graph: Graph, schemes: dict[str, Scheme] | None = None) -> dict[str, Composite]:
    return {composite.name: composite for composite in find_composites(graph, schemes or {})}


def test_layers_and_what_stands_between_them_are_composites_in_the_order_of_the_network() -> None:
    found = find_composites(Graph(integer_image_net()), {})
    assert [(each.kind, each.name) for each in found] == [
        ("conv2d", "first.weight"),
        ("max_pool2d", "max_pool2d.1"),
        ("depthwise", "deep.weight"),
        ("conv2d", "point.weight"),
        ("average_pool", "average_pool.1"),
        ("rescale", "rescale.1"),
        ("average_pool", "average_pool.2"),
        ("add", "add.1"),
        ("average_pool", "average_pool.3"),
        ("matmul", "fc.weight"),
    ]


def test_the_array_gets_the_loops_the_scheme_and_the_epilogue_of_a_layer() -> None:
    found = by_name(Graph(integer_image_net()), {"deep.weight": Scheme.parse("w4a8+dynamic")})
    deep, point, last = (found[f"{name}.weight"].work for name in ("deep", "point", "fc"))
    assert isinstance(deep, ArrayWork)
    expected = Layer("deep.weight", "conv2d", G=8, P=6, Q=6, R=3, S=3, padding=(1, 1, 1, 1))
    assert (deep.layer, deep.scheme) == (expected, Scheme.parse("w4a8"))
    assert isinstance(deep.epilogue, Requantize)
    assert deep.epilogue.residual is None
    assert isinstance(point, ArrayWork)
    assert isinstance(point.epilogue, Requantize)
    assert point.epilogue.residual is not None
    assert isinstance(last, ArrayWork)
    assert (last.layer, last.epilogue) == (Layer("fc.weight", "matmul", K=5, C=8), Rescale())
    assert sum(each.macs for each in found.values()) == 82944 + 2592 + 2304 + 40


def test_a_task_numbers_what_comes_from_outside() -> None:
    graph = Graph(integer_image_net())
    found = by_name(graph)
    point = found["point.weight"]
    task = point.task
    read = [var.name for var in point.reads]
    assert isinstance(task.weight, StoredWeight)
    assert task.weight.shape == (8, 8, 1, 1)
    assert read[task.weight.arrays["values"]] == "point.weight"
    assert (read[task.bias or 0], read[task.multiplier or 0]) == (
        "point.weight.bias",
        "point.weight.multiplier",
    )
    assert point.reads[task.input].same_as(found["deep.weight"].result)
    assert task.residual is not None
    assert point.reads[task.residual].same_as(found["max_pool2d.1"].result)
    assert found["deep.weight"].task.zero_point == found["deep.weight"].bindings[0][1].attrs.pad_value


def test_the_vector_unit_gets_operators_with_their_numbers() -> None:
    found = by_name(Graph(integer_image_net()))
    largest, mean = found["max_pool2d.1"].work, found["average_pool.3"].work
    assert largest == VectorWork("max_pool2d.1", vector.MaxPool((3, 3), (2, 2), (1, 1, 1, 1)), (1, 8, 12, 12))
    assert isinstance(mean, VectorWork)
    assert isinstance(mean.operator, vector.AveragePool)
    assert (mean.operator.kernel, mean.shape) == ((3, 3), (1, 8, 3, 3))
    added = found["add.1"]
    assert isinstance(added.task.weight, Codes)
    assert added.reads[added.task.weight.tensor].same_as(found["average_pool.2"].result)


def test_a_product_of_activations_is_a_matmul_for_each_of_the_batch() -> None:
    found = by_name(Graph(integer_attention_net()))
    scores = found["matmul.0"]
    assert isinstance(scores.work, ArrayWork)
    assert scores.work.layer == Layer("matmul.0", "matmul", N=6, G=2, K=6, C=4, weight_bearing=False)
    assert scores.work.scheme == INT8
    assert isinstance(scores.task.weight, Codes)
    assert shape_of(scores.reads[scores.task.weight.tensor]) == (1, 2, 4, 6)
    assert scores.task.bias is None


def dense(stored: Encoded, *, used_again: bool = False) -> Any:
    """A dense layer with a stored weight [8, 4]; its sums may be read by something else, too."""
    net = Net((2, 8), "uint8")
    weight = net.decoded("fc", stored)
    total = net.emit(relax.op.matmul(net.inputs[0], weight, out_dtype="int32"))
    total = net.emit(relax.op.add(total, net.weight("fc.bias", np.arange(4, dtype=np.int32))))
    multiplier = net.weight("fc.multiplier", np.full(4, 0.01, np.float32))
    codes = net.call(operators.Requantize(3, (3, 255), 1), total, multiplier)
    return net.finish(codes, total) if used_again else net.finish(codes)


def codes_of(text: str) -> np.ndarray:
    """Int8 codes [8, 4] that a scheme can store."""
    codes = RNG.integers(-7, 8, (8, 4)).astype(np.int8)
    if ":" in text:
        codes[::2] = 0
    codes[1] = 7 if text.startswith("w4") else 127
    return codes


@pytest.mark.parametrize(("text", "step"), [("w4a8", Unpack), ("int8+2:4", PlaceNM)])
def test_a_stored_weight_is_decoded_inside_of_the_composite(text: str, step: type) -> None:
    codes = codes_of(text)
    stored = encoded_codes(codes, text)
    (found,) = find_composites(Graph(dense(stored)), {"fc": Scheme.parse(text)})
    weight = found.task.weight
    assert isinstance(weight, StoredWeight)
    assert {name: found.reads[number].name for name, number in weight.arrays.items()} == {
        name: f"fc.{name}" for name in stored.arrays
    }
    steps = [parse_step(each.step) for each in weight.steps]
    assert any(isinstance(each, step) for each in steps)
    assert steps == [each.step for each in stored.steps]


def test_sums_that_something_else_reads_are_no_part_of_a_composite() -> None:
    mod = dense(encoded_codes(codes_of("w4a8"), "w4a8"), used_again=True)
    assert find_composites(Graph(mod), {}) == []
