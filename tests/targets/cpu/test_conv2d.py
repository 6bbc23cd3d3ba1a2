from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st

from tersor.targets.cpu.conv2d import conv2d, default_tiling, pack_channels, pack_weight
from tersor.targets.cpu.detect import Host, detect
from tersor.targets.cpu.epilogue import Activation, Epilogue, Residual
from tersor.targets.cpu.geometry import Geometry, Tiling
from tersor.targets.cpu.isa import ISAS, PLAIN, Isa
from tests.quantized_layers import QuantizedLayer, convolve, draw, nhwc

NATIVE = detect().isa
RNG = np.random.default_rng(0)


def build(isa: Isa, functions: list[Any]) -> list[Any]:
    named = {f"f{i}": function.with_attr("global_symbol", f"f{i}") for i, function in enumerate(functions)}
    library = tvm.tirx.build(tvm.IRModule(named), target=Host(isa, 2).target)
    return [library[name] for name in named]


# Packing


geometries = st.builds(
    lambda depth, outputs, window, groups, dilation: Geometry(
        1, 9, 9, depth * groups, outputs * groups, window, (1, 1), (0, 0, 0, 0), (1, dilation), groups
    ),
    st.integers(1, 9),
    st.integers(1, 40),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.integers(1, 3),
    st.integers(1, 2),
)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(geometries, st.sampled_from(ISAS), st.integers(1, 4), st.booleans())
def test_every_weight_is_packed_exactly_once(g: Geometry, isa: Isa, vectors: int, integer: bool) -> None:
    count = g.outputs * g.depth * g.window[0] * g.window[1]
    shape = (g.outputs, g.depth, *g.window)
    if integer:
        weight = RNG.choice([-3, -2, -1, 1, 2, 3], shape).astype(np.int8)
    else:
        weight = np.arange(1, count + 1, dtype=np.float32).reshape(shape)
    packed = pack_weight(isa, g, vectors, weight)
    np.testing.assert_array_equal(np.sort(packed[packed != 0]), np.sort(weight.ravel()))
    assert packed.dtype == weight.dtype


@settings(deadline=None, derandomize=True, max_examples=30)
@given(geometries, st.sampled_from(ISAS))
def test_every_channel_is_packed_exactly_once_in_order(g: Geometry, isa: Isa) -> None:
    values = np.arange(1, g.outputs + 1, dtype=np.int32)
    packed = pack_channels(isa, g, values)
    np.testing.assert_array_equal(packed[packed != 0], values)
    assert packed.size % (isa.lanes * g.groups) == 0


def test_a_packed_weight_is_in_the_order_in_which_a_tile_reads_it() -> None:
    """One vector of four outputs, two pointwise inputs, each input a group of its own."""
    weight = np.array([[1, 2], [3, 4], [5, 6], [7, 8]], np.int8).reshape(4, 2, 1, 1)
    g = Geometry(1, 1, 1, 2, 4)
    np.testing.assert_array_equal(pack_weight(PLAIN, g, 1, weight), [1, 3, 5, 7, 2, 4, 6, 8])


# Tilings


TILINGS = [
    Tiling(1, 1, 1, 1),
    Tiling(5, 2, 3, 2),
    Tiling(4, 3, 6, 3),
    Tiling(40, 1, 6, 1),
    Tiling(2, 4, 2, 5),
]


def layer(geometry: Geometry, residual: bool, seed: int) -> QuantizedLayer:
    return QuantizedLayer(
        geometry, False, 31, 100, (0, 255), Residual(0.5, 7) if residual else None, False, seed
    )


def test_any_tiling_gives_the_same_codes() -> None:
    layers = [
        layer(Geometry(2, 6, 7, 5, 35, (3, 3), (1, 1), (1, 1, 1, 1)), True, 1),
        layer(Geometry(1, 6, 6, 6, 40, (2, 2), (1, 1), (1, 0, 0, 1), (1, 1), 2), True, 4),
    ]
    cases = [(each, replace(each.kernel(NATIVE), tiling=tiling)) for each in layers for tiling in TILINGS]
    functions = build(NATIVE, [each.prim_func(kernel) for each, kernel in cases])
    for (each, kernel), function in zip(cases, functions, strict=True):
        np.testing.assert_array_equal(each.run(function, kernel), each.expected, str(kernel.tiling))


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("cores", [1, 2, 7])
def test_default_tilings_fit_the_registers_and_the_image(isa: Isa, cores: int) -> None:
    for seed in range(60):
        g = draw(seed).geometry
        for integer in (False, True):
            tiling = default_tiling(isa, g, cores, integer)
            assert 1 <= tiling.pixels <= g.out_height * g.out_width
            assert tiling.pixels * tiling.vectors + tiling.vectors < isa.registers
            assert 1 <= tiling.rows <= g.out_height
            assert tiling.parts >= 1


