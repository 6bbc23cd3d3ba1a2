import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tvm

from tersor.targets.cpu.host.detect import Host, detect
from tersor.targets.cpu.host.isa import AVX2, PLAIN, Isa
from tersor.targets.cpu.kernels.conv2d import conv2d
from tersor.targets.cpu.kernels.epilogue import Activation, Epilogue, Residual
from tersor.targets.cpu.layout.geometry import Geometry, Tiling
from tersor.targets.cpu.layout.halo import Halo, Halos
from tersor.targets.cpu.layout.packing import pack_channels, weight_order
from tersor.targets.cpu.mapping.tiling import default_tiling
from tests.quantized_layers import QuantizedLayer, convolve, nhwc

NATIVE = detect().isa.vector_unit  # tiles are `test_tile_conv2d`'s
RNG = np.random.default_rng(0)


def build(isa: Isa, functions: list[Any]) -> list[Any]:
    named = {f"f{i}": function.with_attr("global_symbol", f"f{i}") for i, function in enumerate(functions)}
    library = tvm.tirx.build(tvm.IRModule(named), target=Host(isa, 2).target)
    return [library[name] for name in named]


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


def test_steps_that_are_written_out_give_the_same_codes() -> None:
    each = layer(Geometry(1, 5, 6, 16, 24, (3, 3), padding=(1, 1, 1, 1), dilation=(1, 2)), False, 3)
    kernel = each.kernel(NATIVE)
    kernels = [replace(kernel, tiling=replace(kernel.tiling, steps=steps)) for steps in (1, 2, 4)]
    for function, written in zip(build(NATIVE, [each.prim_func(k) for k in kernels]), kernels, strict=True):
        np.testing.assert_array_equal(each.run(function, written), each.expected, str(written.tiling))
    with pytest.raises(ValueError, match="steps"):
        replace(kernel, tiling=replace(kernel.tiling, steps=3)).prim_func((1, 5, 6, 16), (1, 5, 6, 24))


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
    packed = [weight_order(isa, g, tiling.vectors, w.dtype)(w), pack_channels(isa, g, b)]
    extra = [nhwc(residual)] if epilogue.residual else []
    tensors = [tvm.runtime.tensor(each) for each in (nhwc(x), *packed, *extra, nhwc(np.zeros_like(residual)))]
    function(*tensors)
    result = tensors[-1].numpy().transpose(0, 3, 1, 2)
    assert np.abs(result - expected).max() <= 1e-5 * scale, str(g)


def test_no_sum_is_spilled_while_it_is_summed() -> None:
    """A bound of the epilogue stays out of the registers until the epilogue (`Host.target` sees to it)."""
    g = Geometry(1, 28, 28, 256, 64)
    halos = Halos(output=Halo((1, 1, 1, 1)))
    function = conv2d(AVX2, g, default_tiling(AVX2, g, 1, False), Activation(low=0.0), halos=halos)
    mod = tvm.IRModule({"f": function.with_attr("global_symbol", "f")})
    library: Any = tvm.tirx.build(mod, target=Host(AVX2, 1).target)
    blocks = re.split(r"^\.LBB\S+:", library.inspect_source("asm"), flags=re.MULTILINE)
    loops = [block for block in blocks if block.count("vfmadd") >= 12]
    assert loops
    assert not any("(%rsp)" in loop[: loop.rindex("vfmadd")] for loop in loops)
