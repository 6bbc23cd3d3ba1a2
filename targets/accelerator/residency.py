"""Residency: in which memory tensors between layers may stay."""

from dataclasses import replace

from tersor.hardware import Hardware
from tersor.hardware.representation import DENSE
from tersor.layer import Operand

Operands = tuple[Operand, ...]  # in the order of weight, input, output


def home_level(hardware: Hardware) -> int | None:
    """The memory that tensors can stay in: the outermost on the chip that all units share.

    It keeps inputs and outputs, whole elements of both, as an output becomes an input. None if there is none.
    """
    for level, memory in enumerate(hardware.memories):
        keeps_both = {"input", "output"} <= set(memory.keeps)
        plain = memory.formats.input == memory.formats.output == DENSE
        if level and keeps_both and plain and hardware.instances(memory) == 1:
            return level
    return None


def home_of(operand: Operand, on_chip: Operands, hardware: Hardware) -> int:
    """The level of the memory that has all of `operand`. Raises ValueError if no tensor can stay on chip."""
    if operand not in on_chip:
        return 0
    level = home_level(hardware)
    if level is None or operand not in hardware.memories[level].keeps:
        raise ValueError(f"{hardware.name} has no memory that the {operand} could stay in")
    return level


def with_size(hardware: Hardware, level: int, size: int) -> Hardware:
    """The machine with a memory of another size: what tensors that stay leave of it."""
    memories = list(hardware.memories)
    memories[level] = replace(memories[level], size=size)
    return replace(hardware, memories=tuple(memories))
