"""Mapping: the loops of one use of a layer on one hardware, and what each operand keeps where.

Its text reads like the loop nest, the outermost loop first:
 `K=4@dram, P=56@dram, K=16@rows, C=16@columns, Q=56@buffer`.

A loop at a memory walks over the tiles that what lies inside of it gets from there; a loop at an axis is
spread over its units. The tile that a memory keeps of an operand is what the loops at it and inside of it
cover. Loops may make more iterations than a layer has: the last tiles are then ragged, and those with nothing
in them are left out. `tersor.loop_tree` writes loops and memories together.

The outermost memory that keeps an operand is its home: all of it lies there, whatever loops are outside. For
most that is the outermost memory of the machine; a tensor that stays on the chip has another one.
"""

import re
from dataclasses import dataclass
from math import prod
from typing import Literal, Self, get_args

from tersor.layer import DIMS, INDEXED_BY, Dim, Layer, Operand

Dataflow = Literal["weight-stationary", "input-stationary", "output-stationary", "row-stationary", "none"]


@dataclass(frozen=True)
class Loop:
    """`size` iterations over `dim`, `at` a memory's name (in time) or a spatial axis' name (in parallel)."""

    dim: Dim
    size: int
    at: str

    def __post_init__(self) -> None:
        if self.dim not in DIMS:
            raise ValueError(f"a loop runs over one of {', '.join(DIMS)}, got {self.dim!r}")
        if self.size < 1:
            raise ValueError(
                f"the loop over {self.dim} at {self.at!r} needs at least 1 iteration, got {self.size}"
            )
        if not re.fullmatch(r"[^\s@=]+", self.at):
            raise ValueError(
                f"a loop is at a memory or a spatial axis, a name without spaces, got {self.at!r}"
            )

    def __str__(self) -> str:
        return f"{self.dim}={self.size}@{self.at}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `"K=4@dram"`. Raises ValueError."""
        found = re.fullmatch(rf"([{''.join(DIMS)}])=(\d+)@(\S+)", text)
        if not found:
            raise ValueError(f"{text!r} is no loop; write dimension=size@place, as in K=4@dram")
        return cls(found[1], int(found[2]), found[3])  # type: ignore[arg-type]  # the pattern allows DIMS only


@dataclass(frozen=True)
class Keep:
    """`operand` has a tile of its own in the memory `at`; a memory without one is passed by.

    The tile is what all loops at the memory cover, but for the `inside` outermost of them: so two operands
    may have tiles of different loops in one memory.
    """

    operand: Operand
    at: str
    inside: int = 0

    def __post_init__(self) -> None:
        if self.operand not in get_args(Operand):
            raise ValueError(f"an operand is one of {', '.join(get_args(Operand))}, got {self.operand!r}")
        if self.inside < 0:
            raise ValueError(f"{self.operand}@{self.at} is inside of 0 or more loops, got {self.inside}")

    def __str__(self) -> str:
        return f"{self.operand}@{self.at}" + (f"@{self.inside}" if self.inside else "")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `"weight@buffer"`, or `"weight@buffer@2"` inside of 2 loops. Raises ValueError."""
        found = re.fullmatch(r"([^@]+)@([^\s@=]+)(?:@(\d+))?", text)
        if not found:
            raise ValueError(f"{text!r} is no place of an operand; write it as in weight@buffer")
        return cls(found[1], found[2], int(found[3] or 0))  # type: ignore[arg-type]  # checked by the class


@dataclass(frozen=True)
class Mapping:
    """Loops from the outermost to the innermost, and the memories in which operands have tiles."""

    loops: tuple[Loop, ...] = ()
    keep: tuple[Keep, ...] = ()

    def __str__(self) -> str:
        return ", ".join(map(str, self.loops))

    def why_not(self, layer: Layer) -> str | None:
        """Say which dimension of `layer` the loops do not cover, or None if they cover all."""
        for dim in DIMS:
            made, wanted = prod(loop.size for loop in self.loops if loop.dim == dim), layer.size(dim)
            if made < wanted:
                return f"the loops over {dim} make {made} iterations, the layer {layer.name!r} has {wanted}"
        return None

    def dataflow(self, spatial: tuple[str, ...]) -> Dataflow:
        """Name the operand that stays in place the longest; `spatial` are the names of the hardware's axes.

        An operand stays while the innermost loops in time do not index it. Filter rows and output rows laid
        out in space together are the row-stationary dataflow (Chen et al., ISCA 2016).
        """
        loops = [loop for loop in self.loops if loop.size > 1]
        if {"R", "P"} <= {loop.dim for loop in loops if loop.at in spatial}:
            return "row-stationary"
        in_time = [loop for loop in loops if loop.at not in spatial]
        stays = {operand: _innermost_reuse(operand, in_time) for operand in get_args(Operand)}
        longest = max(stays.values())
        holders = [operand for operand, reuse in stays.items() if reuse == longest]
        if longest == 1 or len(holders) > 1:
            return "none"
        flows: dict[str, Dataflow] = {
            "weight": "weight-stationary",
            "input": "input-stationary",
            "output": "output-stationary",
        }
        return flows[holders[0]]


def _innermost_reuse(operand: Operand, in_time: list[Loop]) -> int:
    reuse = 1
    for loop in reversed(in_time):
        if loop.dim in INDEXED_BY[operand]:
            break
        reuse *= loop.size
    return reuse
