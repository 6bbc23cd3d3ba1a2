"""Program: the instructions of one mapped layer or vector operator, and what they are instructions for."""

from dataclasses import dataclass, field
from hashlib import sha256

from tersor.document import to_json
from tersor.hardware import Hardware
from tersor.layer import Layer
from tersor.scheme import Scheme
from tersor.targets.accelerator.isa.epilogue import Epilogue, Sums
from tersor.targets.accelerator.isa.instruction import Instruction
from tersor.targets.accelerator.isa.vector import VectorOperator


@dataclass(frozen=True)
class Program:
    """What a machine executes for `layer` under `scheme`; what it does about zeros its description says."""

    machine: str  # the hardware's name
    digest: str  # of the whole description that it was made for
    layer: Layer
    scheme: Scheme
    instructions: tuple[Instruction, ...]
    epilogue: Epilogue = field(default_factory=Sums)


@dataclass(frozen=True)
class VectorProgram:
    """What a machine's vector unit executes: `operator` on whole tensors, tile by tile.

    `layer` gives its loops, as `vector.loop_nest` says; N, G, P and Q are the coordinates of an output. The
    input is the padded image (with codes of 0, which win no maximum), in which output row p and window row r
    touch row p * stride + r. An addition has its right operand as `weight`, of the output's coordinates.
    Every element is a code of 8 bits.
    """

    machine: str  # the hardware's name
    digest: str  # of the whole description that it was made for
    layer: Layer
    operator: VectorOperator
    instructions: tuple[Instruction, ...]


def digest_of(hardware: Hardware) -> str:
    """SHA-256 of the whole description of a machine, in hexadecimal: equal for equal machines."""
    return sha256(to_json(hardware, Hardware).encode()).hexdigest()
