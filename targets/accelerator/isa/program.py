"""Program: the instructions of one mapped layer, and what they are instructions for."""

from dataclasses import dataclass, field
from hashlib import sha256

from tersor.document import to_json
from tersor.hardware import Hardware
from tersor.layer import Layer
from tersor.scheme import Scheme
from tersor.targets.accelerator.isa.epilogue import Epilogue, Sums
from tersor.targets.accelerator.isa.instruction import Instruction


@dataclass(frozen=True)
class Program:
    """What a machine executes for `layer` under `scheme`; what it does about zeros its description says."""

    machine: str  # the hardware's name
    digest: str  # of the whole description that it was made for
    layer: Layer
    scheme: Scheme
    instructions: tuple[Instruction, ...]
    epilogue: Epilogue = field(default_factory=Sums)


def digest_of(hardware: Hardware) -> str:
    """SHA-256 of the whole description of a machine, in hexadecimal: equal for equal machines."""
    return sha256(to_json(hardware, Hardware).encode()).hexdigest()
