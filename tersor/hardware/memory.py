"""Memory: one level that tensors are kept in, what it holds, and what moving bits there takes."""

from dataclasses import dataclass, field
from math import inf
from typing import ClassVar

from pydantic import ConfigDict

from tersor.hardware.axis import check_place
from tersor.hardware.energy import check_energy
from tersor.hardware.representation import DENSE, Representation, RepresentationText
from tersor.layer import Operand
from tersor.units import Bytes, BytesPerSecond, Picojoules

OPERANDS: tuple[Operand, ...] = ("weight", "input", "output")


@dataclass(frozen=True)
class Formats:
    """How each operand lies in a memory."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    weight: RepresentationText = DENSE
    input: RepresentationText = DENSE
    output: RepresentationText = DENSE

    def of(self, operand: Operand) -> Representation:
        """The representation of `operand`."""
        return {"weight": self.weight, "input": self.input, "output": self.output}[operand]


@dataclass(frozen=True)
class Buses:
    """Bits in a cycle between a memory and what lies inside of it: a bus for each operand.

    All work at the same time. Sums have one in each direction. What is None has no limit of its own.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    weight: float | None = None
    input: float | None = None
    output: float | None = None

    def __post_init__(self) -> None:
        for operand in OPERANDS:
            width = self.of(operand)
            if not width > 0:
                raise ValueError(f"the bus of the {operand} needs more than 0 bits in a cycle, got {width}")

    def of(self, operand: Operand) -> float:
        """Bits of `operand` in a cycle; infinity where there is no limit."""
        width = {"weight": self.weight, "input": self.input, "output": self.output}[operand]
        return inf if width is None else width


@dataclass(frozen=True)
class Memory:
    """One level of the memories; below an axis there is one for each unit, and all numbers are of one.

    Reads and writes share `bandwidth`, or have `read_ports` and `write_ports`: words of `word` bits in a
    cycle for each of the `banks`. With a `word`, whole elements lie in whole words: floor(word / bits) in
    each. A `double_buffered` memory holds two tiles of each operand: the next one comes while one is in use.
    In one that `streams` it comes as well, element by element in the place of what is used up, as from a
    queue. `buses` limit what passes between the memory and what lies inside of it. With `halo_reuse`, a
    window that slides on fetches only what is new. `energy_per_byte` is for a read; a write takes the same
    if `write_energy_per_byte` is not given.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    size: Bytes
    bandwidth: BytesPerSecond | None = None
    energy_per_byte: Picojoules = 0.0  # pJ; 0 where it is not known
    source: str = ""
    write_energy_per_byte: Picojoules | None = None
    word: int | None = None
    banks: int = 1
    read_ports: float | None = None
    write_ports: float | None = None
    double_buffered: bool = False
    streams: bool = False
    halo_reuse: bool = False
    keeps: tuple[Operand, ...] = OPERANDS
    formats: Formats = field(default_factory=Formats)
    buses: Buses = field(default_factory=Buses)

    def __post_init__(self) -> None:
        check_place(self.name, "memory")
        if self.size < 1:
            raise ValueError(f"the memory {self.name} needs a size of at least 1 byte, got {self.size}")
        if not self.keeps or len(set(self.keeps)) < len(self.keeps):
            raise ValueError(f"the memory {self.name} keeps one or more different operands")
        self._check_ports()
        check_energy(self.name, self.energy_per_byte, self.source)
        if self.write_energy_per_byte is not None:
            check_energy(self.name, self.write_energy_per_byte, self.source)

        if self.double_buffered and self.streams:
            raise ValueError(f"the memory {self.name} is double buffered or streams, not both; remove one")

    def _check_ports(self) -> None:
        ports = (self.read_ports, self.write_ports)
        if self.bandwidth is not None:
            if not self.bandwidth > 0:
                raise ValueError(f"the memory {self.name} needs a bandwidth above 0, got {self.bandwidth}")
            if ports != (None, None):
                raise ValueError(f"the memory {self.name} has a bandwidth or ports, not both; remove one")
        elif None in ports or self.word is None:
            raise ValueError(
                f"the memory {self.name} needs a bandwidth, or read_ports, write_ports and a word in bits"
            )
        if any(port is not None and not port > 0 for port in ports):
            raise ValueError(f"the memory {self.name} needs more than 0 words in a cycle, got {ports}")
        if self.word is not None and self.word < 1:
            raise ValueError(f"the memory {self.name} needs words of at least 1 bit, got {self.word}")
        if self.banks < 1:
            raise ValueError(f"the memory {self.name} needs at least 1 bank, got {self.banks}")

    def element_bits(self, bits: int) -> float:
        """Bits that an element of `bits` takes here: its share of a word, or the words that it fills."""
        if self.word is None:
            return bits
        if bits > self.word:
            return -(-bits // self.word) * self.word
        return self.word / (self.word // bits)

    @property
    def overlaps(self) -> bool:
        """Whether the next tiles come while those that are here are in use."""
        return self.double_buffered or self.streams

    @property
    def write_energy(self) -> float:
        """pJ for each byte written."""
        return self.energy_per_byte if self.write_energy_per_byte is None else self.write_energy_per_byte
