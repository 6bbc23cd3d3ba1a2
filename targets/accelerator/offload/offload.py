"""Offload: what a machine can run of an integer network is mapped, lowered and moved into regions.

whole network  ->  calls of regions, and between them what stays on the CPU, each with its reason
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from tersor.error import UserError
from tersor.hardware import Hardware
from tersor.ir.graph import Expr, Graph, Module
from tersor.ir.schemes import schemes_of
from tersor.layer import Layer
from tersor.loop_tree import homes_of, why_misplaced
from tersor.mapping import Mapping as LoopMapping
from tersor.targets.accelerator.isa.encoding import encode
from tersor.targets.accelerator.isa.epilogue import Epilogue, Requantize
from tersor.targets.accelerator.isa.program import AnyProgram
from tersor.targets.accelerator.legality import why_not as why_not_mapped
from tersor.targets.accelerator.lowering.lower import lower
from tersor.targets.accelerator.lowering.vector import lower_vector
from tersor.targets.accelerator.mapper.mapper import Mapper, Task
from tersor.targets.accelerator.offload.codegen import run_codegen
from tersor.targets.accelerator.offload.composite import ArrayWork, Composite, VectorWork, find_composites
from tersor.targets.accelerator.offload.partition import partition
from tersor.targets.accelerator.offload.refusals import Refusal, find_refusals, why_not
from tersor.targets.accelerator.offload.staying import Edges, Kept, Staying
from tersor.targets.accelerator.residency import Operands, home_level, with_size

Mappings = Mapping[str, Sequence[LoopMapping]]  # of layers, by name
Show = Callable[[int, int], None]  # how many are done, and of how many


@dataclass(frozen=True)
class OffloadedLayer:
    """What one program does: `kind` is conv2d, depthwise, matmul, product, add, ...; `macs` its products.

    The vector unit's programs have no mapping.
    """

    name: str
    kind: str
    program: AnyProgram
    mapping: LoopMapping | None
    macs: int


@dataclass(frozen=True)
class Offloaded:
    """A network whose regions run on a machine; what of it stays on the CPU, which tensors on the chip."""

    mod: Module
    layers: tuple[OffloadedLayer, ...]
    refusals: tuple[Refusal, ...]
    kept: tuple[Kept, ...] = ()

    @property
    def share(self) -> float:
        """The part of all products that the machine makes; 1 of a network without any."""
        made = sum(layer.macs for layer in self.layers)
        total = made + sum(refusal.macs for refusal in self.refusals)
        return made / total if total else 1.0


def offload(
    mod: Module,
    hardware: Hardware,
    mappings: Mappings | None = None,
    mapper: Mapper | None = None,
    show: Show = lambda done, of: None,
    edges: Edges = (),
) -> Offloaded:
    """Offload what `hardware` can run of an integer network, which says what its layers' schemes are.

    A layer, and each of those that a factorization made of it, runs by that of its `mappings`, all for this
    machine, that has its tensors where they are and covers it with the fewest iterations, else by the one
    that `mapper` finds to have the least product of cycles and energy; `show` hears how many shapes are
    mapped. Tensors on `edges` stay on the chip. Raises UserError for one that cannot.
    """
    graph = Graph(mod)
    composites = find_composites(graph, schemes_of(mod))
    staying = Staying.of(graph, composites, hardware, edges)
    lowering = _Lowering(hardware, mappings or {}, mapper or Mapper(hardware), staying)
    lowering.search(composites, show)
    taken: list[Composite] = []
    layers: list[OffloadedLayer] = []
    refused: dict[Expr, Refusal] = {}
    for composite in composites:
        reason = why_not(composite, hardware)
        lowered = reason or lowering.lowered(composite)
        if isinstance(lowered, str) and not reason and staying.kept:
            raise UserError(
                f"beside what the plan keeps on the chip there is no room for {composite.name}: {lowered}; "
                "remove some of its edges"
            )
        if isinstance(lowered, str):
            refused[composite.result] = Refusal(composite.name, lowered, composite.macs)
            continue
        layers.append(lowered)
        program = base64.b64encode(encode(lowered.program)).decode()
        taken.append(replace(composite, task=replace(composite.task, program=program)))
    refusals = find_refusals(graph, taken, refused, hardware)
    if not taken:
        return Offloaded(mod, (), refusals)
    return Offloaded(run_codegen(partition(mod, taken), hardware), tuple(layers), refusals, staying.kept)


@dataclass(frozen=True)
class _Lowering:
    """From composites to programs."""

    hardware: Hardware
    mappings: Mappings
    mapper: Mapper
    staying: Staying

    def search(self, composites: Sequence[Composite], show: Show) -> None:
        """Find mappings where none is planned, several at a time; beside what stays, one by one later."""
        alone = [each for each in composites if self.staying.room(each) is None]
        layers = [each.work for each in alone if isinstance(each.work, ArrayWork)]
        tasks = [task_of(each) for each in layers if self._planned(each, self.hardware, ()) is None]
        self.mapper.search(tasks, show)

    def lowered(self, composite: Composite) -> OffloadedLayer | str:
        """Give the program of a composite, or why there is none."""
        room = self.staying.room(composite)
        try:
            match composite.work:
                case ArrayWork(layer, scheme, epilogue):
                    mapping = self._mapping(composite, composite.work)
                    program = lower(layer, scheme, mapping, self.hardware, epilogue, room)
                    return OffloadedLayer(composite.name, composite.kind, program, mapping, composite.macs)
                case VectorWork(name, operator, shape):
                    streamed = lower_vector(name, operator, shape, self.hardware, room)
                    return OffloadedLayer(name, composite.kind, streamed, None, 0)
        except ValueError as error:
            return str(error)

    def _mapping(self, composite: Composite, work: ArrayWork) -> LoopMapping:
        share = self.staying.share(composite)
        if share is None:
            found = self._planned(work, self.hardware, ())
            return found or self.mapper.map(*task_of(work)).least_edp.mapping
        level = home_level(self.hardware)
        assert level is not None  # something stays there
        left = with_size(self.hardware, level, share.size)
        found = self._planned(work, left, share.on_chip)
        task = task_of(work)._replace(on_chip=share.on_chip)
        return found or replace(self.mapper, hardware=left, _known={}).map(*task).least_edp.mapping

    def _planned(self, work: ArrayWork, left: Hardware, on_chip: Operands) -> LoopMapping | None:
        """The planned mapping of a layer; beside tensors that stay it has to fit what they leave, too."""
        found = planned_for(work.layer, self.mappings, self.hardware, on_chip)
        if found is None or left is self.hardware:
            return found
        bits = _output_bits(work.epilogue)
        return None if why_not_mapped(work.layer, work.scheme, found, left, output_bits=bits) else found


def planned_for(
    layer: Layer, mappings: Mappings, hardware: Hardware, on_chip: Operands = ()
) -> LoopMapping | None:
    """Of a layer's mappings the one that covers it with the fewest iterations, its tensors where they are."""
    whole = layer.name.rpartition(".")[0]  # of what a factorization made
    planned = mappings.get(layer.name, mappings.get(whole, ()))
    outermost = hardware.memories[0].name
    covering = [
        mapping
        for mapping in planned
        if not mapping.why_not(layer)
        and {o for o, home in homes_of(mapping, hardware).items() if home != outermost} == set(on_chip)
    ]
    return min(covering, key=lambda each: prod(loop.size for loop in each.loops), default=None)


def task_of(work: ArrayWork) -> Task:
    """What is mapped for a layer."""
    return Task(work.layer, work.scheme, output_bits=_output_bits(work.epilogue))


def _output_bits(epilogue: Epilogue) -> int | None:
    return epilogue.bits if isinstance(epilogue, Requantize) else None


def is_accelerator(hardware: Hardware | None) -> bool:
    """Whether a machine is one that programs are made for: it says how its units multiply."""
    return hardware is not None and hardware.datapath is not None


def split_mappings(mappings: Mappings, hardware: Hardware) -> tuple[Mappings, Mappings]:
    """Part the mappings of a plan into those whose loops are at places of `hardware`, and the others."""
    theirs: dict[str, list[LoopMapping]] = {}
    others: dict[str, list[LoopMapping]] = {}
    for name, planned in mappings.items():
        for mapping in planned:
            where = others if why_misplaced(mapping, hardware) else theirs
            where.setdefault(name, []).append(mapping)
    return theirs, others
