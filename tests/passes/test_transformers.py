"""Attention, tables and ranges found row by row: what the passes make of a transformer's layers."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import tvm

from tersor import arithmetic as A
from tersor.ir.chains import find_gathers, find_products
from tersor.ir.graph import Graph, expose, operator, weights_of
from tersor.ir.operators import GatherRows, Product, QuantizeRows, RowScale, call_arguments, read_operator
from tersor.layer import Layer
from tersor.passes.extract import extract, tensor_names
from tersor.passes.integerize import integerize
from tersor.passes.quantization.quantize import quantize
from tersor.scheme import FP32, INT8, W8A32, Scheme
from tersor.statistics import Statistics
from tests.relax_modules import attention_net, compiled, statistics_of, token_samples
from tests.rounded_weights import quantize_weight

DYNAMIC = replace(INT8, dynamic=True)
DENSE = ("q.weight", "k.weight", "v.weight", "out.weight")


@cache
def network() -> tuple[tvm.IRModule, Statistics]:
    mod = attention_net()
    return mod, statistics_of(mod, token_samples())


def schemes(dense: Scheme = INT8, product: Scheme = INT8, table: Scheme = W8A32) -> dict[str, Scheme]:
    return {"table": table, "matmul.0": product, "matmul.1": product} | dict.fromkeys(DENSE, dense)


def integer(**chosen: Scheme) -> tvm.IRModule:
    mod, statistics = network()
    given = schemes(**chosen)
    dynamic = [name for name, scheme in given.items() if scheme.dynamic]
    return integerize(quantize(mod, given, statistics), dynamic)


def steps(mod: tvm.IRModule) -> list[str]:
    found = [(read_operator(mod, value), value) for _, value in Graph(mod).bindings]
    return [step.name if step else operator(value) for step, value in found]


def values_before(mod: tvm.IRModule, kind: type) -> list[tuple[list[np.ndarray], np.ndarray]]:
    """Run a module and give the arguments and the result of every operator of a kind."""
    graph = Graph(mod)
    calls = [(var, value) for var, value in graph.bindings if isinstance(read_operator(mod, value), kind)]
    wanted = [each for var, value in calls for each in (*call_arguments(value), var)]
    computed = [each for each in wanted if graph.value(each) is None and each not in graph.inputs]
    [x, *_] = token_samples()
    results = dict(zip(computed, compiled(expose(mod, computed), level=0)(x), strict=True))

    def of(expr: object) -> np.ndarray:
        stored = graph.value(expr)
        return results.get(expr, x if stored is None else stored)

    return [([of(each) for each in call_arguments(value)], of(var)) for var, value in calls]


# Layers


def test_tables_and_products_of_activations_are_layers_in_the_order_of_the_network() -> None:
    layers = extract(network()[0]).layers
    assert [layer.name for layer in layers] == [
        "table", "q.weight", "k.weight", "v.weight", "matmul.0", "matmul.1", "out.weight"
    ]  # fmt: skip
    assert layers[0] == Layer("table", "gather", N=6, K=8, C=11)
    assert layers[4] == Layer("matmul.0", "matmul", N=6, G=2, K=6, C=4, weight_bearing=False)


def test_edges_lead_through_attention() -> None:
    edges = {(edge.producer, edge.consumer) for edge in extract(network()[0]).edges}
    assert {
        ("x", "table"),
        ("table", "q.weight"),
        ("q.weight", "matmul.0"),
        ("k.weight", "matmul.0"),
    } <= edges
    assert {("matmul.0", "matmul.1"), ("v.weight", "matmul.1"), ("matmul.1", "out.weight")} <= edges


def test_their_results_are_named_after_them() -> None:
    mod, _ = network()
    graph, names = Graph(mod), tensor_names(mod)
    assert [names[gather.result] for gather in find_gathers(graph)] == ["table:out"]
    assert [names[product.result] for product in find_products(graph)] == ["matmul.0:out", "matmul.1:out"]


# Products


def test_attention_is_integer_from_the_projections_to_the_scores_and_on_to_the_output() -> None:
    assert steps(integer()) == [
        "gather_rows", "quantize",
        "matmul", "add", "requantize", "reshape", "permute_dims",
        "matmul", "add", "requantize", "reshape", "permute_dims",
        "matmul", "add", "requantize", "reshape", "permute_dims",
        "product", "rescale_accumulator", "divide", "nn.softmax", "quantize",
        "product", "requantize", "permute_dims", "reshape",
        "matmul", "add", "rescale_accumulator", "add",
    ]  # fmt: skip


def test_products_are_their_arithmetic() -> None:
    mod = integer()
    graph = Graph(mod)
    found = [read_operator(mod, value) for _, value in graph.bindings]
    products = [step for step in found if isinstance(step, Product)]
    for step, ((left, right), result) in zip(products, values_before(mod, Product), strict=True):
        np.testing.assert_array_equal(result, A.product(left, step.a_zero_point, right, step.b_zero_point))


def test_right_operands_have_the_symmetric_zero_point_and_probabilities_have_none() -> None:
    mod = integer()
    found = [read_operator(mod, value) for _, value in Graph(mod).bindings]
    first, second = [step for step in found if isinstance(step, Product)]
    assert (first.b_zero_point, second.b_zero_point) == (128, 128)
    assert second.a_zero_point == 0  # softmax is never negative


def test_a_product_left_in_fp32_reads_and_writes_float() -> None:
    mod = integer(product=FP32)
    assert "product" not in steps(mod)
    assert steps(mod).count("matmul") == len(DENSE) + 2


def test_what_is_float_anyway_is_read_unrounded_by_what_is_float() -> None:
    """The residual is the looked up rows, not their codes."""
    graph = Graph(integer())
    residual = graph.definition(graph.outputs[0]).args[1]
    assert isinstance(read_operator(graph.mod, graph.definition(residual)), GatherRows)


# Tables


def test_a_table_is_stored_as_int8_with_a_scale_per_row() -> None:
    stored, original = weights_of(integer()), weights_of(network()[0])["table"]
    codes, scale = quantize_weight(original, 0)
    np.testing.assert_array_equal(stored["table"], codes)
    np.testing.assert_array_equal(stored["table.scale"], scale)
    assert [value.shape for name, value in stored.items() if value.shape == (11, 8)] == [(11, 8)]


def test_looking_up_decodes_the_rows_it_finds() -> None:
    [((codes, scale, indices), rows)] = values_before(integer(), GatherRows)
    np.testing.assert_array_equal(rows, A.gather_rows(codes, scale, indices))


def test_a_table_left_in_fp32_is_looked_up_as_it_was() -> None:
    mod = integer(table=FP32)
    assert "gather_rows" not in steps(mod)
    assert weights_of(mod)["table"].dtype == np.float32


# Ranges found row by row


def test_a_dynamic_layer_quantizes_each_row_of_its_float_input() -> None:
    mod = integer(dense=DYNAMIC, product=FP32)
    assert steps(mod).count("row_scale") == steps(mod).count("quantize_rows") == len(DENSE)
    for (x,), scale in values_before(mod, RowScale):
        np.testing.assert_array_equal(scale, A.row_scale(x))
    for (x, scale), codes in values_before(mod, QuantizeRows):
        np.testing.assert_array_equal(codes, A.quantize_rows(x, scale))
        assert (np.abs(codes.astype(int) - 128).max(axis=-1) == 127).all()


def test_dynamic_layers_feed_integer_products() -> None:
    assert steps(integer(dense=DYNAMIC)).count("product") == 2


@pytest.mark.parametrize(
    ("chosen", "least"),
    [({}, 25.0), ({"dense": DYNAMIC}, 28.0), ({"dense": FP32, "product": FP32}, 40.0)],
    ids=["static", "dynamic", "table only"],
)
def test_the_result_is_near_that_of_fp32(chosen: dict[str, Scheme], least: float) -> None:
    exact, rounded = compiled(network()[0], level=0), compiled(integer(**chosen), level=0)
    signal = noise = 0.0
    for x in token_samples():
        [expected], [got] = exact(x), rounded(x)
        signal += float(np.square(expected).sum())
        noise += float(np.square(expected - got).sum())
    assert 10 * np.log10(signal / noise) > least
