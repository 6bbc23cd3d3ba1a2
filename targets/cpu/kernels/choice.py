"""Kernels: choose the family and the tiling for a composite, pack its constants, name what was chosen."""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from tersor.targets.cpu.host.isa import Isa
from tersor.targets.cpu.kernels.conv2d import Gemm, conv2d
from tersor.targets.cpu.kernels.depthwise import (
    Depthwise,
    default_depthwise_tiling,
    depthwise,
    depthwise_order,
    pack_depthwise_channels,
)
from tersor.targets.cpu.kernels.epilogue import Epilogue
from tersor.targets.cpu.kernels.tile_conv2d import TileGemm, tile_conv2d, tile_order
from tersor.targets.cpu.layout.geometry import Geometry, Tiling
from tersor.targets.cpu.layout.halo import NO_HALOS, Halos, Image
from tersor.targets.cpu.layout.order import Order, Permute, Reshape
from tersor.targets.cpu.layout.packing import pack_channels, weight_order
from tersor.targets.cpu.mapping.nest import Axes, Nest
from tersor.targets.cpu.mapping.tile_nest import TileNest
from tersor.targets.cpu.mapping.tile_tiling import default_tile_tiling, why_not_tiles
from tersor.targets.cpu.mapping.tiling import default_tiling

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Packing:
    """How a weight lies in memory: as tiles of the matrix unit, or in blocks of vectors of outputs."""

    vectors: int | None  # None: as tiles, which are the same in every tiling


@dataclass(frozen=True)
class Kernel:
    """A kernel for one geometry: its PrimFunc, and how its constants are packed for it."""

    isa: Isa
    geometry: Geometry
    tiling: Tiling
    epilogue: Epilogue
    zero_point: int
    halos: Halos = NO_HALOS

    @property
    def name(self) -> str:
        """Name the kernel for the report: family, precision, instruction set and register tile."""
        family = "depthwise" if self.geometry.is_depthwise else "conv2d" if self._is_image else "dense"
        precision = "int8" if self.epilogue.accumulator == "int32" else "fp32"
        return f"{family} {precision} {self.isa.name} {self.tiling.pixels}x{self.tiling.vectors}"

    def nest(self, axes: Axes) -> Nest | TileNest:
        """Give the loops that its tiling is one of."""
        if self.isa.tiles:
            return TileNest(self.geometry, axes)
        return Nest(self.isa, self.geometry, self.epilogue.accumulator == "int32", axes)

    @property
    def packing(self) -> Packing:
        """How the weight is packed, which another kernel of the same weight must agree to."""
        return Packing(None if self.isa.tiles else self.tiling.vectors)

    @property
    def _is_image(self) -> bool:
        return self.geometry.height > 1 or self.geometry.window != (1, 1)

    def prim_func(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> Any:
        """Build the PrimFunc for operands of these shapes (NHWC with halos, or [..., C] of a dense layer)."""
        g, tiling, epilogue = self.geometry, self.tiling, self.epilogue
        if g.is_depthwise:
            return depthwise(self.isa, g, tiling, epilogue, self.zero_point, self.halos)
        shapes = (in_shape, out_shape) if self.halos == NO_HALOS else (None, None)
        build = tile_conv2d if self.isa.tiles else conv2d
        return build(self.isa, g, tiling, epilogue, self.zero_point, *shapes, self.halos)

    @property
    def reads_in_place(self) -> bool:
        """Whether it reads its input where it is, and copies nothing."""
        return self.loops.reads_in_place

    @property
    def target(self) -> Image:
        """How its output lies in memory."""
        return self.loops.target

    @property
    def loops(self) -> Gemm | Depthwise | TileGemm:
        """The loops that it is made of."""
        loops = TileGemm if self.isa.tiles else Depthwise if self.geometry.is_depthwise else Gemm
        return loops(self.isa, self.geometry, self.tiling, self.epilogue, self.zero_point, self.halos)

    @property
    def weight_order(self) -> Order:
        """How a weight [K, C/groups, R, S] lies in memory."""
        if self.isa.tiles:
            return tile_order(self.geometry)
        dtype = np.dtype("int8" if self.epilogue.accumulator == "int32" else "float32")
        if self.geometry.is_depthwise:
            return depthwise_order(self.isa, self.geometry, dtype)
        return weight_order(self.isa, self.geometry, self.tiling.vectors, dtype)

    def pack_weight(self, weight: Array) -> Array:
        """Pack a weight [K, C/groups, R, S]."""
        return self.weight_order(weight)

    def pack_channels(self, values: Array) -> Array:
        """Pack values per output channel [K]."""
        if self.geometry.is_depthwise:
            return pack_depthwise_channels(self.isa, self.geometry, values)
        return pack_channels(self.isa, self.geometry, values)


def choose_kernel(
    isa: Isa,
    cores: int,
    geometry: Geometry,
    epilogue: Epilogue,
    zero_point: int,
    packing: Packing | None = None,
) -> Kernel:
    """Choose the kernel of a composite analytically; `packing` is what its weight already has."""
    integer = epilogue.accumulator == "int32"
    vectors = isa.vector_unit
    if geometry.is_depthwise:  # packed in one way only
        tiling = default_depthwise_tiling(vectors, geometry, cores, integer)
        return Kernel(vectors, geometry, tiling, epilogue, zero_point)
    tiling = default_tiling(vectors, geometry, cores, integer, packing.vectors if packing else None)
    if isa.tiles and integer:
        as_tiles = packing.vectors is None if packing else why_not_tiles(isa, geometry, cores) is None
        if as_tiles:
            tiled = default_tile_tiling(isa, geometry, cores)
            return Kernel(isa, geometry, tiled, epilogue, zero_point)
    return Kernel(vectors, geometry, tiling, epilogue, zero_point)


def conv_geometry(
    in_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    attributes: Any,
    padding: tuple[int, int, int, int],
) -> Geometry:
    """Describe a convolution of NCHW activations [N, C, H, W] with a weight [K, C/groups, R, S]."""
    batch, channels, height, width = in_shape
    rows, columns = (int(step) for step in attributes.strides)
    dilation = tuple(int(step) for step in attributes.dilation)
    return Geometry(
        batch,
        height,
        width,
        channels,
        weight_shape[0],
        (weight_shape[2], weight_shape[3]),
        (rows, columns),
        padding,
        (dilation[0], dilation[1]),
        int(attributes.groups),
    )


def dense_geometry(in_shape: tuple[int, ...], outputs: int) -> Geometry:
    """Describe a dense layer on [..., C] as a 1x1 convolution over a row of pixels."""
    return Geometry(1, 1, prod(in_shape[:-1]), in_shape[-1], outputs)


def dense_order(order: Order, channels: int, outputs: int) -> Order:
    """Give the order of a dense weight [C, K], given that of a weight [K, C, 1, 1]."""
    return order.after(Permute((1, 0)), Reshape((outputs, channels, 1, 1)))
