from dataclasses import replace

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st

from tersor.targets.cpu.host.detect import Host, detect
from tersor.targets.cpu.host.isa import AVX2, AVX512_VNNI, ISAS, PLAIN, Isa
from tersor.targets.cpu.kernels.depthwise import (
    default_depthwise_tiling,
    depthwise,
    depthwise_order,
    pack_depthwise_channels,
)
from tersor.targets.cpu.kernels.epilogue import Activation, Residual
from tersor.targets.cpu.layout.geometry import Geometry, Tiling
from tests.quantized_layers import QuantizedLayer, convolve, mismatches, nhwc

NATIVE = detect().isa
RNG = np.random.default_rng(0)


def over(channels: int, window: tuple[int, int], **more: object) -> Geometry:
    g = Geometry(1, 7, 9, channels, channels, window, groups=channels)
    return replace(g, **more)  # pyright: ignore[reportArgumentType]


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.integers(2, 40), st.integers(1, 5), st.integers(1, 5), st.sampled_from(ISAS), st.booleans())
def test_every_weight_is_packed_exactly_once(
    channels: int, rows: int, columns: int, isa: Isa, integer: bool
) -> None:
    g = over(channels, (rows, columns))
    shape = (channels, 1, rows, columns)
    weight = np.arange(1, np.prod(shape) + 1).reshape(shape).astype(np.float32)
    if integer:
        weight = (weight % 127 + 1).astype(np.int8)
    packed = depthwise_order(isa, g, weight.dtype)(weight)
    np.testing.assert_array_equal(np.sort(packed[packed != 0]), np.sort(weight.ravel()))


@given(st.integers(2, 40), st.sampled_from(ISAS))
def test_every_channel_is_packed_exactly_once_in_order(channels: int, isa: Isa) -> None:
    values = np.arange(1, channels + 1, dtype=np.int32)
    packed = pack_depthwise_channels(isa, over(channels, (3, 3)), values)
    np.testing.assert_array_equal(packed[:channels], values)
    assert packed.size % isa.lanes == 0
    assert not packed[channels:].any()


GEOMETRIES = [
    over(8, (3, 3), padding=(1, 1, 1, 1)),
    over(16, (3, 3)),
    over(21, (3, 3), stride=(2, 2), padding=(1, 1, 1, 1), batch=2),
    over(32, (5, 5), stride=(1, 2), padding=(2, 2, 2, 2)),
    over(24, (2, 3), dilation=(2, 2), padding=(1, 2, 0, 3)),
    over(19, (1, 1)),
    over(19, (1, 1), stride=(2, 2)),
    over(16, (1, 1), stride=(2, 3)),
    over(8, (1, 3), padding=(0, 1, 0, 1), stride=(3, 1)),
    over(40, (4, 1), padding=(2, 0, 1, 0)),
    over(3, (7, 9)),
]


def failures(isa: Isa, residual: bool) -> list[str]:
    layers = [
        QuantizedLayer(g, False, 40, 90, (0, 255), Residual(0.7, 9) if residual else None, False, seed)
        for seed, g in enumerate(GEOMETRIES)
    ]
    kernels = [layer.kernel(isa, default_tiling=True) for layer in layers]
    return mismatches(layers, kernels, isa)


@pytest.mark.parametrize("residual", [False, True])
def test_integer_kernels_are_arithmetic(residual: bool) -> None:
    assert failures(NATIVE, residual) == []


def test_plain_kernels_are_arithmetic() -> None:
    assert failures(PLAIN, True) == []


@pytest.mark.slow
@pytest.mark.parametrize("isa", [AVX2, AVX512_VNNI], ids=lambda isa: isa.name)
def test_descriptions_are_arithmetic(isa: Isa) -> None:
    assert failures(isa.described(), True) == []


def test_any_tiling_gives_the_same_codes() -> None:
    layer = QuantizedLayer(
        over(40, (3, 3), padding=(1, 1, 1, 1)), False, 40, 90, (0, 255), None, False, 1
    )  # fmt: skip
    tilings = [Tiling(1, 1, 1, 1), Tiling(3, 2, 2, 1), Tiling(9, 1, 7, 1), Tiling(4, 3, 5, 1)]
    kernels = [replace(layer.kernel(NATIVE), tiling=tiling) for tiling in tilings]
    functions = {
        f"f{i}": layer.prim_func(kernel).with_attr("global_symbol", f"f{i}")
        for i, kernel in enumerate(kernels)
    }
    library = tvm.tirx.build(tvm.IRModule(functions), target=Host(NATIVE, 2).target)
    for i, kernel in enumerate(kernels):
        np.testing.assert_array_equal(layer.run(library[f"f{i}"], kernel), layer.expected, str(kernel.tiling))


def test_float_kernels_are_convolutions() -> None:
    isa = NATIVE
    tilings = [default_depthwise_tiling(isa, g, 2, False) for g in GEOMETRIES]
    epilogue = Activation(0.0, 3.0, True)
    functions = {
        f"f{i}": depthwise(isa, g, tiling, epilogue).with_attr("global_symbol", f"f{i}")
        for i, (g, tiling) in enumerate(zip(GEOMETRIES, tilings, strict=True))
    }
    library = tvm.tirx.build(tvm.IRModule(functions), target=Host(isa, 2).target)
    for i, g in enumerate(GEOMETRIES):
        x = RNG.normal(size=(g.batch, g.channels, g.height, g.width)).astype(np.float32)
        w = RNG.normal(size=(g.channels, 1, *g.window)).astype(np.float32)
        b = RNG.normal(size=g.channels).astype(np.float32)
        plain = convolve(g, x, w, b)
        residual = RNG.normal(size=plain.shape).astype(np.float32)
        packed = [depthwise_order(isa, g, w.dtype)(w), pack_depthwise_channels(isa, g, b)]
        arrays = (nhwc(x), *packed, nhwc(residual), nhwc(np.zeros_like(residual)))
        tensors = [tvm.runtime.tensor(each) for each in arrays]
        library[f"f{i}"](*tensors)
        result = tensors[-1].numpy().transpose(0, 3, 1, 2)
        error = np.abs(result - np.clip(plain + residual, 0, 3)).max()
        assert error <= 1e-5 * np.abs(plain).max(), str(g)


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("cores", [1, 2, 7])
def test_default_tilings_fit_the_image(isa: Isa, cores: int) -> None:
    for g in GEOMETRIES:
        tiling = default_depthwise_tiling(isa, g, cores, True)
        assert 1 <= tiling.pixels <= g.out_width
        assert 1 <= tiling.rows <= g.out_height
