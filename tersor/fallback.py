"""Fallback: what no plan covers, and why."""

from dataclasses import dataclass
from typing import ClassVar

from pydantic import ConfigDict


@dataclass(frozen=True)
class Fallback:
    """An operator that multiplies and accumulates, or holds a weight, and runs as it was imported.

    `operator` is Relax's name for it, `name` its weight's or, if it has none, its result's.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    operator: str
    name: str
    reason: str

    def __post_init__(self) -> None:
        if not self.reason:
            raise ValueError(f"the fallback {self.operator} {self.name!r} needs a reason")
