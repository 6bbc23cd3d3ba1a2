"""Which tensors are stored with a halo: those that only kernels read, one of which then copies nothing.

An output may be such a tensor: it is brought to channels first anyhow, and loses its halo on the way.
"""

from collections.abc import Mapping
from dataclasses import replace

from tersor.ir.graph import Expr, Graph
from tersor.targets.cpu.kernels.choice import Kernel
from tersor.targets.cpu.layout.halo import Halo, Halos
from tersor.targets.cpu.partition import Composite


def plan_halos(
    graph: Graph, composites: Mapping[Expr, Composite], kernels: Mapping[Expr, Kernel]
) -> dict[Expr, Halo]:
    """Choose the halo of each image that a convolution writes, by its variable; most images have none.

    `kernels` are those of the convolutions among the composites, by the variables of their results.
    """
    halos = {}
    for var, kernel in kernels.items():
        readers = [each for each in composites.values() if each.data.same_as(var)]
        adders = [each for each in composites.values() if var.same_as(each.residual)]
        known = all(each.result in kernels for each in (*readers, *adders))
        if not known or len(graph.users(var)) != len(readers) + len(adders):
            continue
        halo = Halo()
        for reader in readers:
            halo = halo.widened(reader.padding)
        padded = [reader for reader in readers if any(reader.padding)]
        filled = all(reader.zero_point == kernel.epilogue.zero_point for reader in padded)
        if filled and any(gains(kernels[reader.result], halo) for reader in padded):
            halos[var] = halo
    return halos


def gains(kernel: Kernel, halo: Halo) -> bool:
    """Whether a kernel runs faster on an image with a halo.

    A depthwise kernel copies bytes at hardly any cost, less than the rows of an image with a halo cost the
    kernel that writes them.
    """
    if kernel.geometry.is_depthwise and kernel.epilogue.accumulator == "int32":
        return False
    return replace(kernel, halos=Halos(input=halo)).reads_in_place
