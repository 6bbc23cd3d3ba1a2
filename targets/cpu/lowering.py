"""PlanLayouts and Lower: composites become kernels on channels-last tensors, packed once at the edges.

Kernels read and write NHWC. Every tensor of rank 4 is kept in the layout in which it was made, and is brought
to the other one only where something needs it there; operators that do not care follow their operand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tersor.ir.graph import Builder, Graph, Module
from tersor.ir.recurrent import find_recurrences
from tersor.ir.weight_chains import find_chains_of_weights
from tersor.mapping import Mapping as LoopMapping
from tersor.targets.cpu.calls import Calls, KernelCall, Use, kernel_calls
from tersor.targets.cpu.chooser import Chooser
from tersor.targets.cpu.decoding import (
    DecodedWeight,
    decode_at_run_time,
    with_dense_weights,
)
from tersor.targets.cpu.following import Followers
from tersor.targets.cpu.fusion import fuse_rows
from tersor.targets.cpu.halo_plan import plan_halos
from tersor.targets.cpu.host.isa import Isa
from tersor.targets.cpu.kernels.choice import Packing
from tersor.targets.cpu.layout.order import Arrangement
from tersor.targets.cpu.mapping.planned import PlannedMappings
from tersor.targets.cpu.partition import partition, partition_products
from tersor.targets.cpu.tensors import Tensors


@dataclass(frozen=True)
class Lowered:
    """A module of kernels, the name of the kernel that each layer got, and how its weight is packed.

    `calls` are the layers' kernels in the order in which they run.
    """

    mod: Module
    kernels: dict[str, str] = field(default_factory=dict)
    packing: dict[str, Packing] = field(default_factory=dict)
    mappings: PlannedMappings = field(default_factory=lambda: PlannedMappings({}))  # and which of them ran
    calls: tuple[KernelCall, ...] = ()
    uses: tuple[Use, ...] = ()
    decoded: dict[str, DecodedWeight] = field(default_factory=dict)  # by layer


def lower(
    mod: Module,
    isa: Isa,
    cores: int,
    packing: Mapping[str, Packing] | None = None,
    mappings: Mapping[str, Sequence[LoopMapping]] | None = None,
) -> Lowered:
    """Swap kernels in for all composites and plan the layouts around them.

    Layers in `packing` get their weights packed so, as in another module that they are to share them with;
    those in `mappings` run in the first of theirs that covers them (see `planned`).
    """
    chooser = Chooser(isa, cores, packing or {}, PlannedMappings(mappings or {}))
    chains = find_chains_of_weights(mod)
    lowered, arranged = _rewrite(Graph(with_dense_weights(mod, chains)), chooser)
    lowered = replace(lowered, mod=fuse_rows(lowered.mod, isa))
    if not chains:
        return lowered
    decoding, decoded = decode_at_run_time(lowered.mod, mod, chains, arranged)
    kernels = {
        layer: f"decoded once + {name}" if layer in decoded else name
        for layer, name in lowered.kernels.items()
    }
    return replace(lowered, mod=decoding, kernels=kernels, decoded=decoded)


def _rewrite(graph: Graph, chooser: Chooser) -> tuple[Lowered, dict[str, tuple[str, Arrangement]]]:
    """Emit every binding in its layout; give with it of which weight each constant is, in which order."""
    composites, products = partition(graph), partition_products(graph)
    recurrences = {each.variable: each for each in find_recurrences(graph)}
    convolutions = {
        var: chooser.convolution(composite)
        for var, composite in composites.items()
        if composite.operator == "nn.conv2d"
    }
    builder = Builder(graph)
    halos = plan_halos(graph, composites, convolutions)
    tensors = Tensors(graph, builder, chooser.isa.vector_unit, halos)
    calls = Calls(graph, builder, tensors, chooser)
    followers = Followers(graph, builder, tensors, composites)
    inside = {var for each in (*composites.values(), *products.values()) for var in each.interior}
    for var, value in graph.bindings:
        if var in inside:
            continue
        if var in convolutions:
            calls.emit_convolution(composites[var], convolutions[var])
        elif var in composites:
            calls.emit_dense(composites[var])
        elif var in products:
            calls.emit_product(products[var])
        elif var in recurrences:
            calls.emit_recurrence(recurrences[var], value)
        else:
            followers.emit(var, value)
    mod = builder.finish([tensors.channels_first(output) for output in graph.outputs])
    emitted = tuple(kernel_calls(mod, calls.made))
    uses = tuple(calls.uses)
    lowered = Lowered(mod, calls.kernels, chooser.packing, chooser.mappings, emitted, uses)
    return lowered, tensors.arranged
