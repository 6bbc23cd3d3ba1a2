"""Workload: a kernel that is to be mapped, as it is for all layers of its shape, with arguments for runs."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from tersor.targets.cpu.calls import Use
from tersor.targets.cpu.kernels.choice import Kernel
from tersor.targets.cpu.kernels.epilogue import Activation, Epilogue, Requantize, Rescale, Residual
from tersor.targets.cpu.kernels.product import ProductKernel
from tersor.targets.cpu.layout.geometry import Geometry, Tiling
from tersor.targets.cpu.mapping.nest import Nest
from tersor.targets.cpu.mapping.tile_nest import TileNest

Array = npt.NDArray[Any]

# Bytes of weights that pass through the caches between two runs of a layer: each run reads other copies.
COLD_BYTES = 8 << 20
MOST_COPIES = 32


@dataclass(frozen=True)
class Workload:
    """A kernel without what only one layer has: zero points, bounds and numbers.

    `free` says that a layer may be packed for any tile; else the tile keeps the width that it has.
    """

    kernel: Kernel | ProductKernel
    nest: Nest | TileNest
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    free: bool = True

    @classmethod
    def of(cls, use: Use, free: bool) -> "Workload":
        """Give the workload of one use of a layer."""
        kernel = use.kernel
        epilogue = _typical(kernel.epilogue)
        zero_point = 5 if epilogue.accumulator == "int32" else 0
        return cls(
            replace(kernel, epilogue=epilogue, zero_point=zero_point),
            use.nest,
            use.in_shape,
            use.out_shape,
            free,
        )

    @property
    def default(self) -> Tiling:
        """The analytic tiling."""
        return self.kernel.tiling

    @property
    def integer(self) -> bool:
        """Whether its results are to be equal to the bit."""
        return self.kernel.epilogue.output == "uint8"

    @property
    def name(self) -> str:
        """Name the shape: output channels, window, inputs and pixels."""
        g = self.nest.geometry
        window = "" if g.window == (1, 1) else f" {g.window[0]}x{g.window[1]}"
        return f"{self.kernel.name.rsplit(' ', 1)[0]}{window} {g.channels}->{g.outputs} at {_pixels(g)}"

    def mapped(self, tiling: Tiling) -> Kernel | ProductKernel:
        """Give the kernel with another tiling."""
        if isinstance(self.kernel, ProductKernel):
            return replace(self.kernel, given=tiling)
        return replace(self.kernel, tiling=tiling)

    def prim_func(self, tiling: Tiling) -> Any:
        """Build the kernel's function."""
        kernel = self.mapped(tiling)
        if isinstance(kernel, ProductKernel):
            return kernel.prim_func()
        return kernel.prim_func(self.in_shape, self.out_shape)

    @cached_property
    def digest(self) -> str:
        """A hash of the code of the kernel as it is by default: of all that a measurement depends on."""
        return hashlib.sha256(self.prim_func(self.default).script().encode()).hexdigest()

    def arguments(self, tiling: Tiling, function: Any) -> list[list[Array]]:
        """Draw the arguments of runs, the result's place last; each run has another copy of the weight.

        All tilings get the same numbers, in their own packing.
        """
        rng = np.random.default_rng(0)
        names = [str(buffer.name) for buffer in function.params]
        drawn = {
            name: self._draw(rng, name, [int(extent) for extent in buffer.shape], str(buffer.dtype))
            for name, buffer in zip(names, function.params, strict=True)
            if name != "w"
        }
        kernel = self.mapped(tiling)
        if isinstance(kernel, ProductKernel):
            return [[drawn[name] for name in names]]
        g = self.nest.geometry
        shape = (g.outputs, g.depth, *g.window)
        integer = kernel.epilogue.accumulator == "int32"
        weight = rng.integers(-127, 128, shape).astype(np.int8) if integer else _normal(rng, shape)
        packed = kernel.pack_weight(weight)
        copies = max(1, min(MOST_COPIES, COLD_BYTES // packed.nbytes))
        return [[{**drawn, "w": packed.copy()}[name] for name in names] for _ in range(copies)]

    def _draw(self, rng: np.random.Generator, name: str, shape: list[int], dtype: str) -> Array:
        if name == "multiplier":  # brings the sums of random codes to some tens of steps
            deviation = 147 * 73 * sqrt(self.nest.geometry.run_length * len(self.nest.geometry.runs))
            return (rng.uniform(0.5, 1.5, shape) * (30 / deviation)).astype(np.float32)
        if dtype == "float32":
            return _normal(rng, shape)
        if dtype == "int32":
            return rng.integers(-1000, 1000, shape).astype(np.int32)
        return rng.integers(0, 256, shape).astype(dtype)


def workloads(uses: Iterable[Use]) -> dict[Workload, tuple[Use, ...]]:
    """Give the different workloads of a network, and the uses that each stands for.

    A layer that is used in several shapes has one packed weight, so its tiles keep their width.
    """
    uses = list(uses)
    shapes: dict[str, set[Nest | TileNest]] = {}
    for use in uses:
        shapes.setdefault(use.layer, set()).add(use.nest)
    found: dict[Workload, tuple[Use, ...]] = {}
    for use in uses:
        workload = Workload.of(use, free=len(shapes[use.layer]) == 1)
        found[workload] = (*found.get(workload, ()), use)
    return found


def _typical(epilogue: Epilogue) -> Epilogue:
    match epilogue:
        case Requantize():
            residual = None if epilogue.residual is None else Residual(0.5, 7)
            return Requantize(3, residual=residual, bounded=epilogue.bounded)
        case Rescale():
            return epilogue
        case Activation():
            return Activation(0.0, residual=epilogue.residual)


def _normal(rng: np.random.Generator, shape: Iterable[int]) -> Array:
    return rng.standard_normal(tuple(shape)).astype(np.float32)


def _pixels(g: Geometry) -> str:
    images = f"{g.batch} x " if g.batch > 1 else ""
    return f"{images}{g.out_height}x{g.out_width}" if prod((g.out_height, g.out_width)) > 1 else f"{images}1"
