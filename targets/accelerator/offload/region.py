"""Region: programs that run one after the other in one call, and where their tensors are.

As JSON it is part of the library, beside the description of the machine; the programs are in it as bytes.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import ConfigDict

Shape = tuple[int, ...]


@dataclass(frozen=True)
class DecodeStep:
    """A step of `tersor.formats.decoding`: its document, the names that it reads, and that of its result."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    step: dict[str, Any]
    reads: tuple[str, ...]
    result: str


@dataclass(frozen=True)
class StoredWeight:
    """A weight of `shape`: which tensors are its stored arrays, by their names, and how they are decoded.

    Without steps the array `values` is the weight itself, int8. `axis` is that of the output channels.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    arrays: dict[str, int]
    shape: Shape
    axis: int
    steps: tuple[DecodeStep, ...] = ()


@dataclass(frozen=True)
class Codes:
    """An activation in the place of a weight: uint8 codes with their zero point."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    tensor: int
    zero_point: int


@dataclass(frozen=True)
class Task:
    """One program and the numbers of its tensors, among those that a `Step` gives it.

    `zero_point` is the input's: the code that pads it, and is taken off where the weight is codes, too.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    layer: str
    program: str  # its bytes in base64
    input: int
    zero_point: int = 0
    weight: StoredWeight | Codes | None = None
    bias: int | None = None
    multiplier: int | None = None
    residual: int | None = None


@dataclass(frozen=True)
class Step:
    """A task on the values `tensors`, which makes another value of `shape`."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    task: Task
    tensors: tuple[int, ...]
    shape: Shape


@dataclass(frozen=True)
class Region:
    """The steps of one call in order. Values are numbered: first the arguments, then what each step makes."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    arguments: int
    steps: tuple[Step, ...]
    results: tuple[int, ...]
