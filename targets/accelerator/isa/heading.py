"""Heading: the lines that a program begins with, in its text and in its bytes: what it is for.

    machine "edge" 0f3a...
    layer {"name":"conv1","operator":"conv2d","K":64,"C":3,"P":112,"Q":112,"R":7,"S":7,"stride":[2,2]}
    scheme int8+2:4
    requantize {"zero_point":128}

A vector program has the operator in place of scheme and epilogue: `max_pool {"kernel":[3,3],"stride":[2,2]}`.
Before the last line stands what lies on the chip from the beginning or at the end, if anything does:
`homes [{"operand":"input","level":1,"address":0,"size":1024}]`.
"""

import json
from dataclasses import dataclass
from functools import cache

from pydantic import TypeAdapter

from tersor.document import parse_json
from tersor.error import UserError
from tersor.layer import Layer
from tersor.scheme import Scheme
from tersor.targets.accelerator.isa.epilogue import Epilogue, Requantize, Rescale, Sums
from tersor.targets.accelerator.isa.instruction import Instruction
from tersor.targets.accelerator.isa.program import AnyProgram, Homes, Program, VectorProgram
from tersor.targets.accelerator.isa.vector import Add, AveragePool, MaxPool, Recode, VectorOperator

_EPILOGUES: dict[str, type[Epilogue]] = {"requantize": Requantize, "rescale": Rescale, "sums": Sums}
_OPERATORS: dict[str, type[VectorOperator]] = {
    "add": Add,
    "max_pool": MaxPool,
    "average_pool": AveragePool,
    "recode": Recode,
}
_NAMES = {kind: name for name, kind in (*_EPILOGUES.items(), *_OPERATORS.items())}


@dataclass(frozen=True)
class Heading:
    """A program without its instructions; `scheme` is None for a vector operator."""

    machine: str
    digest: str
    layer: Layer
    scheme: Scheme | None
    purpose: Epilogue | VectorOperator
    homes: Homes = ()

    @classmethod
    def of(cls, program: AnyProgram) -> "Heading":
        """The heading of `program`."""
        match program:
            case Program():
                scheme, purpose = program.scheme, program.epilogue
            case VectorProgram():
                scheme, purpose = None, program.operator
        return cls(program.machine, program.digest, program.layer, scheme, purpose, program.homes)

    def program(self, instructions: tuple[Instruction, ...]) -> AnyProgram:
        """The program of these instructions. Raises ValueError if they make none."""
        match self.purpose:
            case Requantize() | Rescale() | Sums():
                assert self.scheme  # parse_heading has looked
                parts = self.machine, self.digest, self.layer, self.scheme, instructions, self.purpose
                return Program(*parts, self.homes)
            case Add() | MaxPool() | AveragePool() | Recode():
                parts = self.machine, self.digest, self.layer, self.purpose, instructions
                return VectorProgram(*parts, self.homes)


def write_heading(heading: Heading) -> list[str]:
    """The lines of `heading`."""
    scheme = [f"scheme {heading.scheme}"] if heading.scheme else []
    homes = (
        [f"homes {_adapter(Homes).dump_json(heading.homes, exclude_defaults=True).decode()}"]
        if heading.homes
        else []
    )
    return [
        f"machine {json.dumps(heading.machine)} {heading.digest}",
        f"layer {_json(heading.layer)}",
        *scheme,
        *homes,
        f"{_NAMES[type(heading.purpose)]} {_json(heading.purpose)}",
    ]


def parse_heading(lines: list[str], origin: str) -> tuple[Heading, int]:
    """Read what `write_heading` writes, and say how many lines it is. Raises UserError, with `origin`."""
    words = [line.strip().split(" ", 1) for line in [*lines[:5], *[""] * 5]]
    kinds = [each[0] for each in words]
    has_scheme = kinds[2] == "scheme"
    at = 2 + has_scheme
    has_homes = kinds[at] == "homes"
    length = at + has_homes + 1
    known = _EPILOGUES if has_scheme else _OPERATORS
    if kinds[:2] != ["machine", "layer"] or kinds[length - 1] not in known:
        raise UserError(
            f"{origin} has no heading: give lines of machine, layer, scheme and what becomes of the sums "
            f"({', '.join(_EPILOGUES)}), or of machine, layer and an operator ({', '.join(_OPERATORS)})"
        )
    name, _, digest = words[0][-1].rpartition(" ")
    machine = parse_json(name, str, f"{origin}, machine")
    layer = parse_json(words[1][-1], Layer, f"{origin}, layer")
    purpose = parse_json(words[length - 1][-1], known[kinds[length - 1]], f"{origin}, {kinds[length - 1]}")
    homes = parse_json(words[at][-1], Homes, f"{origin}, homes") if has_homes else ()
    try:
        scheme = Scheme.parse(words[2][-1]) if has_scheme else None
    except ValueError as error:
        raise UserError(f"{origin}: {error}") from None
    return Heading(machine, digest, layer, scheme, purpose, homes), length


@cache
def _adapter(kind: type) -> TypeAdapter[object]:
    return TypeAdapter(kind)


def _json(value: Layer | Epilogue | VectorOperator) -> str:
    return _adapter(type(value)).dump_json(value, exclude_defaults=True).decode()
