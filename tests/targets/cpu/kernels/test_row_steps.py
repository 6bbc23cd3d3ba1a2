import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import relax

from tersor import arithmetic
from tersor.ir.operators import Add, Dequantize, Quantize, QuantizeRows, Rescale, RowScale
from tersor.lowering import build
from tersor.targets.cpu.fusion import fuse_rows
from tersor.targets.cpu.host.detect import Host
from tersor.targets.cpu.host.isa import ISAS as REAL_ISAS
from tersor.targets.cpu.host.isa import Isa
from tersor.targets.cpu.lowering import Lowered
from tests.relax_modules import Net, run
from tests.row_kernels import ISAS, fused, kernels_of

op = relax.op
isas = pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
scales = st.floats(2**-9, 0.5, width=32)
codes = st.integers(0, 255)
SHAPE = (3, 1400)


def real(seed: int = 0) -> np.ndarray:
    """Normals, halves of steps among them, and what saturates."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 8, SHAPE).astype(np.float32)
    x[0, :200] = np.arange(-100, 100) / 2
    x[1, :4] = (1e30, -1e30, np.inf, -np.inf)
    return x


@isas
@settings(max_examples=3, deadline=None)
@given(scale=scales, zero_point=codes)
def test_codes_are_those_of_the_definition(isa: Isa, scale: float, zero_point: int) -> None:
    net = Net(SHAPE)
    quantized = net.call(Quantize(scale, zero_point), net.inputs[0])
    mod = net.finish(quantized, net.call(Dequantize(scale, zero_point), quantized))
    assert kernels_of(mod, isa) == ["rows_quantize_dequantize"]
    got, back = fused(mod, isa, real())
    np.testing.assert_array_equal(got, arithmetic.quantize(real(), scale, zero_point))
    np.testing.assert_array_equal(back, arithmetic.dequantize(got, scale, zero_point))


@isas
@settings(max_examples=3, deadline=None)
@given(
    multipliers=st.tuples(st.floats(2**-10, 9.0, width=32), st.floats(2**-10, 9.0, width=32)),
    zero_points=st.tuples(codes, codes, codes),
)
def test_sums_and_other_grids_of_codes_are_those_of_the_definition(
    isa: Isa, multipliers: tuple[float, float], zero_points: tuple[int, int, int]
) -> None:
    a, b = np.random.default_rng(0).integers(0, 256, (2, *SHAPE)).astype(np.uint8)
    (first, second), (a_zero, b_zero, zero) = multipliers, zero_points
    net = Net(SHAPE, "uint8", SHAPE)
    total = net.call(Add(first, a_zero, second, b_zero, zero, (3, 250)), *net.inputs)
    mod = net.finish(total, net.call(Rescale(first, zero, b_zero), total))
    assert kernels_of(mod, isa) == ["rows_add_rescale"]
    got, rescaled = fused(mod, isa, a, b)
    expected = arithmetic.add(a, first, a_zero, b, second, b_zero, zero, (3, 250))
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(rescaled, arithmetic.rescale(got, first, zero, b_zero))


@isas
def test_rows_on_grids_of_their_own_are_those_of_the_definition(isa: Isa) -> None:
    x = np.random.default_rng(0).normal(0, 8, (5, 77)).astype(np.float32)
    x[3] = 0
    net = Net(x.shape)
    scale = net.call(RowScale(), net.inputs[0])
    mod = net.finish(net.call(QuantizeRows(), net.inputs[0], scale), scale)
    assert kernels_of(mod, isa) == ["rows_row_scale_quantize_rows"]
    got, steps = fused(mod, isa, x)
    np.testing.assert_array_equal(steps, arithmetic.row_scale(x))
    np.testing.assert_array_equal(got, arithmetic.quantize_rows(x, steps))


def test_float_operators_are_those_of_plain_llvm() -> None:
    net = Net((4, 1030), "float32", (4, 1030))
    x, y = net.inputs
    positive = net.emit(op.add(net.emit(op.abs(y)), relax.const(0.1, "float32")))
    chain = [op.nn.relu, op.nn.silu, op.tanh, op.erf, op.sigmoid, op.nn.gelu, op.negative, op.square]
    total = net.emit(op.divide(x, positive))
    for unary in (
        *chain,
        lambda v: op.nn.leakyrelu(v, 0.2),
        lambda v: op.clip(v, tvm.tirx.IntImm("int64", -1), tvm.tirx.IntImm("int64", 1)),
        op.exp,
        op.nn.relu6,
    ):
        total = net.emit(op.add(total, net.emit(unary(total))))
    total = net.emit(op.subtract(relax.const(2.0, "float32"), net.emit(op.minimum(total, positive))))
    total = net.emit(op.maximum(net.emit(op.divide(total, relax.const(3.0, "float32"))), y))
    mod = net.finish(net.emit(op.sqrt(net.emit(op.abs(total)))))
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(4, 1030)).astype(np.float32) for _ in range(2)]
    (expected,) = run(mod, *inputs)
    for isa in ISAS:
        assert len(kernels_of(mod, isa)) == 1
        np.testing.assert_allclose(fused(mod, isa, *inputs)[0], expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("columns", [8, 100])
def test_softmax_norm_and_reductions_are_those_of_plain_llvm(columns: int) -> None:
    rng = np.random.default_rng(0)
    net = Net((2, 3, columns))
    (x,) = net.inputs
    scale, shift = (net.weight(name, rng.normal(size=columns).astype("f4")) for name in ("scale", "shift"))
    outputs = (
        op.nn.softmax(x, -1), op.nn.layer_norm(x, scale, shift, [2], 1e-3), op.mean(x, [-1], True),
        op.max(x, [2], True), op.sum(x, [2], True),
    )  # fmt: skip
    mod = net.finish(*(net.emit(each) for each in outputs))
    array = rng.normal(1, 3, (2, 3, columns)).astype(np.float32)
    plain = run(mod, array)
    for isa in ISAS:
        for got, expected in zip(fused(mod, isa, array), plain, strict=True):
            np.testing.assert_allclose(got, expected, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("isa", REAL_ISAS, ids=lambda isa: isa.name)
def test_rows_compile_for_every_instruction_set(isa: Isa) -> None:
    """Compiled for the unit itself, not for its description; only a CPU that has it can run the result."""
    net = Net((16, 1030))
    total = net.emit(op.nn.softmax(net.emit(op.nn.gelu(net.inputs[0])), -1))
    codes = net.call(Quantize(1 / 255, 0), total)
    mod = net.finish(codes, net.call(Add(0.5, 0, 0.25, 0, 3), codes, codes))
    assert build(Lowered(fuse_rows(mod, isa)), Host(isa, 2)) is not None
