"""Hardware: what a machine computes with, what it remembers in, and what both cost; a TOML file.

    name = "edge"
    clock = "500 MHz"

    [[compute]]                     # one entry for each number format
    precision = "int8"
    macs_per_cycle = 256
    skips = ["2:4"]                 # the sparsity whose zeros take no time
    energy_per_mac = "0.3 pJ"
    source = "where the energy is from"

    [[memories]]                    # from the outermost to the innermost
    name = "dram"
    size = "512 MiB"
    bandwidth = "6.4 GB/s"
    energy_per_byte = "160 pJ"
    source = "where the energy is from"

The host CPU is a Hardware too; it is detected, not written.
"""

import re
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import BeforeValidator, ConfigDict

from tersor.document import read_toml
from tersor.sparsity import NM
from tersor.units import Bytes, BytesPerSecond, Hertz, Picojoules


def _parse_sparsity(text: object) -> NM:
    if not isinstance(text, str):
        raise ValueError(f"write a sparsity as text, as in '2:4', got {text!r}")
    return NM.parse(text)


SparsityText = Annotated[NM, BeforeValidator(_parse_sparsity)]


@dataclass(frozen=True)
class Compute:
    """What computes products of one number format: `int8`, `int4`, `fp32`, ...

    `skips` are the sparsities whose zero weights take neither time nor energy; any other zero is multiplied.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    precision: str
    macs_per_cycle: float  # of all cores together
    skips: tuple[SparsityText, ...] = ()
    energy_per_mac: Picojoules = 0.0  # pJ; 0 where it is not known
    source: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"(int|fp|bf)[0-9]+", self.precision):
            raise ValueError(f"a precision is int8, int4, fp32 or the like, got {self.precision!r}")
        if not 0 < self.macs_per_cycle < inf:
            raise ValueError(f"{self.precision} needs more than 0 MAC per cycle, got {self.macs_per_cycle}")
        _check_energy(self.precision, self.energy_per_mac, self.source)


@dataclass(frozen=True)
class Memory:
    """One level of the memories: its size, and what moving bytes to or from it takes."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    size: Bytes
    bandwidth: BytesPerSecond
    energy_per_byte: Picojoules = 0.0  # pJ; 0 where it is not known
    source: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[^\s@=]+", self.name):
            raise ValueError(f"a memory's name has no spaces, @ or =, got {self.name!r}")
        if self.size < 1:
            raise ValueError(f"the memory {self.name} needs a size of at least 1 byte, got {self.size}")
        if not self.bandwidth > 0:
            raise ValueError(f"the memory {self.name} needs a bandwidth above 0, got {self.bandwidth}")
        _check_energy(self.name, self.energy_per_byte, self.source)


def _check_energy(name: str, energy: float, source: str) -> None:
    if energy < 0:
        raise ValueError(f"{name}: an energy is not negative, got {energy} pJ")
    if energy > 0 and not source:
        raise ValueError(f"{name}: an energy of {energy} pJ needs its source; say where the number is from")


@dataclass(frozen=True)
class Hardware:
    """A machine; `memories` go from the outermost (dram) to the innermost, `features` are of its ISA."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    clock: Hertz
    compute: tuple[Compute, ...]
    memories: tuple[Memory, ...]
    cores: int = 1
    features: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.clock > 0:
            raise ValueError(f"the hardware {self.name} needs a clock above 0 Hz, got {self.clock}")
        if self.cores < 1:
            raise ValueError(f"the hardware {self.name} needs at least 1 core, got {self.cores}")
        for kind, names in (
            ("compute", [unit.precision for unit in self.compute]),
            ("memories", [memory.name for memory in self.memories]),
        ):
            if not names:
                raise ValueError(f"the hardware {self.name} needs at least one entry in {kind}, got none")
            if len(set(names)) < len(names):
                raise ValueError(f"the hardware {self.name} has two entries of one name in {kind}: {names}")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a machine's TOML file. Raises UserError naming the file, the key and what to change."""
        return read_toml(path, cls)

    def unit(self, precision: str) -> Compute | None:
        """What computes in `precision`, or None if nothing does."""
        return next((unit for unit in self.compute if unit.precision == precision), None)

    def memory(self, name: str) -> Memory:
        """The memory of that name. Raises KeyError."""
        for memory in self.memories:
            if memory.name == name:
                return memory
        raise KeyError(name)

    @property
    def precisions(self) -> tuple[str, ...]:
        """The number formats it computes in."""
        return tuple(unit.precision for unit in self.compute)
