import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tersor.error import UserError
from tersor.frontend import import_model, static_model, verify
from tests import models


def tiny(nodes, constants=None, shape=(2, 3, 4, 4), outputs=("y",), opset=17):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    weights = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    graph = helper.make_graph(nodes, "tiny", [x], results, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def names(mod):
    return [var.name for var in mod["main"].params]


def operators(mod):
    """Name the operators of `main` in order, without the builder's aliases for outputs."""
    values = [binding.value for binding in mod["main"].body.blocks[0].bindings]
    return [value.op.name.removeprefix("relax.") for value in values if hasattr(value, "op")]


NETS = ["mlp", "conv_net", "residual_net", "mobile_net", "conv_kinds", "concat_net", "pool_net", "shape_net"]


@pytest.mark.parametrize("name", NETS)
def test_an_imported_network_computes_what_the_model_computes(name):
    model = getattr(models, name)()
    assert verify(import_model(model), static_model(model)) < 1e-5


def test_weights_are_named_inputs_after_the_real_ones():
    mod = import_model(models.mlp())
    weights = [f"fc{i}.{role}" for i in range(3) for role in ("weight", "bias")]
    assert names(mod) == ["x", *weights]
    function = mod["main"]
    assert int(function.attrs["num_input"]) == 1
    shapes = [tuple(tensor.shape) for tensor in function.attrs["params"]]
    assert shapes == [(64, 128), (128,), (128, 96), (96,), (96, 10), (10,)]
    assert [tuple(int(n) for n in var.ty.shape) for var in function.params[1:]] == shapes


def test_batch_norms_go_into_their_convolutions():
    mod = import_model(models.conv_net())
    block = ["nn.conv2d", "add", "clip"]
    assert operators(mod) == [*block, *block, "mean", "reshape", "matmul", "add"]
    assert names(mod)[1:] == [
        f"{name}.{role}" for name in ("conv0", "conv1", "fc") for role in ("weight", "bias")
    ]


def test_what_exporters_leave_behind_is_gone():
    mod = import_model(models.shape_net())
    assert operators(mod) == ["nn.conv2d", "add", "nn.relu", "reshape", "matmul", "add"]
    conv = mod["main"].body.blocks[0].bindings[0].value
    assert list(conv.attrs.padding) == [0, 0, 1, 1]


def test_the_batch_can_be_given():
    mod = import_model(models.shape_net(), shapes={"x": [3, 4, 6, 6]})
    assert [int(n) for n in mod["main"].ret_ty.shape] == [3, 10]


STEPS = st.sampled_from(
    ["Conv", "Depthwise", "BatchNormalization", "Mul", "Add", "Sub", "Div", "Clip", "Relu", "Pad", "Residual"]
)


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, min_size=3, max_size=9), st.integers(0, 1000))
def test_any_chain_of_layers_and_channelwise_operators_imports(steps, seed):
    model = chain(steps, seed)
    assert verify(import_model(model), static_model(model), seed=seed) < 1e-4


def chain(steps, seed):
    """Apply operators in a row to [1, 4, 5, 5], with weights and constants on either side."""
    net = models.Net("chain", [1, 4, 5, 5], seed)
    x = net.conv("x", "first", (4, 4))
    for i, step in enumerate(steps):
        name, before = f"{step}{i}", x
        match step:
            case "Conv" | "Depthwise":
                x = net.conv(x, name, (4, 4), groups=4 if step == "Depthwise" else 1, bias=i % 2 == 0)
            case "BatchNormalization":
                x = net.batch_norm(x, name, 4)
            case "Clip":
                x = net.relu6(x, name)
            case "Relu":
                x = net.op("Relu", x, name=name)
            case "Pad":
                x = net.op("Pad", x, net.ints(f"{name}.pads", 0, 0, 0, 1, 0, 0, 1, 0), name=name)
            case "Residual":
                x = net.op("Add", x, net.op("Relu", before, name=f"{name}.relu"), name=name)
            case _:
                shape = [(4, 1, 1), (1, 4, 1, 1), (1,), ()][(seed + i) % 4]
                constant = net.weight(f"{name}.value", net.random.uniform(0.5, 1.5, shape).astype(np.float32))
                inputs = (constant, x) if seed % 2 and step != "Div" else (x, constant)
                x = net.op(step, *inputs, name=name)
    net.op("Identity", x, name="y")
    return net.finish(rank=4)


def test_a_path_imports_like_the_model(tmp_path):
    onnx.save(models.mlp(), tmp_path / "mlp.onnx")
    assert str(import_model(tmp_path / "mlp.onnx")) == str(import_model(models.mlp()))


def test_importing_leaves_the_model_alone():
    model = models.shape_net()
    before = model.SerializeToString(deterministic=True)
    import_model(model)
    assert model.SerializeToString(deterministic=True) == before


def test_any_tensors_can_be_outputs():
    model = models.mlp()
    outputs = ["relu1", "relu0"]
    mod = import_model(model, outputs=outputs)
    assert [int(t.shape[1]) for t in mod["main"].ret_ty.fields] == [96, 128]
    assert names(mod) == ["x", "fc0.weight", "fc0.bias", "fc1.weight", "fc1.bias"]
    assert verify(mod, static_model(model, outputs=outputs)) < 1e-5


