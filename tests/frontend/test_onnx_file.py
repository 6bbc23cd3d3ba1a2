import contextlib

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from tersor.error import UserError
from tersor.frontend import import_model
from tersor.frontend.onnx_file import load_onnx
from tests.models import mlp


def opset(model):
    return next(o.version for o in model.opset_import if o.domain == "")


def test_a_model_is_loaded_from_a_path_or_taken_as_it_is(tmp_path):
    onnx.save(mlp(), tmp_path / "mlp.onnx")
    assert load_onnx(tmp_path / "mlp.onnx") == load_onnx(str(tmp_path / "mlp.onnx")) == load_onnx(mlp())


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"there is no model file '.*nowhere.onnx'"):
        load_onnx(tmp_path / "nowhere.onnx")


def test_a_directory_is_no_model(tmp_path):
    with pytest.raises(UserError, match="is a directory, not an ONNX file"):
        load_onnx(tmp_path)


@pytest.mark.parametrize("source", [None, 3, b"model"])
def test_what_is_no_model_at_all_is_refused(source):
    with pytest.raises(UserError, match=f"a {type(source).__name__} is no model"):
        load_onnx(source)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, keep):
    data = mlp().SerializeToString()
    (tmp_path / "cut.onnx").write_bytes(data[: int(keep * len(data))])
    with pytest.raises(UserError, match=r"'.*cut.onnx' is not an ONNX model, or it is truncated"):
        load_onnx(tmp_path / "cut.onnx")


@pytest.mark.parametrize(
    "content", [b"", b"hello, this is no protobuf", bytes(1000), b"\x89PNG\r\n\x1a\n" * 30]
)
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "other.onnx").write_bytes(content)
    with pytest.raises(UserError, match="is not an ONNX model"):
        load_onnx(tmp_path / "other.onnx")


def test_weights_beside_the_file_are_loaded_and_missed(tmp_path):
    path = tmp_path / "mlp.onnx"
    onnx.save(mlp(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    weights = {w.name: onnx.numpy_helper.to_array(w) for w in load_onnx(path).graph.initializer}
    expected = {w.name: onnx.numpy_helper.to_array(w) for w in mlp().graph.initializer}
    np.testing.assert_equal(weights, expected)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(UserError, match=r"the weights stored beside '.*mlp.onnx' are missing"):
        load_onnx(path)


def test_an_old_opset_is_converted():
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "xy")
    node = helper.make_node("Clip", ["x"], ["y"], min=0.0, max=6.0)
    graph = helper.make_graph([node], "old", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=4)
    assert opset(load_onnx(model)) == 17
    assert opset(load_onnx(mlp())) == 17


def test_local_functions_are_inlined():
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "xy")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    body = helper.make_function(
        "local", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], opsets[:1]
    )
    graph = helper.make_graph([helper.make_node("Twice", ["x"], ["y"], domain="local")], "f", [x], [y])
    model = helper.make_model(graph, opset_imports=opsets, functions=[body], ir_version=8)
    assert [node.op_type for node in load_onnx(model).graph.node] == ["Add"]


def test_a_tensor_that_nothing_makes_is_named():
    model = mlp()
    model.graph.node[2].input[0] = "nowhere"
    with pytest.raises(
        UserError, match="the node 'fc1' reads 'nowhere', a tensor that no node before it makes"
    ):
        load_onnx(model)
    model = mlp()
    model.graph.output[0].name = "nothing"
    with pytest.raises(UserError, match="the model's output 'nothing' is made by no node"):
        load_onnx(model)


def test_names_that_are_no_text_are_refused(tmp_path):
    data = mlp().SerializeToString().replace(b"relu1", b"rel\xff1")
    (tmp_path / "damaged.onnx").write_bytes(data)
    with pytest.raises(UserError, match=r"'.*damaged.onnx' is damaged: it holds names that are no text"):
        load_onnx(tmp_path / "damaged.onnx")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 1200), st.integers(0, 255))
def test_a_flipped_byte_is_a_sentence_or_another_model(tmp_path, position, byte):
    data = bytearray(mlp(features=(4, 3, 2)).SerializeToString())
    data[position % len(data)] = byte
    (tmp_path / "damaged.onnx").write_bytes(data)
    with contextlib.suppress(UserError):
        import_model(tmp_path / "damaged.onnx")
