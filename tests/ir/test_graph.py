import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from tersor.ir.graph import (
    Builder,
    Graph,
    bind_weights,
    expose,
    operands,
    operator,
    rebind,
    replace_weights,
    shape_of,
    weights_of,
)
from tersor.ir.operators import Quantize
from tests.relax_modules import Net, residual_net, run


def rebuilt(mod: tvm.IRModule) -> tvm.IRModule:
    """Read a module and write it again as it is."""
    graph = Graph(mod)
    builder = Builder(graph)
    values = {var: var for var in graph.inputs}
    values.update({var: builder.weight(var.name, value) for var, value in graph.weights.items()})
    for var, value in graph.bindings:
        values[var] = builder.emit(rebind(value, values), var.name)
    return builder.finish([values[output] for output in graph.outputs])


def attach(mod: tvm.IRModule, inputs: int, *weights: np.ndarray) -> tvm.IRModule:
    tensors = [tvm.runtime.tensor(weight) for weight in weights]
    function = mod["main"].with_attr("num_input", inputs).with_attr("params", tensors)
    result = tvm.IRModule(dict(mod.functions.items()))
    result.update_func(mod.get_global_var("main"), function)
    return result


@I.ir_module
class Both:
    @R.function
    def main(x: R.Tensor((2, 3), "float32"), w: R.Tensor((3, 3), "float32")):
        with R.dataflow():
            a = R.matmul(x, w)
            b = R.matmul(a, w)
            c = R.concat((a, b), axis=0)
            s = R.split(c, 2, axis=1)
            left = s[0]
            out = (left, x, b)
            R.output(out)
        return out


TWICE = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]], np.float32)


@pytest.fixture
def both() -> tvm.IRModule:
    return attach(Both, 1, TWICE)


def test_a_graph_reads_inputs_weights_bindings_and_outputs(both: tvm.IRModule) -> None:
    graph = Graph(both)
    assert [var.name for var in graph.inputs] == ["x"]
    assert {var.name: value.tolist() for var, value in graph.weights.items()} == {"w": TWICE.tolist()}
    assert [var.name for var, _ in graph.bindings] == ["a", "b", "c", "s", "left"]
    assert [var.name for var in graph.outputs] == ["left", "x", "b"]
    assert graph.returns_tuple


def test_a_graph_knows_definitions_and_users(both: tvm.IRModule) -> None:
    graph = Graph(both)
    x, (w,) = graph.inputs[0], graph.weights
    a, b, c, s, left = (var for var, _ in graph.bindings)
    assert operator(graph.definition(b)) == "matmul"
    assert graph.definition(x) is None
    assert graph.definition(w) is None
    assert graph.users(w) == [a, b]
    assert graph.users(a) == [b, c]
    assert graph.only_user(c).same_as(s)
    assert graph.only_user(a) is None  # two users
    assert graph.only_user(left) is None  # returned
    assert [graph.is_output(var) for var in (x, a, b, left)] == [True, False, True, True]
    np.testing.assert_array_equal(graph.value(w), TWICE)
    assert graph.value(x) is None
    np.testing.assert_array_equal(graph.value(relax.const(np.float32(3))), 3)


def test_one_that_reads_twice_is_no_only_user() -> None:
    net = Net((2, 3))
    (x,) = net.inputs
    a = net.emit(relax.op.nn.relu(x))
    graph = Graph(net.finish(net.emit(relax.op.add(a, a))))
    (relu, _), _ = graph.bindings
    assert len(graph.users(relu)) == 2
    assert graph.only_user(relu) is None


def test_operands_are_the_tensors_read_each_as_often_as_it_is_read(both: tvm.IRModule) -> None:
    graph = Graph(both)
    (a, product), (b, _), (_, concat), (s, split), (_, item) = graph.bindings
    (x,), (w,) = graph.inputs, graph.weights
    assert operands(product) == [x, w]
    assert operands(concat) == [a, b]
    assert operands(item) == [s]
    assert [operator(value) for _, value in graph.bindings] == ["matmul", "matmul", "concat", "split", ""]
    assert operands(relax.op.add(a, relax.const(np.float32(1)))) == [a]
    assert len(operands(split)) == 1


