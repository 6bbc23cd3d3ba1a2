"""Passed: which tensors of an integer network programs pass on to one another, and why others cannot stay.

A tensor may stay on the chip if one program makes it and nothing but programs reads it. What is added to the
sums of a layer at its end is read, too: it has to be there.
"""

from collections import Counter
from collections.abc import Sequence

from tersor.hardware import Hardware
from tersor.ir.graph import Expr, Graph, operands, operator
from tersor.layer import Operand
from tersor.targets.accelerator.bits import element_bits
from tersor.targets.accelerator.density import DENSE
from tersor.targets.accelerator.isa.epilogue import Requantize
from tersor.targets.accelerator.lowering.allocate import home_bytes
from tersor.targets.accelerator.lowering.vector import vector_level, whole_bytes
from tersor.targets.accelerator.offload.composite import ArrayWork, Composite
from tersor.targets.accelerator.offload.region import Codes
from tersor.targets.accelerator.passing import Passed, Programs, why_no_home
from tersor.targets.accelerator.placement import Order
from tersor.targets.accelerator.residency import Operands, home_level


def find_passed(graph: Graph, composites: Sequence[Composite], hardware: Hardware) -> Programs:
    """Describe what the programs of `composites`, all that `hardware` runs of a network, pass on."""
    views = tuple(_views(each, hardware) for each in composites)
    finder = _Finder(graph, composites, hardware, views)
    passed = tuple(each for number in range(len(composites)) if (each := finder.passed(number)))
    return Programs(
        hardware, tuple(each.name for each in composites), _order(graph, composites), passed, views
    )


class _Finder:
    def __init__(
        self,
        graph: Graph,
        composites: Sequence[Composite],
        hardware: Hardware,
        views: Sequence[dict[Operand, int]],
    ) -> None:
        self.graph, self.composites, self.hardware, self.views = graph, composites, hardware, views
        self.inside = {var: number for number, each in enumerate(composites) for var, _ in each.bindings}
        self.times = Counter(each.name for each in composites)

    def passed(self, number: int) -> Passed | None:
        """What a program makes; None if no program reads it."""
        made = self.composites[number].result
        users = self.graph.users(made)
        readers = {self.inside[user]: None for user in users if user in self.inside}
        if not readers:
            return None
        reads = tuple((reader, _as_operands(self.composites[reader], made)) for reader in readers)
        seen = [self.views[number].get("output", 0)]
        seen += [self.views[reader].get(each, 0) for reader, found in reads for each in found]
        return Passed(number, reads, max(1, *seen), self._why_not(number, reads, users))

    def _why_not(self, number: int, reads: Sequence[tuple[int, Operands]], users: Sequence[Expr]) -> str:
        if self.graph.is_output(self.composites[number].result):
            return "it is an output of the network"
        if others := [user for user in users if user not in self.inside]:
            return f"{operator(self.graph.definition(others[0]))} reads it on the CPU"
        for each in (number, *(reader for reader, _ in reads)):
            name = self.composites[each].name
            if self.times[name] > 1:
                return f"{name} is run {self.times[name]} times"
            if reason := self._why_no_operand(self.composites[each], name):
                return reason
        for reader, found in reads:
            if len(found) > 1:
                return f"{self.composites[reader].name} reads it as both operands"
            if "weight" in found and not self._keeps_weights():
                return (
                    f"it is the right operand of {self.composites[reader].name}, and no weight is kept there"
                )
        return ""

    def _why_no_operand(self, composite: Composite, name: str) -> str:
        level = home_level(self.hardware)
        if level is None:
            return why_no_home(self.hardware)
        if not isinstance(composite.work, ArrayWork) and vector_level(self.hardware) != level:
            return f"{name} is not computed in {self.hardware.memories[level].name}"
        return ""

    def _keeps_weights(self) -> bool:
        level = home_level(self.hardware)
        if level is None:
            return False
        memory = self.hardware.memories[level]
        return "weight" in memory.keeps and str(memory.formats.weight) == "dense"


def _as_operands(composite: Composite, tensor: Expr) -> Operands:
    """As which operands a program reads a tensor."""
    task = composite.task
    found: list[Operand] = []
    if isinstance(task.weight, Codes) and composite.reads[task.weight.tensor].same_as(tensor):
        found.append("weight")
    if composite.reads[task.input].same_as(tensor):
        found.append("input")
    return tuple(found)


def _views(composite: Composite, hardware: Hardware) -> dict[Operand, int]:
    """The bytes of a program's operands in the memory where they could stay."""
    level = home_level(hardware)
    if level is None:
        return {}
    match composite.work:
        case ArrayWork(layer, scheme, epilogue):
            wide = epilogue.bits if isinstance(epilogue, Requantize) else None
            bits = element_bits(layer, scheme, hardware, DENSE, wide)[level]
            return {each: home_bytes(layer, each, bits) for each in ("weight", "input", "output")}
        case work:
            return whole_bytes(work.operator, work.shape, hardware, level)


def _order(graph: Graph, composites: Sequence[Composite]) -> Order:
    """Of each program those that it cannot be run before."""
    results = {each.result: number for number, each in enumerate(composites)}
    inside = {var for each in composites for var, _ in each.bindings}
    needed: dict[Expr, int] = {}
    before = [0] * len(composites)
    for var, value in graph.bindings:
        number = results.get(var)
        if number is not None:
            for read in composites[number].reads:
                before[number] |= needed.get(read, 0)
            needed[var] = before[number] | 1 << number
        elif var not in inside:
            needed[var] = 0
            for read in operands(value):
                needed[var] |= needed.get(read, 0)
    return Order(tuple(before))
