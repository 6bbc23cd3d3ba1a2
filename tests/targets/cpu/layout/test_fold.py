from dataclasses import replace

import numpy as np
import pytest
import tvm

from tersor.targets.cpu.host.detect import Host
from tersor.targets.cpu.host.isa import AMX
from tersor.targets.cpu.kernels.tile_conv2d import tile_order
from tersor.targets.cpu.layout.fold import fold_moves, fold_of, folded, products
from tersor.targets.cpu.layout.geometry import Geometry, Tiling
from tersor.targets.cpu.layout.order import Order
from tersor.targets.cpu.mapping.tile_tiling import default_tile_tiling
from tests.quantized_layers import QuantizedLayer, convolve
from tests.targets.cpu.kernels.test_choice import NATIVE, runnable

RESNET = Geometry(1, 224, 224, 3, 64, (7, 7), (2, 2), (3, 3, 3, 3))


def test_a_wide_window_on_few_channels_needs_fewer_products() -> None:
    assert fold_of(RESNET) == 2
    assert (products(RESNET), products(folded(RESNET))) == (7, 4)
    assert folded(RESNET) == Geometry(1, 115, 230, 6, 64, (4, 7), (1, 2))


@pytest.mark.parametrize(
    "g",
    [
        replace(RESNET, window=(3, 3), padding=(1, 1, 1, 1)),  # hidden behind the epilogue anyway
        replace(RESNET, channels=16),
        replace(RESNET, stride=(1, 1)),
        replace(RESNET, stride=(8, 8)),
        replace(RESNET, dilation=(2, 2)),
        replace(RESNET, width=6),
        replace(RESNET, channels=4, groups=2),
    ],
)
def test_what_gains_nothing_stays_as_it_is(g: Geometry) -> None:
    assert fold_of(g) == 1
    assert folded(g) is g
    assert fold_moves(g) == ()


@pytest.mark.parametrize("stride", [2, 3])
def test_the_folded_convolution_is_the_same(stride: int) -> None:
    g = Geometry(1, 13, 18, 2, 3, (5, 7), (stride, 2), (2, 3, 1, 2))
    seen, rng = folded(g), np.random.default_rng(0)
    assert seen is not g
    assert (seen.out_height, seen.out_width) == (g.out_height, g.out_width)
    x, weight = rng.normal(size=(1, 2, 13, 18)), rng.normal(size=(3, 2, 5, 7))
    padded = np.zeros((1, 2, seen.height * stride, seen.width))
    inside = np.pad(x, ((0, 0), (0, 0), (2, 1), (3, 2)))[:, :, : seen.height * stride]
    padded[:, :, : inside.shape[2]] = inside
    rows = padded.reshape(1, 2, seen.height, stride, seen.width).transpose(0, 3, 1, 2, 4)
    image = rows.reshape(1, 2 * stride, seen.height, seen.width)
    bias = np.zeros(3)
    np.testing.assert_allclose(
        convolve(seen, image, Order(fold_moves(g))(weight), bias), convolve(g, x, weight, bias), atol=1e-12
    )


def test_every_weight_of_a_folded_layer_is_packed_exactly_once() -> None:
    weight = np.random.default_rng(0).choice([-2, -1, 1, 2], (64, 3, 7, 7)).astype(np.int8)
    packed = tile_order(RESNET)(weight)
    assert packed.size == 64 * 4 * 44
    np.testing.assert_array_equal(np.sort(packed[packed != 0]), np.sort(weight.ravel()))


@pytest.mark.parametrize(
    "g",
    [
        Geometry(1, 30, 37, 3, 20, (7, 7), (2, 2), (3, 3, 3, 3)),
        Geometry(2, 17, 16, 1, 16, (9, 9), (2, 1), (4, 4, 3, 3)),
        Geometry(1, 22, 20, 4, 33, (6, 5), (3, 2), (0, 1, 2, 3)),
        Geometry(1, 19, 21, 2, 5, (5, 11), (4, 3), (1, 0, 0, 2)),
    ],
    ids=str,
)
def test_folded_layers_are_arithmetic_in_any_tiling(g: Geometry) -> None:
    assert fold_of(g) > 1
    layer, isa = QuantizedLayer(g, False, 131, 100, (0, 255), None, False, 1), runnable(AMX)
    tilings = [default_tile_tiling(isa, g, 2), Tiling(1, 1, 2, 1), Tiling(2, 1, g.out_height - 1, 1)]
    kernels = [replace(layer.kernel(isa), tiling=tiling) for tiling in tilings]
    functions = {
        f"f{i}": layer.prim_func(kernel).with_attr("global_symbol", f"f{i}")
        for i, kernel in enumerate(kernels)
    }
    library = tvm.tirx.build(tvm.IRModule(functions), target=Host(NATIVE, 2).target)
    for name, kernel in zip(functions, kernels, strict=True):
        np.testing.assert_array_equal(layer.run(library[name], kernel), layer.expected, str(kernel.tiling))