def test_shape_of_is_static() -> None:
    assert shape_of(Net((2, 3)).inputs[0]) == (2, 3)


def test_rebuilding_gives_an_equal_module(both: tvm.IRModule) -> None:
    tvm.ir.assert_structural_equal(rebuilt(both), both)


def test_rebuilding_a_network_gives_an_equal_module_with_its_names_and_numbers() -> None:
    mod = residual_net()
    again = rebuilt(mod)
    tvm.ir.assert_structural_equal(again, mod)
    before, after = weights_of(mod), weights_of(again)
    assert list(before) == list(after)
    assert "a.weight" in after
    assert "fc.bias" in after
    for name, value in before.items():
        np.testing.assert_array_equal(value, after[name])


def test_outputs_can_be_inputs_and_a_tuple_of_one(both: tvm.IRModule) -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    left, same, b = run(rebuilt(both), x)
    np.testing.assert_array_equal(same, x)
    np.testing.assert_array_equal(b, x @ TWICE @ TWICE)
    np.testing.assert_array_equal(left, np.concatenate([x @ TWICE, b])[:, :2])
    net = Net((2, 3))
    only = net.finish(net.inputs[0])
    np.testing.assert_array_equal(run(rebuilt(only), x)[0], x)
    assert Graph(only).bindings == []
    one = expose(both, Graph(both).inputs)
    assert Graph(one).returns_tuple
    assert Graph(rebuilt(one)).returns_tuple


def test_a_weight_declared_twice_is_one_and_another_value_gets_another_name() -> None:
    net = Net((2, 3))
    (x,) = net.inputs
    w = net.weight("w", TWICE)
    assert net.weight("w", TWICE.copy()).same_as(w)
    other = net.weight("w", 2 * TWICE)
    assert not other.same_as(w)
    assert net.weight("w", 2 * TWICE).same_as(other)
    mod = net.finish(net.emit(relax.op.matmul(net.emit(relax.op.matmul(x, w)), other)))
    assert list(weights_of(mod)) == ["w", "w'"]
    np.testing.assert_array_equal(weights_of(mod)["w'"], 2 * TWICE)


def test_a_weight_of_another_dtype_is_another_weight() -> None:
    net = Net((2, 3))
    assert not net.weight("w", TWICE).same_as(net.weight("w", TWICE.astype(np.float64)))


def test_expose_returns_any_tensors_in_order(both: tvm.IRModule) -> None:
    graph = Graph(both)
    (a, _), (b, _), *_ = graph.bindings
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    second, first = run(expose(both, [b, a]), x)
    np.testing.assert_array_equal(first, x @ TWICE)
    np.testing.assert_array_equal(second, x @ TWICE @ TWICE)


def test_replace_weights_keeps_names_and_order(both: tvm.IRModule) -> None:
    mod = residual_net()
    zeros = np.zeros_like(weights_of(mod)["fc.bias"])
    replaced = replace_weights(mod, {"fc.bias": zeros})
    assert list(weights_of(replaced)) == list(weights_of(mod))
    np.testing.assert_array_equal(weights_of(replaced)["fc.bias"], zeros)
    np.testing.assert_array_equal(weights_of(replaced)["a.weight"], weights_of(mod)["a.weight"])
    assert weights_of(mod)["fc.bias"].any()


def test_bind_weights_leaves_only_the_inputs(both: tvm.IRModule) -> None:
    bound = bind_weights(both)
    assert [var.name for var in bound["main"].params] == ["x"]
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    executable = tvm.compile(bound, tvm.target.Target({"kind": "llvm"}))
    result = relax.VirtualMachine(executable, tvm.cpu())["main"](tvm.runtime.tensor(x))
    np.testing.assert_array_equal(result[2].numpy(), x @ TWICE @ TWICE)


def test_a_builder_keeps_the_other_functions_of_a_module() -> None:
    net = Net((2, 3))
    mod = net.finish(net.call(Quantize(0.5, 3), *net.inputs))
    again = rebuilt(mod)
    tvm.ir.assert_structural_equal(again, mod)
    np.testing.assert_array_equal(run(again, np.ones((2, 3), np.float32))[0], np.full((2, 3), 5, np.uint8))
