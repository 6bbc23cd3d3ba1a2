"""Encoding: a program as bytes, to be stored beside what it computes with.

    magic, version         8 bytes, and 2
    lengths, checksum      of the heading in bytes and of the instructions in records, 4 each; CRC-32 of all
                           else, 4
    heading                the lines of `tersor.targets.accelerator.isa.heading`, UTF-8
    instructions           a record of 72 bytes each

    record      operation, operand (or dimension, or axis), flags, source, target, places, 2 of zero: 8 bytes
                tokens waited for, tokens given                                  8 bytes each, 0 for none
                extents; of a loop size and step; of a spread its dimension too  8 times 4
                address, pitch                                                   8 each

Numbers are little endian. Nothing in it is code that a host would run.
"""

import struct
import zlib
from enum import IntEnum

from tersor.error import UserError
from tersor.hardware import Hardware
from tersor.layer import DIMS
from tersor.targets.accelerator.isa.heading import Heading, parse_heading, write_heading
from tersor.targets.accelerator.isa.instruction import (
    MOST_TOKENS,
    OPERANDS,
    Apply,
    Compute,
    End,
    Instruction,
    Load,
    Loop,
    Spread,
    Store,
    Sync,
    Token,
)
from tersor.targets.accelerator.isa.program import AnyProgram, check_machine

MAGIC, VERSION = b"\x93TERISA\n", 2
_HEAD = struct.Struct("<8sHII")
_CHECKSUM = struct.Struct("<I")
_RECORD = struct.Struct("<6B2x8B8B8IQQ")
_SLIDES, _RESTORES = 1, 2


class _Operation(IntEnum):
    SPREAD = 1
    LOOP = 2
    END = 3
    LOAD = 4
    STORE = 5
    COMPUTE = 6
    APPLY = 7
    SYNC = 8


def encode(program: AnyProgram) -> bytes:
    """The bytes of `program`. Raises ValueError naming an instruction whose numbers are too large."""
    heading = "\n".join(write_heading(Heading.of(program))).encode()
    records = b"".join(map(_encode, program.instructions))
    head = _HEAD.pack(MAGIC, VERSION, len(heading), len(program.instructions))
    return (
        head + _CHECKSUM.pack(zlib.crc32(records, zlib.crc32(heading, zlib.crc32(head)))) + heading + records
    )


def decode(data: bytes, hardware: Hardware, origin: str = "the program") -> AnyProgram:
    """Read the bytes of a program for `hardware`.

    `origin` names them in errors. Raises UserError for what is no program, is truncated or damaged, is of
    another version, or was made for another machine.
    """
    lines, records = _parts(data, origin)
    heading, length = parse_heading(lines, origin)
    try:
        if len(lines) > length:
            raise ValueError("the heading goes on")
        program = heading.program(tuple(map(_decode, records)))
    except (ValueError, IndexError) as error:
        raise UserError(f"{origin} holds what no program has, compile the model again: {error}") from error
    check_machine(program, hardware, origin)
    return program


def _parts(data: bytes, origin: str) -> tuple[list[str], list[bytes]]:
    """The lines of the heading, and the records, once the checksum is right."""
    if not data or not data.startswith(MAGIC[: len(data)]):
        raise UserError(f"{origin} is no accelerator's program: give what tersor compiled")
    begin = _HEAD.size + _CHECKSUM.size
    if len(data) < begin:
        raise UserError(f"{origin} is truncated: copy it again or compile the model again")
    _, version, heading, count = _HEAD.unpack_from(data)
    if version != VERSION:
        raise UserError(
            f"{origin} is of version {version}, this tersor runs {VERSION}: compile the model again"
            + (", or run it with a newer tersor" if version > VERSION else "")
        )
    if (missing := begin + heading + count * _RECORD.size - len(data)) > 0:
        raise UserError(
            f"{origin} is truncated, {missing} bytes are missing: copy it again or compile the model again"
        )
    (checksum,) = _CHECKSUM.unpack_from(data, _HEAD.size)
    if missing < 0 or zlib.crc32(data[begin:], zlib.crc32(data[: _HEAD.size])) != checksum:
        raise UserError(
            f"{origin} is damaged, its checksum is wrong: copy it again or compile the model again"
        )
    first = begin + heading
    try:
        lines = data[begin:first].decode().split("\n")
    except UnicodeDecodeError:
        raise UserError(f"{origin} has a heading that is no text: compile the model again") from None
    return lines, [data[at : at + _RECORD.size] for at in range(first, len(data), _RECORD.size)]