def test_saturating_packs_and_conversions_give_the_same_codes() -> None:
    """Accumulators from far below to far above the codes, with every pair of bounds."""
    g = Geometry(1, 4, 4, 8, 32)
    layers = []
    for seed, bounds in enumerate([(0, 255), (100, 255), (100, 101), (0, 3)]):
        base = layer(g, seed % 2 == 1, seed)
        layers.append(replace(base, bounds=bounds, zero_point=255 * (seed % 2)))
    for each in layers:
        x, weight, bias, multiplier, residual = each.numbers
        each.__dict__["numbers"] = (x, weight, bias, multiplier * np.float32(300), residual)
    cases = []
    for each in layers:
        for bounded in (False, True):
            kernel = each.kernel(NATIVE, default_tiling=True)
            cases.append((each, replace(kernel, epilogue=replace(kernel.epilogue, bounded=bounded))))
    functions = build(NATIVE, [each.prim_func(kernel) for each, kernel in cases])
    for (each, kernel), function in zip(cases, functions, strict=True):
        np.testing.assert_array_equal(each.run(function, kernel), each.expected, str(kernel.epilogue))


# Float


FLOATS = [
    (Geometry(2, 6, 7, 5, 19, (3, 3), (1, 1), (1, 1, 1, 1)), Activation()),
    (Geometry(1, 9, 9, 3, 32, (3, 3), (2, 2), (1, 1, 1, 1)), Activation(0.0)),
    (Geometry(1, 7, 7, 16, 24), Activation(0.0, 6.0, True)),
    (Geometry(1, 8, 8, 12, 12, (3, 3), (1, 1), (2, 2, 2, 2), (2, 2), 3), Activation(None, None, True)),
    (Geometry(1, 1, 5, 37, 10), Activation(-1.0, 1.0)),
    (Geometry(1, 9, 7, 4, 8, (1, 1), (2, 2)), Activation()),
    (Geometry(1, 7, 9, 4, 8, (2, 3), (1, 2), (1, 0, 2, 3)), Activation(0.0)),
]


@pytest.mark.parametrize("isa", [NATIVE, PLAIN], ids=lambda isa: isa.name)
def test_float_kernels_are_convolutions(isa: Isa) -> None:
    tilings = [default_tiling(isa, g, 2, False) for g, _ in FLOATS]
    functions = build(isa, [conv2d(isa, g, t, e) for (g, e), t in zip(FLOATS, tilings, strict=True)])
    for (g, epilogue), tiling, function in zip(FLOATS, tilings, functions, strict=True):
        check_float(isa, g, epilogue, tiling, function)


def check_float(isa: Isa, g: Geometry, epilogue: Epilogue, tiling: Tiling, function: Any) -> None:
    assert isinstance(epilogue, Activation)
    x = RNG.normal(size=(g.batch, g.channels, g.height, g.width)).astype(np.float32)
    w = RNG.normal(size=(g.outputs, g.depth, *g.window)).astype(np.float32)
    b = RNG.normal(size=g.outputs).astype(np.float32)
    expected = convolve(g, x, w, b)
    residual = RNG.normal(size=expected.shape).astype(np.float32)
    scale = np.abs(expected).max()
    if epilogue.residual:
        expected = expected + residual
    low, high = (-np.inf if epilogue.low is None else epilogue.low), epilogue.high
    expected = np.clip(expected, low, np.inf if high is None else high)
    packed = [pack_weight(isa, g, tiling.vectors, w), pack_channels(isa, g, b)]
    extra = [nhwc(residual)] if epilogue.residual else []
    tensors = [tvm.runtime.tensor(each) for each in (nhwc(x), *packed, *extra, nhwc(np.zeros_like(residual)))]
    function(*tensors)
    result = tensors[-1].numpy().transpose(0, 3, 1, 2)
    assert np.abs(result - expected).max() <= 1e-5 * scale, str(g)
