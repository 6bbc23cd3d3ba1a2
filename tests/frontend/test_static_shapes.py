from dataclasses import replace

import pytest
from onnx import TensorProto, helper
from tvm import relax

from tersor.error import UserError
from tersor.frontend.graph import Graph
from tersor.frontend.static_shapes import make_static, refuse_dynamic
from tests.relax_modules import Net


def graph_with(**shapes):
    inputs = tuple(helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items())
    return Graph("g", inputs, (), (), {}, ())


def static(graph, **given):
    graph = make_static(graph, given).inferred()
    return {value.name: graph.shape(value.name) for value in graph.inputs}


def test_static_shapes_stay():
    assert static(graph_with(x=[2, 3])) == {"x": (2, 3)}
    assert static(graph_with(x=[2, 3]), x=[2, 3]) == {"x": (2, 3)}


@pytest.mark.parametrize("name", ["batch", "batch_size", "N", "Batch", "bs"])
def test_a_leading_batch_dim_becomes_one(name):
    assert static(graph_with(x=[name, 3])) == {"x": (1, 3)}


def test_a_given_shape_sets_dims_of_the_same_name_everywhere():
    graph = graph_with(ids=["batch", "seq"], mask=["batch", "seq"])
    assert static(graph, ids=[4, 32]) == {"ids": (4, 32), "mask": (4, 32)}


def test_another_dynamic_dim_needs_a_shape():
    message = r"the input 'ids' has the shape \[batch, seq\]: give a static one with --shape ids=1x1"
    with pytest.raises(UserError, match=message):
        make_static(graph_with(ids=["batch", "seq"]), {})
    with pytest.raises(UserError, match="--shape x=1x3"):
        make_static(graph_with(x=["rows", 3]), {})
    with pytest.raises(UserError, match="--shape x=3x1"):
        make_static(graph_with(x=[3, "batch"]), {})


def test_an_input_without_a_shape_needs_one():
    with pytest.raises(UserError, match="the input 'x' has no shape: give one with --shape x=1x32"):
        make_static(graph_with(x=None), {})
    assert static(graph_with(x=None), x=[1, 32]) == {"x": (1, 32)}


def test_a_shape_must_not_contradict_the_model():
    graph = graph_with(x=["batch", 3, 224, 224])
    with pytest.raises(UserError, match=r"--shape x=1x3x32x32 contradicts .* 'x' is \[batch, 3, 224, 224\]"):
        make_static(graph, {"x": [1, 3, 32, 32]})
    with pytest.raises(UserError, match="contradicts the model"):
        make_static(graph, {"x": [1, 3, 224]})
    with pytest.raises(UserError, match="every dim must be at least 1"):
        make_static(graph, {"x": [0, 3, 224, 224]})


def test_shapes_must_agree_on_named_dims():
    graph = graph_with(ids=["batch", "seq"], mask=["batch", "seq"])
    with pytest.raises(
        UserError, match=r"the dim 'seq' of the input 'mask' is given as 16, .* sets it to 32"
    ):
        make_static(graph, {"ids": [1, 32], "mask": [1, 16]})


def test_an_unknown_input_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match="the model has no input 'z'; its inputs are 'x', 'y'"):
        make_static(graph_with(x=[1], y=[1]), {"z": [1]})


def test_text_is_refused():
    words = helper.make_tensor_value_info("words", TensorProto.STRING, [1, 4])
    with pytest.raises(UserError, match="the input 'words' holds text"):
        make_static(replace(graph_with(x=[1]), inputs=(words,)), {})


def test_a_size_that_depends_on_the_data_is_refused():
    net = Net((2, 8))
    refuse_dynamic(net.finish(net.emit(relax.op.negative(net.inputs[0]))))
    net = Net((2, 8))
    with pytest.raises(UserError, match="the size of what 'nonzero' gives depends on the data"):
        refuse_dynamic(net.finish(net.emit(relax.op.nonzero(net.inputs[0]))))
