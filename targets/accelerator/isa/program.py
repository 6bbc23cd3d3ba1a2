"""Program: the instructions of one mapped layer, and what they are instructions for."""

from dataclasses import dataclass, field

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
