"""An einsum of two tensors is a matrix product between transposes, and computes what numpy does."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from tersor.frontend import import_model
from tersor.frontend.verification import run_plainly
from tersor.ir.graph import Graph, operator

SIZES = {"b": 2, "s": 3, "t": 4, "d": 5, "e": 3, "h": 2}


def imported(equation: str):
    terms = equation.partition("->")[0].split(",")
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [SIZES[each] for each in term])
        for name, term in zip("xyz", terms, strict=False)
    ]
    node = helper.make_node("Einsum", [value.name for value in inputs], ["out"], equation=equation)
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "einsum", inputs, [out])
    return import_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def check(equation: str) -> list[str]:
    mod = imported(equation)
    random = np.random.default_rng(0)
    shapes = {var.name: [int(n) for n in var.ty.shape] for var in Graph(mod).inputs}
    arrays = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    (result,) = run_plainly(mod, arrays)
    np.testing.assert_allclose(result, np.einsum(equation, *arrays.values()), rtol=1e-4, atol=1e-5)
    return [operator(value) for _, value in Graph(mod).bindings]


@pytest.mark.parametrize(
    "equation",
    ["sd,de->se", "bsd,dhe->bhse", "bshd,bthd->bhst", "bhst,bthd->bshd", "bsd,td->bts", "sd,d->s"],
)
def test_a_product_of_two_tensors_is_a_matrix_product(equation: str) -> None:
    assert "matmul" in check(equation)


@pytest.mark.parametrize("equation", ["sd,te->sdte", "bsd,de->be", "bs,bs->bs", "bsd->dbs"])
def test_any_other_equation_is_imported_as_it_is(equation: str) -> None:
    assert "matmul" not in check(equation)
