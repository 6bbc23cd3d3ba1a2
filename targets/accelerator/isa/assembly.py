"""Assembly: a program as text that can be read, and edited, and read back.

    machine "edge" 0f3a...
    layer {"name":"fc","operator":"matmul","K":1000,"C":512}
    scheme int8
    sums {}
    spread C 16 on rows step 1
    loop K 63 step 16
      load weight dram -> sram at 0 x2 pitch 8192, K 16 C 512, wait free weight@sram, give full weight@sram
      ...

Every line is clauses with commas between; memories and axes go by their names.
"""

import re

from tersor.error import UserError
from tersor.hardware import Hardware
from tersor.layer import DIMS
from tersor.targets.accelerator.isa.heading import Heading, parse_heading, write_heading
from tersor.targets.accelerator.isa.instruction import (
    Apply,
    Compute,
    End,
    Extents,
    Instruction,
    Load,
    Loop,
    Spread,
    Store,
    Sync,
    Token,
    extents_of,
)
from tersor.targets.accelerator.isa.program import AnyProgram, check_machine

_ONE = "one element"


def disassemble(program: AnyProgram, hardware: Hardware) -> str:
    """The text of `program`, with the names of `hardware`. Raises UserError if it is another machine's."""
    check_machine(program, hardware, f"the program of {program.layer.name}")
    lines = write_heading(Heading.of(program))
    depth = 0
    for instruction in program.instructions:
        depth -= isinstance(instruction, End)
        lines.append("  " * depth + _write(instruction, hardware))
        depth += isinstance(instruction, Loop)
    return "\n".join(lines) + "\n"


def assemble(text: str, hardware: Hardware, origin: str = "the program") -> AnyProgram:
    """Read the text of a program for `hardware`.

    `origin` names it in errors. Raises UserError naming the line that is not understood, or if the program is
    another machine's.
    """
    lines = text.removesuffix("\n").split("\n")
    heading, length = parse_heading(lines, origin)
    reader = _Reader(hardware)
    instructions: list[Instruction] = []
    for number, line in enumerate(lines[length:], length + 1):
        try:
            instructions.append(reader.read(line.strip()))
        except ValueError as error:
            raise UserError(f"{origin}, line {number}: {error}") from None
    try:
        program = heading.program(tuple(instructions))
    except ValueError as error:
        raise UserError(f"{origin}: {error}") from None
    check_machine(program, hardware, origin)
    return program


def _write(instruction: Instruction, hardware: Hardware) -> str:
    names = [memory.name for memory in hardware.memories]

    def tokens(word: str, given: tuple[Token, ...]) -> list[str]:
        words = " ".join(f"{token.state} {token.operand}@{names[token.level]}" for token in given)
        return [f"{word} {words}"] if given else []

    match instruction:
        case Spread(axis, dim, size, step):
            return f"spread {dim} {size} on {hardware.axes[axis].name} step {step}"
        case Loop(dim, size, step):
            return f"loop {dim} {size} step {step}"
        case End():
            return "end"
        case Load() as load:
            kind = "load" if load.operand != "output" else "restore" if load.restore else "begin"
            head = f"{kind} {load.operand} {names[load.source]} -> {names[load.target]} {_place(load)}"
            clauses = [head, _write_extents(load.extents), *["slides"] * load.slides]
            return ", ".join([*clauses, *tokens("wait", load.waits), *tokens("give", load.signals)])
        case Store() as store:
            head = f"store output {names[store.source]} -> {names[store.target]} {_place(store)}"
            clauses = [head, _write_extents(store.extents)]
            return ", ".join([*clauses, *tokens("wait", store.waits), *tokens("give", store.signals)])
        case Compute(waits):
            return ", ".join(["compute", *tokens("wait", waits)])
        case Apply(level, extents, waits):
            return ", ".join([f"apply at {names[level]}", _write_extents(extents), *tokens("wait", waits)])
        case Sync(signals):
            return ", ".join(["sync", *tokens("give", signals)])


def _place(tile: Load | Store) -> str:
    return f"at {tile.address} x{tile.places} pitch {tile.pitch}"


def _write_extents(extents: Extents) -> str:
    words = [f"{dim} {extent}" for dim, extent in zip(DIMS, extents, strict=True) if extent > 1]
    return " ".join(words) or _ONE


_PLACE = r"(\S+) -> (\S+) at (\d+) x(\d+) pitch (\d+)"
_SPREAD = re.compile(r"spread (\w) (\d+) on (\S+) step (\d+)")
_LOOP = re.compile(r"loop (\w) (\d+) step (\d+)")
_LOAD = re.compile(rf"(load|begin|restore) (\w+) {_PLACE}")
_STORE = re.compile(rf"store output {_PLACE}")
_APPLY = re.compile(r"apply at (\S+)")
_TOKEN = re.compile(r"(full|free) (\w+)@(\S+)")
_EXAMPLE = "loop K 4 step 16, or load weight dram -> buffer at 0 x2 pitch 64, K 16 C 4, or compute"


