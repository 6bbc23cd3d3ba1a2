"""Chooser: which kernel each use of a layer gets, with which tiling and packing of its weight."""

from collections.abc import Mapping
from dataclasses import replace

from tersor.ir.graph import shape_of
from tersor.targets.cpu.host.isa import Isa
from tersor.targets.cpu.kernels.choice import (
    Kernel,
    Packing,
    choose_kernel,
    conv_geometry,
    dense_geometry,
)
from tersor.targets.cpu.kernels.product import ProductKernel
from tersor.targets.cpu.layout.geometry import Geometry
from tersor.targets.cpu.mapping.nest import CONVOLUTION, DENSE, Nest
from tersor.targets.cpu.mapping.planned import PlannedMappings
from tersor.targets.cpu.mapping.tile_nest import TileNest
from tersor.targets.cpu.partition import Composite, ProductComposite


class Chooser:
    """Chooses kernels; however often a weight is used, it is packed in one way, which `packing` has then."""

    def __init__(
        self, isa: Isa, cores: int, packing: Mapping[str, Packing], mappings: PlannedMappings
    ) -> None:
        self.isa = isa
        self.cores = cores
        self.packing = dict(packing)
        self.mappings = mappings

    def convolution(self, composite: Composite) -> Kernel:
        """Choose the kernel of a convolution, on images without halos."""
        geometry = conv_geometry(
            shape_of(composite.data), composite.weight.shape, composite.attributes, composite.padding
        )
        return self._kernel(geometry, composite)

    def dense(self, composite: Composite) -> Kernel:
        """Choose the kernel of a product with a weight."""
        outputs = shape_of(composite.result)[-1]
        return self._kernel(dense_geometry(shape_of(composite.data), outputs), composite)

    def product(self, composite: ProductComposite) -> ProductKernel:
        """Choose the kernel of a product of two activations."""
        kernel = ProductKernel(
            self.isa.vector_unit,
            self.cores,
            composite.left,
            composite.right,
            composite.out,
            composite.epilogue,
            composite.zero_point,
        )
        return replace(kernel, given=self.mappings.tiling(composite.layer, kernel.nest, kernel.tiling))

    def _kernel(self, geometry: Geometry, composite: Composite) -> Kernel:
        packing = self.packing.get(composite.layer)
        kernel = choose_kernel(
            self.isa,
            self.cores,
            geometry,
            composite.epilogue,
            composite.zero_point,
            packing,
        )
        vectors = packing.vectors if packing is not None else None
        tiling = self.mappings.tiling(composite.layer, nest_of(kernel, composite), kernel.tiling, vectors)
        kernel = replace(kernel, tiling=tiling)
        self.packing.setdefault(composite.layer, kernel.packing)
        return kernel


def nest_of(kernel: Kernel, composite: Composite) -> Nest | TileNest:
    """Give the loops of a layer that the kernel's tiling is one of."""
    return kernel.nest(DENSE if composite.operator == "matmul" else CONVOLUTION)
