"""Batch: the leading dimension of a model, free or written as 1, becomes another one, or that is refused."""

import numpy as np
import onnx
import pytest

from tersor.error import UserError
from tersor.frontend.batch import batched_inputs, with_batch
from tersor.frontend.shapes import bucket_models, split
from tests.models import conv_net, masked_attention, mlp, shape_net


def model(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]>\n{text}')


def shapes_of(values: object) -> dict[str, list[int]]:
    return {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}  # pyright: ignore


FLATTENED = model("net (float[1, 2, 3] x) => (float[1, 6] y) <int64[2] to = {1, 6}> { y = Reshape(x, to) }")
SUMMED = model(
    "net (float[1, 3] x) => (float[1, 3] y) { y = CumSum(x, at) }".replace(
        "y = C", "at = Constant<value_int = 0>() y = C"
    )
)
FOLDED = model("net (float[1, 4] x) => (float[2, 2] y) <int64[2] to = {2, 2}> { y = Reshape(x, to) }")


@pytest.mark.parametrize("source", [mlp(1), mlp("rows"), conv_net(), shape_net(), FLATTENED])
def test_free_and_single_batches_become_any(source: onnx.ModelProto) -> None:
    batched = with_batch(source, {}, None, 3)
    assert next(iter(shapes_of(batched.graph.input).values()))[0] == 3
    assert next(iter(shapes_of(batched.graph.output).values()))[0] == 3


def test_other_free_dimensions_are_given_as_before() -> None:
    batched = with_batch(masked_attention(), {"x": (1, 8, 16)}, None, 4)
    assert shapes_of(batched.graph.input) == {"x": [4, 8, 16], "mask": [4, 8]}


def test_the_batch_is_what_is_free_or_else_1() -> None:
    text = "net (float[n, 3] x, float[1, 3] w, float[2, 3] v) => (float[n, 3] y) { y = Add(x, w) }"
    assert batched_inputs(model(text)) == ("x",)
    assert batched_inputs(model(text.replace("[n,", "[1,"))) == ("x", "w")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (SUMMED, "'y' would change"),
        (FOLDED, "written for a leading dimension of 1"),
        (model("net (float[2, 3] x) => (float[2, 3] y) { y = Relu(x) }"), "no input of the model has"),
    ],
)
def test_a_model_that_means_something_else_is_refused(source: onnx.ModelProto, said: str) -> None:
    with pytest.raises(UserError, match=said):
        with_batch(source, {}, None, 4)


def test_buckets_come_from_small_to_large_with_one_for_each_pair() -> None:
    given = {"x": [(1, 24, 16), (1, 8, 16)]}
    models, names = bucket_models(masked_attention(), given, batch=[2, 1])
    found = [tuple(shapes_of(each.graph.input)["mask"]) for each in models]
    assert (found, names) == ([(1, 8), (2, 8), (1, 24), (2, 24)], ("x", "mask"))


def test_an_only_shape_goes_into_every_bucket() -> None:
    assert split({"a": [(1, 2), (1, 4)], "b": (3,)}) == [{"a": (1, 2), "b": (3,)}, {"a": (1, 4), "b": (3,)}]
    assert split({}) == [{}]
    assert np.shape(split({"a": (1, 2)})[0]["a"]) == (2,)
