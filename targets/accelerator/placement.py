"""Placement: where tensors that stay on the chip lie in their memory, and what that leaves for tiles.

A tensor is there from the beginning of the program that makes it to the end of the last one that reads it.
Programs that do not need one another's results may run in any order, so a tensor is taken to be there while
any of them runs that may come in between.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Tensor:
    """A tensor of `size` bytes between programs, which go by their numbers."""

    producer: int
    readers: tuple[int, ...]
    size: int

    def __post_init__(self) -> None:
        if not self.readers or self.size < 1:
            raise ValueError(f"a tensor that stays has bytes and is read, got {self}")


@dataclass(frozen=True)
class Order:
    """Of each program the programs that have to end before it begins, as the bits of a number."""

    before: tuple[int, ...]

    def while_there(self, tensor: Tensor) -> int:
        """The programs, as bits, that may run while a tensor is there."""
        found = 0
        for program, before in enumerate(self.before):
            ended = all(before >> reader & 1 for reader in tensor.readers)
            if not ended and not self.before[tensor.producer] >> program & 1:
                found |= 1 << program
        return found


@dataclass(frozen=True)
class Gap:
    """Bytes of a memory from `begin` up to `end` in which no tensor lies."""

    begin: int
    end: int

    @property
    def size(self) -> int:
        """How many they are."""
        return self.end - self.begin


def place(tensors: Sequence[Tensor], order: Order, size: int) -> list[int] | None:
    """Give each tensor its address in a memory of `size` bytes, None if they do not fit.

    The largest come first, each as far at the beginning as those leave room that may be there with it.
    """
    there = [order.while_there(tensor) for tensor in tensors]
    addresses: dict[int, int] = {}
    for number in sorted(range(len(tensors)), key=lambda number: -tensors[number].size):
        others = [other for other in addresses if there[other] & there[number]]
        address = 0
        for other in sorted(others, key=lambda other: addresses[other]):
            if address + tensors[number].size <= addresses[other]:
                break
            address = max(address, addresses[other] + tensors[other].size)
        if address + tensors[number].size > size:
            return None
        addresses[number] = address
    return [addresses[number] for number in range(len(tensors))]


def gaps(tensors: Sequence[Tensor], addresses: Sequence[int], order: Order, size: int) -> list[Gap]:
    """Of each program the largest gap that tensors leave in the memory while it runs."""
    there = [order.while_there(tensor) for tensor in tensors]
    found: list[Gap] = []
    for program in range(len(order.before)):
        taken = sorted(
            (address, address + tensor.size)
            for tensor, address, programs in zip(tensors, addresses, there, strict=True)
            if programs >> program & 1
        )
        largest, end = Gap(0, 0), 0
        for begin, behind in [*taken, (size, size)]:
            largest = max(largest, Gap(end, max(begin, end)), key=lambda gap: gap.size)
            end = max(end, behind)
        found.append(largest)
    return found
