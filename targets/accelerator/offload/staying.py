"""Staying: the tensors that a plan keeps on the chip, and what that leaves to each program."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tersor.error import UserError
from tersor.hardware import Hardware
from tersor.ir.graph import Expr, Graph
from tersor.plan import EdgePlan
from tersor.targets.accelerator.lowering.allocate import Room
from tersor.targets.accelerator.offload.composite import Composite
from tersor.targets.accelerator.offload.passed import find_passed
from tersor.targets.accelerator.offload.refusals import why_not
from tersor.targets.accelerator.passing import Passed, Programs, Share

Edges = Sequence[EdgePlan]


@dataclass(frozen=True)
class Kept:
    """A tensor of `size` bytes that stays on the chip from its producer to its readers.

    The outermost memory moves `saved` bytes less, or more if one of these would fetch it several times.
    """

    producer: str
    readers: tuple[str, ...]
    size: int
    saved: int


@dataclass(frozen=True)
class Staying:
    """What stays, and the rooms and shares of programs by their results."""

    kept: tuple[Kept, ...] = ()
    rooms: Mapping[Expr, Room] = field(default_factory=dict)
    shares: Mapping[Expr, Share] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: Graph, composites: Sequence[Composite], hardware: Hardware, edges: Edges) -> "Staying":
        """Find the tensors on `edges`. Raises UserError for those that cannot stay, with the reason."""
        pairs = {(edge.producer, edge.consumer) for edge in edges if edge.on_chip}
        if not pairs:
            return cls()
        able = [each for each in composites if why_not(each, hardware) is None]
        programs = find_passed(graph, able, hardware)
        chosen = chosen_of(programs, pairs)
        rooms = programs.rooms(chosen)
        if rooms is None:
            memory = hardware.memories[programs.level]
            raise UserError(
                f"what the plan keeps on the chip does not fit {memory.name} of {memory.size} bytes: remove "
                "some of its edges"
            )
        results = [each.result for each in able]
        return cls(
            tuple(kept_of(programs, each) for each in chosen),
            dict(zip(results, rooms, strict=True)),
            {var: programs.share(i, room) for i, (var, room) in enumerate(zip(results, rooms, strict=True))},
        )

    def room(self, composite: Composite) -> Room | None:
        """What a program has of the memory where tensors stay; None if none does."""
        return self.rooms.get(composite.result)

    def share(self, composite: Composite) -> Share | None:
        """The same as its mapping sees it."""
        return self.shares.get(composite.result)


def kept_of(programs: Programs, passed: Passed) -> Kept:
    """A tensor with the names of its programs."""
    readers = tuple(programs.names[reader] for reader, _ in passed.readers)
    return Kept(programs.names[passed.producer], readers, passed.size, programs.saved(passed))


def chosen_of(programs: Programs, pairs: set[tuple[str, str]]) -> list[Passed]:
    """The tensors that go from producers to readers as `pairs` say. Raises UserError if one cannot stay."""
    chosen: list[Passed] = []
    left = set(pairs)
    for each in programs.passed:
        kept = kept_of(programs, each)
        edges = {(kept.producer, reader) for reader in kept.readers}
        if not edges & pairs:
            continue
        first = min(edges & pairs)
        said = f"the plan keeps the tensor from {first[0]!r} to {first[1]!r} on the chip"
        if reason := programs.why_not(each):
            raise UserError(f"{said}, but {reason}: remove the edge")
        if missing := sorted(edges - pairs):
            raise UserError(f"{said}, but {missing[0][1]!r} reads it, too: add that edge or remove this one")
        chosen.append(each)
        left -= edges
    if left:
        producer, reader = min(left)
        raise UserError(
            f"the plan keeps a tensor from {producer!r} to {reader!r} on the chip, but "
            f"{programs.hardware.name} runs no such two one of which reads the other: remove the edge"
        )
    return chosen