@pytest.mark.parametrize(
    ("alpha", "beta", "trans_b"), [(1.0, 1.0, 1), (0.5, 1.0, 0), (1.0, 0.25, 1), (2.0, 3.0, 1)]
)
def test_gemm_is_one_matmul_and_one_bias(alpha, beta, trans_b):
    random = np.random.default_rng(0)
    w = random.normal(size=(5, 6) if trans_b else (6, 5)).astype(np.float32)
    gemm = helper.make_node("Gemm", ["x", "w", "b"], ["y"], alpha=alpha, beta=beta, transB=trans_b)
    model = tiny([gemm], {"w": w, "b": random.normal(size=5).astype(np.float32)}, shape=(2, 6))
    mod = import_model(model)
    assert operators(mod) == ["matmul", "add"]
    assert names(mod) == ["x", "w", "b"]
    assert verify(mod, static_model(model)) < 1e-5


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("stride", [1, 2])
def test_automatic_padding_becomes_explicit(mode, stride):
    w = np.random.default_rng(0).normal(size=(2, 3, 2, 2)).astype(np.float32)
    options = {"kernel_shape": [2, 2], "auto_pad": mode, "strides": [stride, stride]}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], **options),
        helper.make_node("MaxPool", ["a"], ["b"], **options),
        helper.make_node("AveragePool", ["b"], ["y"], kernel_shape=[1, 1]),
    ]
    model = tiny(nodes, {"w": w}, shape=(1, 3, 9, 9))
    mod = import_model(model)
    assert operators(mod) == ["nn.conv2d", "nn.max_pool2d", "nn.avg_pool2d"]
    assert verify(mod, static_model(model)) < 1e-5


@pytest.mark.parametrize("bounds", [(0.0, 6.0), (None, 1.0), (-0.5, None), (0.0, None)])
def test_clips_have_literal_bounds(bounds):
    constants = {f"b{i}": np.array(b, np.float32) for i, b in enumerate(bounds) if b is not None}
    inputs = ["x", *(f"b{i}" if b is not None else "" for i, b in enumerate(bounds))]
    model = tiny([helper.make_node("Clip", inputs, ["y"])], constants)
    mod = import_model(model)
    assert operators(mod) == ["nn.relu" if bounds == (0.0, None) else "clip"]
    assert names(mod) == ["x"]
    assert verify(mod, static_model(model)) == 0


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
def test_pads_stay_operators(mode):
    pads = np.array([0, 0, 1, 2, 0, 0, 2, 1])
    nodes = [helper.make_node("Pad", ["x", "pads"], ["p"], mode=mode), helper.make_node("Relu", ["p"], ["y"])]
    model = tiny(nodes, {"pads": pads})
    mod = import_model(model)
    assert operators(mod) == ["nn.pad", "nn.relu"]
    assert verify(mod, static_model(model)) == 0


def test_weights_in_constant_nodes_are_weights():
    w = numpy_helper.from_array(np.ones((4, 5), np.float32), "value")
    nodes = [helper.make_node("Constant", [], ["w"], value=w), helper.make_node("MatMul", ["x", "w"], ["y"])]
    assert names(import_model(tiny(nodes, shape=(2, 4)))) == ["x", "w"]


def test_shared_weights_stay_one():
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("MatMul", ["a", "w"], ["y"])]
    mod = import_model(tiny(nodes, {"w": np.eye(4, dtype=np.float32)}, shape=(2, 4)))
    assert names(mod) == ["x", "w"]


def test_a_weight_listed_among_the_inputs_is_no_input():
    model = models.mlp()
    shape = [10]
    model.graph.input.append(helper.make_tensor_value_info("fc2.bias", TensorProto.FLOAT, shape))
    assert int(import_model(model)["main"].attrs["num_input"]) == 1


def test_an_unsupported_operator_is_named_with_its_node():
    node = helper.make_node("RNN", ["x", "w", "r"], ["", "y"], name="rnn/rnn", hidden_size=2)
    weights = {"w": np.ones((1, 2, 4), np.float32), "r": np.ones((1, 2, 2), np.float32)}
    with pytest.raises(UserError, match="the operator RNN of the node 'rnn/rnn' is not supported"):
        import_model(tiny([node], weights, shape=(3, 1, 4)))


def test_control_flow_is_refused():
    y = helper.make_tensor_value_info("b", TensorProto.FLOAT, None)
    branch = helper.make_graph([helper.make_node("Relu", ["x"], ["b"])], "branch", [], [y])
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("Cast", ["s"], ["c"], to=TensorProto.BOOL),
        helper.make_node("If", ["c"], ["y"], name="choice", then_branch=branch, else_branch=branch),
    ]
    with pytest.raises(UserError, match="control flow is not supported: 'choice' is an operator If"):
        import_model(tiny(nodes))


def test_what_the_importer_cannot_convert_is_one_sentence_about_the_node(capfd):
    x = helper.make_tensor_value_info("pads", TensorProto.INT64, [8])
    model = tiny([helper.make_node("Pad", ["x", "pads"], ["y"], name="pad")])
    model.graph.input.append(x)
    with pytest.raises(UserError, match=r"^the node 'pad', a Pad, cannot be imported: Dynamic pads") as error:
        import_model(model)
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_shapes_that_do_not_fit_are_one_sentence():
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="fc")]
    with pytest.raises(UserError, match=r"the model's shapes do not fit together: .*fc"):
        import_model(tiny(nodes, {"w": np.ones((5, 5), np.float32)}, shape=(2, 4)))


def test_a_dangling_tensor_is_one_sentence():
    with pytest.raises(UserError, match="nowhere"):
        import_model(tiny([helper.make_node("Add", ["x", "nowhere"], ["y"])]))
