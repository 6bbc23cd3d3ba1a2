from dataclasses import replace

import numpy as np
import pytest
import tvm
from tvm import relax

from tersor.ir.graph import Graph, operator, weights_of
from tersor.passes.integerize import integerize
from tersor.passes.quantization.quantize import quantize
from tersor.scheme import INT8, W8A32
from tersor.targets.cpu.host.isa import ISAS, PLAIN, Isa
from tersor.targets.cpu.lowering import lower
from tersor.targets.cpu.partition import partition
from tests.relax_modules import (
    attention_net,
    compiled,
    residual_net,
    run,
    samples,
    schemes_for,
    statistics_of,
    token_samples,
)
from tests.targets.cpu.lowered_networks import HOST, execute, integer_form

# A whole network


@pytest.fixture(scope="module")
def integer() -> tvm.IRModule:
    return integer_form(residual_net(), samples(1, 8, 10, 10))


@pytest.mark.parametrize("isa", [HOST.isa, PLAIN], ids=lambda isa: isa.name)
def test_a_lowered_integer_network_gives_the_same_bytes(integer: tvm.IRModule, isa: Isa) -> None:
    x, *_ = samples(1, 8, 10, 10)
    lowered = lower(integer, isa, 2)
    (ours,), (plain,) = execute(lowered, x), compiled(integer)(x)
    assert ours.tobytes() == plain.tobytes()
    assert list(lowered.kernels) == [
        "a.weight",
        "b.weight",
        "c.weight",
        "d.weight",
        "down.weight",
        "fc.weight",
    ]
    units = isa.name, isa.vector_unit.name
    assert all("int8" in name and any(unit in name for unit in units) for name in lowered.kernels.values())


def test_a_lowered_float_network_gives_the_same_numbers() -> None:
    mod = residual_net()
    x, *_ = samples(1, 8, 10, 10)
    lowered = lower(mod, HOST.isa, 2)
    (ours,), (plain,) = execute(lowered, x), run(mod, x)
    assert np.abs(ours - plain).max() <= 1e-4 * np.abs(plain).max()
    assert len(lowered.kernels) == len(partition(Graph(mod))) == 6


def test_no_convolution_or_product_is_left_and_images_change_layout_only_at_the_edges(
    integer: tvm.IRModule,
) -> None:
    kinds = [operator(value) for _, value in Graph(lower(integer, HOST.isa, 2).mod).bindings]
    assert not {"nn.conv2d", "matmul", "nn.pad"} & set(kinds)
    assert kinds.count("permute_dims") <= 1


def float_tensors(mod: tvm.IRModule) -> list[str]:
    """The float tensors that a network makes, in order."""
    return [var.name for var, _ in Graph(mod).bindings if str(var.ty.dtype).startswith("float")]


def test_of_the_tensors_that_compiled_kernels_exchange_only_the_edges_are_float(
    integer: tvm.IRModule,
) -> None:
    mod = lower(integer, HOST.isa, 2).mod
    made = [var.name for var, _ in Graph(mod).bindings]
    # The image brought to its layout, before it is quantized, and the result.
    edges = {made[0], made[-1]}
    assert set(float_tensors(mod)) <= edges
    assert float_tensors(mod)[-1] == made[-1]
    assert len(float_tensors(lower(residual_net(), HOST.isa, 2).mod)) > len(edges)  # the scan does find them


def test_weights_keep_their_layers_names(integer: tvm.IRModule) -> None:
    weights = weights_of(lower(integer, HOST.isa, 2).mod)
    assert {f"{name}.weight" for name in ("a", "b", "c", "d", "down", "fc")} <= set(weights)
    assert weights["a.weight"].dtype == np.int8
    assert weights["a.weight"].ndim == 1


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
def test_every_instruction_set_lowers_every_layer(integer: tvm.IRModule, isa: Isa) -> None:
    assert len(lower(integer, isa, 4).kernels) == 6


def test_lowering_is_deterministic(integer: tvm.IRModule) -> None:
    first, second = (lower(integer, HOST.isa, 2).mod for _ in range(2))
    tvm.ir.assert_structural_equal(first, second)
    assert first.script() == second.script()


# Transformers


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_lowered_integer_transformer_gives_the_same_bytes(dynamic: bool) -> None:
    mod = attention_net(softmax=False)
    x, *_ = token_samples()
    schemes = {name: replace(INT8, dynamic=dynamic) for name in schemes_for(mod, INT8)}
    schemes |= {"table": W8A32, "matmul.0": INT8, "matmul.1": INT8}
    quantized = quantize(mod, schemes, statistics_of(mod, token_samples()))
    integer = integerize(quantized, [name for name, scheme in schemes.items() if scheme.dynamic])
    lowered = lower(integer, HOST.isa, 2)
    [ours], [plain] = execute(lowered, x), compiled(integer)(x)
    if dynamic:  # the bias is added in float, which one compiler may contract and the other not
        np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-5)
    else:
        assert ours.tobytes() == plain.tobytes()
    assert all("int8" in name for layer, name in lowered.kernels.items() if layer != "table")
    products = [name for layer, name in lowered.kernels.items() if layer.startswith("matmul.")]
    assert len(products) == 2
    assert all(name.startswith("product int8") for name in products)


def test_the_transposes_of_attention_are_gone() -> None:
    lowered = lower(attention_net(), HOST.isa, 2)
    used = Graph(relax.transform.DeadCodeElimination()(lowered.mod))
    assert [operator(value) for _, value in used.bindings if operator(value) == "permute_dims"] == []