class _Reader:
    """Reads lines with the names of a machine. Raises ValueError."""

    def __init__(self, hardware: Hardware) -> None:
        self.levels = {memory.name: level for level, memory in enumerate(hardware.memories)}
        self.axes = {axis.name: number for number, axis in enumerate(hardware.axes)}

    def read(self, line: str) -> Instruction:
        head, *clauses = line.split(", ")
        waits, signals = self._tokens("wait", clauses), self._tokens("give", clauses)
        if found := _LOAD.fullmatch(head):
            slides, extents = self._taken("slides", clauses), self._extents(clauses)
            if (found[1] == "load") == (found[2] == "output"):
                raise ValueError(f"weight and input are loaded, the output begins or is restored: {line!r}")
            source, target = self._level(found[3]), self._level(found[4])
            place = int(found[5]), int(found[6]), int(found[7])
            restores = found[1] == "restore"
            operand: str = found[2]
            instruction = Load(operand, source, target, extents, *place, slides, restores, waits, signals)  # type: ignore[arg-type]  # it checks itself
        elif found := _STORE.fullmatch(head):
            place = int(found[3]), int(found[4]), int(found[5])
            source, target = self._level(found[1]), self._level(found[2])
            instruction = Store(source, target, self._extents(clauses), *place, waits, signals)
        else:
            instruction = self._read_short(head, clauses, waits, signals)
        if clauses:
            raise ValueError(f"{clauses[0]!r} is nothing that belongs to {head!r}; remove it")
        return instruction

    def _read_short(
        self, head: str, clauses: list[str], waits: tuple[Token, ...], signals: tuple[Token, ...]
    ) -> Instruction:
        """Read what has no tile's place; whoever gives or waits for nothing must not have such tokens."""
        if found := _APPLY.fullmatch(head):
            instruction, unused = Apply(self._level(found[1]), self._extents(clauses), waits), signals
        elif head == "compute":
            instruction, unused = Compute(waits), signals
        elif head == "sync":
            instruction, unused = Sync(signals), waits
        elif head == "end":
            instruction, unused = End(), (*waits, *signals)
        elif found := _LOOP.fullmatch(head):
            instruction, unused = Loop(found[1], int(found[2]), int(found[3])), (*waits, *signals)  # type: ignore[arg-type]  # it checks itself
        elif found := _SPREAD.fullmatch(head):
            if found[3] not in self.axes:
                raise ValueError(f"there is no axis {found[3]!r}; use one of {', '.join(self.axes)}")
            instruction = Spread(self.axes[found[3]], found[1], int(found[2]), int(found[4]))  # type: ignore[arg-type]  # it checks itself
            unused = (*waits, *signals)
        else:
            raise ValueError(f"{head!r} is no instruction; write it as in {_EXAMPLE}")
        if unused:
            raise ValueError(f"{head!r} has no {unused[0].state} {unused[0].operand} to wait for or give")
        return instruction

    def _level(self, name: str) -> int:
        if name not in self.levels:
            raise ValueError(f"there is no memory {name!r}; use one of {', '.join(self.levels)}")
        return self.levels[name]

    def _taken(self, clause: str, clauses: list[str]) -> bool:
        """Whether `clause` is there; it is removed."""
        if clause not in clauses:
            return False
        clauses.remove(clause)
        return True

    def _extents(self, clauses: list[str]) -> Extents:
        if self._taken(_ONE, clauses):
            return extents_of()
        for clause in clauses:
            if re.fullmatch(rf"[{''.join(DIMS)}] \d+( [{''.join(DIMS)}] \d+)*", clause):
                clauses.remove(clause)
                words = clause.split()
                if len(set(words[::2])) < len(words) // 2:
                    raise ValueError(f"{clause!r} names a dimension twice; remove one")
                return extents_of(**dict(zip(words[::2], map(int, words[1::2]), strict=True)))
        raise ValueError(f"a tile needs its extents, as in 'K 16 C 4' or {_ONE!r}")

    def _tokens(self, word: str, clauses: list[str]) -> tuple[Token, ...]:
        """The tokens behind `word`, whose clause is removed."""
        for clause in clauses:
            if clause.startswith(f"{word} "):
                clauses.remove(clause)
                words = clause.split()[1:]
                return tuple(map(self._token, words[::2], [*words[1::2], *[""] * (len(words) % 2)]))
        return ()

    def _token(self, state: str, where: str) -> Token:
        if not (found := _TOKEN.fullmatch(f"{state} {where}")):
            raise ValueError(f"'{state} {where}' is no token; write it as in full weight@buffer")
        return Token(state, found[2], self._level(found[3]))  # type: ignore[arg-type]  # it checks itself