def _encode(instruction: Instruction) -> bytes:
    try:
        match instruction:
            case Spread(axis, dim, size, step):
                return _record(_Operation.SPREAD, axis, numbers=(size, step, DIMS.index(dim)))
            case Loop(dim, size, step):
                return _record(_Operation.LOOP, DIMS.index(dim), numbers=(size, step))
            case End():
                return _record(_Operation.END)
            case Load() as load:
                flags = _SLIDES * load.slides + _RESTORES * load.restore
                operand = OPERANDS.index(load.operand)
                return _tile(_Operation.LOAD, operand, flags, load)
            case Store() as store:
                return _tile(_Operation.STORE, OPERANDS.index("output"), 0, store)
            case Compute(waits):
                return _record(_Operation.COMPUTE, waits=waits)
            case Apply(level, extents, waits):
                return _record(_Operation.APPLY, target=level, waits=waits, numbers=extents)
            case Sync(signals):
                return _record(_Operation.SYNC, signals=signals)
    except struct.error:
        raise ValueError(f"the numbers of {instruction} are too large for a record") from None


def _tile(operation: int, operand: int, flags: int, tile: Load | Store) -> bytes:
    return _record(
        operation,
        operand,
        flags,
        tile.source,
        tile.target,
        tile.places,
        tile.waits,
        tile.signals,
        tile.extents,
        tile.address,
        tile.pitch,
    )


def _record(
    operation: int,
    subject: int = 0,
    flags: int = 0,
    source: int = 0,
    target: int = 0,
    places: int = 0,
    waits: tuple[Token, ...] = (),
    signals: tuple[Token, ...] = (),
    numbers: tuple[int, ...] = (),
    address: int = 0,
    pitch: int = 0,
) -> bytes:
    tokens = [_bytes_of(each) for each in (waits, signals)]
    padded = [*numbers, *[0] * (len(DIMS) - len(numbers))]
    fields = (operation, subject, flags, source, target, places)
    return _RECORD.pack(*fields, *tokens[0], *tokens[1], *padded, address, pitch)


def _bytes_of(tokens: tuple[Token, ...]) -> list[int]:
    """A byte for each token, never 0 as levels of tokens are 1 or more."""
    coded = [6 * t.level + 2 * OPERANDS.index(t.operand) + (t.state == "full") for t in tokens]
    return coded + [0] * (MOST_TOKENS - len(coded))


def _tokens_of(data: tuple[int, ...]) -> tuple[Token, ...]:
    return tuple(
        Token("full" if byte % 2 else "free", OPERANDS[byte % 6 // 2], byte // 6) for byte in data if byte
    )


def _decode(record: bytes) -> Instruction:
    """Read a record. Raises ValueError or IndexError where it is none that `_encode` writes."""
    operation, subject, flags, source, target, places, *others = _RECORD.unpack(record)
    waits, signals = _tokens_of(tuple(others[:8])), _tokens_of(tuple(others[8:16]))
    numbers, address, pitch = tuple(others[16:24]), others[24], others[25]
    place = address, places, pitch
    match _Operation(operation):
        case _Operation.SPREAD:
            instruction = Spread(subject, DIMS[numbers[2]], numbers[0], numbers[1])
        case _Operation.LOOP:
            instruction = Loop(DIMS[subject], numbers[0], numbers[1])
        case _Operation.END:
            instruction = End()
        case _Operation.LOAD:
            slides, restores = bool(flags & _SLIDES), bool(flags & _RESTORES)
            operand = OPERANDS[subject]
            instruction = Load(operand, source, target, numbers, *place, slides, restores, waits, signals)
        case _Operation.STORE:
            instruction = Store(source, target, numbers, *place, waits, signals)
        case _Operation.COMPUTE:
            instruction = Compute(waits)
        case _Operation.APPLY:
            instruction = Apply(target, numbers, waits)
        case _Operation.SYNC:
            instruction = Sync(signals)
    if _encode(instruction) != record:
        raise ValueError(f"a record of {instruction} has something in fields that it does not use")
    return instruction
