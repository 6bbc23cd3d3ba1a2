"""A walk over a program, instruction by instruction, with nothing but what its instructions say."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from tersor.hardware import Hardware
from tersor.layer import DIMS, Layer
from tersor.targets.accelerator.isa.instruction import (
    End,
    Extents,
    Instruction,
    Load,
    Loop,
    Spread,
    Store,
    Sync,
    Token,
)
from tersor.targets.accelerator.isa.program import Program, VectorProgram

Element = tuple[int, ...]
Unit = tuple[int, ...]  # an index for each spread


@dataclass(frozen=True)
class Step:
    """One instruction as it is executed, at the coordinates of its place."""

    instruction: Instruction
    at: dict[str, int]


def walk(program: Program | VectorProgram) -> Iterator[Step]:
    """Every instruction but loops, as often and in the order in which a machine obeys them."""
    body = [each for each in program.instructions if not isinstance(each, Spread)]
    yield from _walk(program.layer, body, dict.fromkeys(DIMS, 0))


def _walk(layer: Layer, body: Sequence[Instruction], at: dict[str, int]) -> Iterator[Step]:
    index = 0
    while index < len(body):
        instruction = body[index]
        if isinstance(instruction, Loop):
            end = _end_of(body, index)
            for iteration in range(instruction.size):
                inside = at | {instruction.dim: at[instruction.dim] + iteration * instruction.step}
                if inside[instruction.dim] < layer.size(instruction.dim):
                    yield from _walk(layer, body[index + 1 : end], inside)
            index = end
        else:
            yield Step(instruction, at)
        index += 1


def _end_of(body: Sequence[Instruction], index: int) -> int:
    depth = 0
    for place in range(index, len(body)):
        depth += isinstance(body[place], Loop) - isinstance(body[place], End)
        if depth == 0:
            return place
    raise AssertionError(f"the loop at {index} is not closed")


def tiles(
    program: Program | VectorProgram,
    hardware: Hardware,
    operand: str,
    level: int,
    extents: Extents,
    at: dict[str, int],
) -> dict[Unit, set[Element]]:
    """The elements of a tile in each memory at `level`, by the units around it; empty ones left out."""
    levels = {memory.name: number for number, memory in enumerate(hardware.memories)}
    spreads = [each for each in program.instructions if isinstance(each, Spread)]
    around = [each for each in spreads if levels[hardware.axes[each.axis].inside] < level]
    found: dict[Unit, set[Element]] = {}
    for unit in product(*(range(spread.size) for spread in around)):
        start = dict(at)
        for spread, index in zip(around, unit, strict=True):
            start[spread.dim] += index * spread.step
        ranges = [
            range(start[dim], min(start[dim] + extent, program.layer.size(dim)))
            for dim, extent in zip(DIMS, extents, strict=True)
        ]
        if elements := {element_of(program.layer, operand, each) for each in product(*ranges)}:
            found[unit] = elements
    return found


def element_of(layer: Layer, operand: str, coordinates: tuple[int, ...]) -> Element:
    """The element of an operand that a product at `coordinates`, one of each of `DIMS`, is with."""
    n, g, k, c, p, q, r, s = coordinates
    row, column = (
        p * layer.stride[0] + r * layer.dilation[0],
        q * layer.stride[1] + s * layer.dilation[1],
    )
    return {"weight": (g, k, c, r, s), "input": (n, g, c, row, column), "output": (n, g, k, p, q)}[operand]


def check_balance(program: Program | VectorProgram) -> None:
    """Walk with counted tokens; `free` ones are taken, `full` ones looked at until the tile is given back.

    None may be waited for in vain, and at the end every place must be free.
    """
    loads = [each for each in program.instructions if isinstance(each, Load)]
    tokens = Counter({Token("free", each.operand, each.target): each.places for each in loads})
    begun = Counter(tokens)
    for step in walk(program):
        instruction = step.instruction
        for token in () if isinstance(instruction, Sync | Spread | Loop | End) else instruction.waits:
            assert tokens[token] > 0, f"{instruction} waits for ever"
            tokens[token] -= token.state == "free"
        for token in instruction.signals if isinstance(instruction, Load | Store | Sync) else ():
            tokens[token] += 1
            if token.state == "free":
                full = replace(token, state="full")
                assert tokens[full] > 0, f"{instruction} gives back what is not there"
                tokens[full] -= 1
    assert +tokens == begun
