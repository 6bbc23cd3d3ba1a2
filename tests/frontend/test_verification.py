import builtins

import numpy as np
import pytest
import tvm
from tvm import relax

from tersor.error import UserError
from tersor.frontend import import_model, static_model, verify
from tersor.frontend.verification import random_inputs, relative_error, run_plainly, run_reference
from tests.models import mlp


def broken(mod):
    """Replace every ReLU by a tanh, as an importer's mistake would."""

    @relax.expr_functor.mutator
    class Swap(relax.PyExprMutator):
        def visit_call_(self, call):
            call = super().visit_call_(call)
            is_relu = call.op.name == "relax.nn.relu"
            return relax.op.tanh(call.args[0]) if is_relu else call

    result = tvm.IRModule()
    result["main"] = Swap().visit_expr(mod["main"])
    return result


def test_the_first_diverging_tensor_is_named():
    model = static_model(mlp())

    def run(mod, inputs):
        return run_plainly(broken(mod), inputs)

    with pytest.raises(UserError, match="the first tensor that differs is 'relu0', by 0"):
        verify(import_model(model), model, run=run)


def test_a_fault_in_the_form_of_a_network_is_found_by_bisection():
    model = static_model(mlp())

    def run(mod, inputs):
        alone = len(mod["main"].params) > 3 and not isinstance(mod["main"].ret_ty, relax.TupleType)
        results = run_plainly(mod, inputs)
        return [result + 1 for result in results] if alone else results

    with pytest.raises(UserError, match="the first tensor that differs is 'fc1'"):
        verify(import_model(model), model, run=run)


def test_a_right_module_passes_with_given_inputs_too():
    model = static_model(mlp())
    inputs = {"x": np.full((1, 64), 3, np.float32)}
    assert verify(import_model(model), model, inputs=inputs) < 1e-5


def test_import_verifies_when_asked():
    import_model(mlp(), verify=True)


def test_inputs_are_seeded():
    model = static_model(mlp())
    np.testing.assert_equal(random_inputs(model, 1), random_inputs(model, 1))
    assert (random_inputs(model, 1)["x"] != random_inputs(model, 2)["x"]).any()


def test_onnx_alone_is_a_reference_too(monkeypatch):
    model = static_model(mlp())
    inputs = random_inputs(model)
    with_runtime = run_reference(model, inputs, ["relu0", "y"])
    imported = builtins.__import__

    def without_runtime(name, *args, **kwargs):
        if name == "onnxruntime":
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_runtime)
    alone = run_reference(model, inputs, ["relu0", "y"])
    for name in ("relu0", "y"):
        np.testing.assert_allclose(alone[name], with_runtime[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("result", "reference", "error"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0),
        ([1.0, 2.5], [1.0, 2.0], 0.25),
        ([0.1], [0.0], 0.1),
        ([np.nan, 1.0], [np.nan, 1.0], 0),
        ([np.nan, 1.0], [0.0, 1.0], np.inf),
        ([np.inf], [-np.inf], np.inf),
        ([1.0], [1.0, 1.0], np.inf),
    ],
)
def test_errors_are_relative_to_the_largest_value(result, reference, error):
    assert relative_error(np.array(result), np.array(reference)) == pytest.approx(error)


def test_integers_must_be_equal():
    assert relative_error(np.array([1, 2]), np.array([1, 2])) == 0
    assert relative_error(np.array([1, 3]), np.array([1, 2])) == np.inf
