"""Axis: units side by side, what may be spread over them, and what they share."""

import re
from dataclasses import dataclass
from typing import ClassVar

from pydantic import ConfigDict

from tersor.layer import DIMS, Dim, Operand


@dataclass(frozen=True)
class Axis:
    """`size` copies of all that lies below the memory `inside`, side by side.

    Loops over the dimensions `unrolls` may be spread over it. One read of an operand in `multicast` serves
    all units that need the same tile. With `shares_halo`, it also serves neighbours whose windows overlap. If
    it `reduces`, partial sums of one output element add up on their way out; else each unit writes its own.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    size: int
    inside: str
    unrolls: tuple[Dim, ...] = DIMS  # type: ignore[assignment]  # pyright sees a tuple of str
    multicast: tuple[Operand, ...] = ()
    shares_halo: bool = False
    reduces: bool = False

    def __post_init__(self) -> None:
        check_place(self.name, "axis")
        if self.size < 1:
            raise ValueError(f"the axis {self.name} needs a size of at least 1 unit, got {self.size}")
        if not self.unrolls or len(set(self.unrolls)) < len(self.unrolls):
            raise ValueError(f"the axis {self.name} unrolls one or more different dimensions")
        if self.shares_halo and "input" not in self.multicast:
            raise ValueError(f"the axis {self.name} shares halos only if it multicasts the input as well")
        if "output" in self.multicast:
            raise ValueError(f"the axis {self.name} multicasts no output; say reduces = true")


def check_place(name: str, kind: str) -> None:
    """Raise ValueError for a name of a memory or an axis that a loop cannot be written with."""
    if not re.fullmatch(r"[^\s@=:,]+", name):
        raise ValueError(f"the name of a {kind} has no spaces, @, =, : or comma, got {name!r}")
