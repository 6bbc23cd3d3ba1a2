"""Program: the instructions of one mapped layer or vector operator, and what they are instructions for."""

from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from typing import ClassVar

from pydantic import ConfigDict

from tersor.document import to_json
from tersor.error import UserError
from tersor.hardware import Hardware
from tersor.layer import Layer, Operand
from tersor.scheme import Scheme
from tersor.targets.accelerator.isa.epilogue import Epilogue, Requantize, Sums
from tersor.targets.accelerator.isa.instruction import (
    OPERANDS,
    Apply,
    Compute,
    End,
    Instruction,
    Loop,
    Spread,
)
from tersor.targets.accelerator.isa.vector import VectorOperator


@dataclass(frozen=True)
class Home:
    """All of `operand` lies in the memory `level` while the program runs: `size` bytes from `address` on.

    Sums that are not complete lie beside it, from `sums` on, if any leave for it.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    operand: Operand
    level: int
    address: int
    size: int
    sums: int | None = None

    def __post_init__(self) -> None:
        if self.operand not in OPERANDS or self.level < 1 or self.address < 0 or self.size < 1:
            raise ValueError(f"no operand lies whole in a memory on the chip by {self}")


Homes = tuple[Home, ...]


@dataclass(frozen=True)
class Program:
    """What a machine executes for `layer` under `scheme`; what it does about zeros its description says.

    Operands without a home on the chip lie in the outermost memory.
    """

    machine: str  # the hardware's name
    digest: str  # of the whole description that it was made for
    layer: Layer
    scheme: Scheme
    instructions: tuple[Instruction, ...]
    epilogue: Epilogue = field(default_factory=Sums)
    homes: Homes = ()

    def __post_init__(self) -> None:
        _check_instructions(self.instructions, (Apply,))
        _check_homes(self.homes)

    @property
    def output_bits(self) -> int | None:
        """Bits of an element of the output, None if they are those of the input."""
        return self.epilogue.bits if isinstance(self.epilogue, Requantize) else None


@dataclass(frozen=True)
class VectorProgram:
    """What a machine's vector unit executes: `operator` on whole tensors, tile by tile.

    `layer` gives its loops, as `vector.loop_nest` says; N, G, P and Q are the coordinates of an output. The
    input is the padded image (with codes of 0, which win no maximum), in which output row p and window row r
    touch row p * stride + r. An addition has its right operand as `weight`, of the output's coordinates.
    Every element is a code of 8 bits. What has a home in the memory that it works in is not loaded or stored.
    """

    machine: str  # the hardware's name
    digest: str  # of the whole description that it was made for
    layer: Layer
    operator: VectorOperator
    instructions: tuple[Instruction, ...]
    homes: Homes = ()

    def __post_init__(self) -> None:
        _check_instructions(self.instructions, (Spread, Compute))
        _check_homes(self.homes)


AnyProgram = Program | VectorProgram


@cache
def digest_of(hardware: Hardware) -> str:
    """SHA-256 of the whole description of a machine, in hexadecimal: equal for equal machines."""
    return sha256(to_json(hardware, Hardware).encode()).hexdigest()


def check_machine(program: AnyProgram, hardware: Hardware, origin: str) -> None:
    """Raise UserError if `program`, which `origin` names, was made for another machine than `hardware`."""
    if program.digest != digest_of(hardware):
        found = hardware.name if hardware.name != program.machine else f"another {hardware.name}"
        raise UserError(
            f"{origin} was made for the machine {program.machine}, this is {found}: compile the model for it "
            "or give the machine's file of then"
        )


def _check_instructions(instructions: tuple[Instruction, ...], foreign: tuple[type, ...]) -> None:
    depth = 0
    for place, each in enumerate(instructions):
        depth += isinstance(each, Loop) - isinstance(each, End)
        if depth < 0:
            raise ValueError(f"the end at {place} closes no loop")
        if isinstance(each, foreign):
            raise ValueError(f"{type(each).__name__} at {place} is nothing for this kind of program")
    if depth:
        raise ValueError(f"{depth} loops of the program have no end")


def _check_homes(homes: Homes) -> None:
    if len({home.operand for home in homes}) < len(homes):
        raise ValueError(f"an operand has one home, got {homes}")
