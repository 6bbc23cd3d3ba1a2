"""Numpy and the PrimFunc of an order bring a weight to the same place, in every family of kernels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import tvm

from tersor.targets.cpu.host.isa import AMX, AVX2, AVX512_VNNI, PLAIN, Isa
from tersor.targets.cpu.kernels.choice import dense_order
from tersor.targets.cpu.kernels.depthwise import depthwise_order
from tersor.targets.cpu.kernels.recurrent import RecurrentOrder
from tersor.targets.cpu.kernels.tile_conv2d import tile_order
from tersor.targets.cpu.layout.fold import fold_of
from tersor.targets.cpu.layout.geometry import Geometry
from tersor.targets.cpu.layout.order import Arrangement, Insert, Join, Order, Permute, Reshape, Take
from tersor.targets.cpu.layout.packing import weight_order

RNG = np.random.default_rng(0)
Shape = tuple[int, ...]
ODD = [
    Geometry(1, 9, 9, 3, 5, (3, 3)),
    Geometry(1, 9, 9, 17, 33, (1, 3)),
    Geometry(1, 9, 9, 14, 26, (3, 2), groups=2),
    Geometry(1, 9, 9, 5, 40, (2, 3), dilation=(1, 2)),
    Geometry(1, 9, 9, 66, 17),
]
DTYPES = [np.dtype("int8"), np.dtype("float32")]


def check(cases: Sequence[tuple[Arrangement, Shape, np.dtype[Any]]]) -> None:
    """Compile the PrimFuncs of all cases at once, and compare them with numpy on distinct numbers."""
    functions = {
        f"f{i}": arrangement.function(shape, str(dtype)).with_attr("global_symbol", f"f{i}")
        for i, (arrangement, shape, dtype) in enumerate(cases)
    }
    built: Any = tvm.compile(tvm.IRModule(functions), tvm.target.Target({"kind": "llvm"}))
    for name, (arrangement, shape, dtype) in zip(functions, cases, strict=True):
        count = int(np.prod(shape))
        values = np.arange(1, count + 1) if dtype == np.float32 else RNG.integers(-127, 128, count)
        weight = values.reshape(shape).astype(dtype)
        expected = arrangement(weight)
        result = tvm.runtime.tensor(np.full(expected.shape, 99, dtype))
        built[name](tvm.runtime.tensor(weight), result)
        np.testing.assert_array_equal(result.numpy(), expected)


def weight_shape(g: Geometry) -> Shape:
    return g.outputs, g.depth, *g.window


@pytest.mark.parametrize("isa", [AVX2, AVX512_VNNI, PLAIN], ids=lambda isa: isa.name)
def test_weights_in_blocks_of_vectors(isa: Isa) -> None:
    check(
        [
            (weight_order(isa, g, vectors, dtype), weight_shape(g), dtype)
            for g in ODD
            for vectors in (1, 3)
            for dtype in DTYPES
        ]
    )


def test_dense_weights() -> None:
    g = Geometry(1, 1, 4, 35, 21)
    orders = [weight_order(isa, g, 2, dtype) for isa in (AVX2, AVX512_VNNI) for dtype in DTYPES]
    check(
        [
            (dense_order(order, 35, 21), (35, 21), dtype)
            for order, dtype in zip(orders, DTYPES * 2, strict=True)
        ]
    )


def test_weights_as_tiles() -> None:
    """Among them runs whose last piece reads inputs again, and a strided first layer, which is folded."""
    strided = Geometry(1, 64, 64, 3, 20, (7, 7), (2, 2), (3, 3, 3, 3))
    overlapping = [Geometry(1, 9, 9, 66, 20, (3, 1)), Geometry(1, 9, 9, 130, 3)]
    assert fold_of(strided) == 2
    check([(tile_order(g), weight_shape(g), DTYPES[0]) for g in [*ODD, *overlapping, strided]])


def test_depthwise_weights() -> None:
    kinds = [
        Geometry(1, 9, 9, channels, channels, (rows, 3), groups=channels)
        for channels in (5, 16, 33)
        for rows in (1, 3)
    ]
    check(
        [
            (depthwise_order(isa, g, dtype), weight_shape(g), dtype)
            for isa in (AVX2, AVX512_VNNI)
            for g in kinds
            for dtype in DTYPES
        ]
    )


@pytest.mark.parametrize("isa", [AVX2, AVX512_VNNI, AMX.vector_unit], ids=lambda isa: isa.name)
def test_recurrent_weights_with_the_sums_behind_them(isa: Isa) -> None:
    check([(RecurrentOrder(isa), (hidden, 4 * hidden), DTYPES[0]) for hidden in (16, 48)])


def test_moves_of_axes() -> None:
    twice = Join(1, Order((Take(1, 2, 4),)), Order((Permute((0, 1)), Take(1, 0, 3))))
    check(
        [
            (Order((Insert(0, 0, 2), Insert(1, 2, 1), Insert(1, 6, 2))), (3, 5), DTYPES[1]),
            (Order((Reshape((5, 3)), Permute((1, 0)), Reshape((15,)))), (3, 5), DTYPES[1]),
            (Order((twice,)), (3, 5), DTYPES[1]),
            (Order(), (3, 5), DTYPES[1]),
        ]
    )
    assert Order((twice,)).shape((3, 5)) == (3, 5)
