"""Passing: tensors that programs pass on to one another, and what is left beside those that stay."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from tersor.hardware import Hardware
from tersor.layer import Operand
from tersor.targets.accelerator.lowering.allocate import Room
from tersor.targets.accelerator.placement import Order, Tensor, gaps, place
from tersor.targets.accelerator.residency import Operands, home_level

_ORDER: Operands = ("weight", "input", "output")


@dataclass(frozen=True)
class Passed:
    """The tensor that a program makes, and as which operands others read it, none if they add it at the end.

    Where it stays, it takes `size` bytes: with the padding of whoever pads it most, in the bits of whoever
    reads most. `reason` says why it cannot stay, however large the memory is, if it cannot.
    """

    producer: int
    readers: tuple[tuple[int, Operands], ...]
    size: int
    reason: str = ""

    @property
    def tensor(self) -> Tensor:
        """As it is placed."""
        return Tensor(self.producer, tuple(reader for reader, _ in self.readers), self.size)


@dataclass(frozen=True)
class Share:
    """What one program has of the memory where tensors stay.

    Its own `on_chip` operands are among them. For these and its tiles it has `size` bytes together.
    """

    on_chip: Operands
    size: int


@dataclass(frozen=True)
class Programs:
    """The programs of a network by `names`, their order, and what they pass on.

    `views` are the bytes of each program's operands where they stay, as it sees them.
    """

    hardware: Hardware
    names: tuple[str, ...]
    order: Order
    passed: tuple[Passed, ...]
    views: tuple[dict[Operand, int], ...]

    @cached_property
    def level(self) -> int:
        """The memory where tensors stay. Raises ValueError if there is none."""
        level = home_level(self.hardware)
        if level is None:
            raise ValueError(why_no_home(self.hardware))
        return level

    @property
    def capacity(self) -> int:
        """Its bytes."""
        return self.hardware.memories[self.level].size

    def why_not(self, passed: Passed) -> str:
        """Say why a tensor cannot stay, or "" if it can where nothing else does."""
        if passed.reason or passed.size <= self.capacity:
            return passed.reason
        memory = self.hardware.memories[self.level]
        return f"it takes {passed.size} bytes, {memory.name} has {memory.size}"

    def rooms(self, kept: Sequence[Passed], gone: Sequence[Passed] = ()) -> tuple[Room, ...] | None:
        """What keeping these tensors leaves to each program; None if they do not fit together.

        They lie where they would if those that are `gone` were there, too.
        """
        every = [each.tensor for each in (*kept, *gone)]
        addresses = place(every, self.order, self.capacity)
        if addresses is None:
            return None
        tensors, addresses = every[: len(kept)], addresses[: len(kept)]
        homes: list[dict[Operand, int]] = [{} for _ in self.names]
        for each, address in zip(kept, addresses, strict=True):
            homes[each.producer]["output"] = address
            for reader, operands in each.readers:
                homes[reader] |= dict.fromkeys(operands, address)
        free = gaps(tensors, addresses, self.order, self.capacity)
        return tuple(
            Room(self.level, gap.begin, gap.end, home) for gap, home in zip(free, homes, strict=True)
        )

    def on_chip(self, program: int, kept: Sequence[Passed]) -> Operands:
        """The operands of a program that stay where these tensors do."""
        own = {
            operand
            for each in kept
            for reader, found in each.readers
            if reader == program
            for operand in found
        }
        if any(each.producer == program for each in kept):
            own.add("output")
        return tuple(operand for operand in _ORDER if operand in own)

    def saved(self, passed: Passed) -> int:
        """Bytes that a tensor does not move outside where it stays, at least."""
        read = sum(self.views[reader][each] for reader, found in passed.readers for each in found)
        return self.views[passed.producer]["output"] + read

    def share(self, program: int, room: Room) -> Share:
        """What a program has of the memory by its room."""
        own: Operands = tuple(operand for operand in _ORDER if operand in room.homes)
        return Share(own, room.end - room.begin + sum(self.views[program][operand] for operand in own))


def why_no_home(hardware: Hardware) -> str:
    """Say that a machine has no memory for tensors to stay in."""
    return (
        f"{hardware.name} has no memory on the chip that all units share and that keeps the input and the "
        "output as they are"
    )
