"""Vector: the programs of the vector unit, executed tile by tile.

Time passes as in `clock`: the unit comes first at the ports of its memory, transfers take the rest of the
time, in program order, and outputs leave when their place is needed. An `Apply` takes the time of its ports.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tersor.hardware import Hardware
from tersor.layer import DIMS, Layer, Operand
from tersor.targets.accelerator.isa.instruction import (
    OPERANDS,
    Apply,
    End,
    Extents,
    Instruction,
    Load,
    Loop,
    Store,
    Sync,
    Token,
)
from tersor.targets.accelerator.isa.program import VectorProgram
from tersor.targets.accelerator.isa.vector import Add, AveragePool, MaxPool, Recode, VectorOperator
from tersor.targets.accelerator.simulator.epilogue import add_in_parts, saturate
from tersor.targets.accelerator.simulator.result import Event, Simulated
from tersor.targets.accelerator.simulator.state import MOST_EVENTS
from tersor.targets.accelerator.simulator.tables import READ, STREAMS, WRITE
from tersor.targets.accelerator.simulator.tensors import Codes, Tensors

Cycles = NDArray[np.float64]  # of each port
BITS = 8  # of a code


def simulate_vector(program: VectorProgram, hardware: Hardware, tensors: Tensors) -> Simulated:
    """Run `program` on `input`, and an addition on `weight`, too: uint8 codes, [N, C, H, W] for windows.

    Raises ValueError for tensors of other sizes or types, and for a program that waits in vain.
    """
    unit = _Unit(program, hardware, tensors)
    for instruction, at in _walk(program.layer, program.instructions, dict.fromkeys(DIMS, 0)):
        unit.obey(instruction, at)
    return unit.result()


def _walk(
    layer: Layer, body: tuple[Instruction, ...], at: dict[str, int]
) -> Iterator[tuple[Instruction, dict[str, int]]]:
    """Every instruction but loops, as often as it is obeyed, with the coordinates of its place."""
    here = 0
    while here < len(body):
        match body[here]:
            case Loop(dim, size, step):
                end = _end_of(body, here)
                for index in range(size):
                    inside = at | {dim: at[dim] + index * step}
                    if inside[dim] < layer.size(dim):
                        yield from _walk(layer, body[here + 1 : end], inside)
                here = end
            case other:
                yield other, at
        here += 1


def _end_of(body: tuple[Instruction, ...], loop: int) -> int:
    depth = 0
    for place in range(loop, len(body)):
        depth += isinstance(body[place], Loop) - isinstance(body[place], End)
        if depth == 0:
            return place
    raise ValueError("a loop of the program has no end")


@dataclass
class _Place:
    """The tile of an operand: its codes, when it is full, its places as they get free, and what leaves."""

    full: Cycles
    free: list[Cycles]
    codes: Codes = field(default_factory=lambda: np.zeros((0, 0, 0, 0), np.uint8))
    leaving: list[tuple[Cycles, Cycles, tuple[Token, ...]]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)


class _Unit:
    """The machine while it obeys."""

    def __init__(self, program: VectorProgram, hardware: Hardware, tensors: Tensors) -> None:
        self.program, self.hardware, self.layer = program, hardware, program.layer
        self.sources = _sources(program, tensors)
        layer = self.layer
        self.made: Codes = np.zeros((layer.N, layer.G, layer.P, layer.Q), np.uint8)
        self.now, self.steps, self.stalls = 0.0, 0, dict[str, float]()
        ports = 2 * len(hardware.memories)
        self.units, self.done = np.zeros(ports), np.zeros(ports)
        self.counts = np.zeros((2, len(hardware.memories), len(STREAMS)), np.int64)
        loads = [each for each in program.instructions if isinstance(each, Load)]
        self.places: dict[tuple[Operand, int], _Place] = {
            (each.operand, each.target): _Place(np.zeros(ports), [np.zeros(ports)] * each.places)
            for each in loads
        }

    def obey(self, instruction: Instruction, at: dict[str, int]) -> None:
        """Execute one instruction at the coordinates of its place."""
        match instruction:
            case Load():
                self._load(instruction, at)
            case Apply():
                self._apply(instruction, at)
            case Store():
                self._store(instruction, at)
            case Sync():
                self._give_free(instruction.signals, self._present())

    def _load(self, load: Load, at: dict[str, int]) -> None:
        place = self.places[load.operand, load.target]
        begin = self._take_free(place)
        if load.operand == "output":
            place.full = begin
            return
        place.codes = self._part(load.operand, at, load.extents)
        need = self._count(load.operand, place.codes.size, load.source, load.target)
        place.full, first, last = self._transfer(begin, need)
        self._note(place, load.operand, load.target, "comes", first, last)

    def _apply(self, apply: Apply, at: dict[str, int]) -> None:
        for token in apply.waits:
            place = self.places[token.operand, token.level]
            if (waiting := self._ahead(place.full)) > 0:
                name = f"{token.operand}@{self.hardware.memories[token.level].name}"
                self.stalls[name] = self.stalls.get(name, 0.0) + waiting
                self._note(place, token.operand, token.level, "waits", 0.0, waiting)
                self.now += waiting
        found = self._made_of_tiles(apply, at)
        if place := self.places.get(("output", apply.level)):
            place.codes = found
        else:
            self._make(found, at, apply.extents)
        need = np.zeros_like(self.units)
        for operand in self.sources:
            size = self._tile(operand, apply, at).size
            need += self._moved(operand, READ, apply.level, size)
        need += self._moved("output", WRITE, apply.level, found.size)
        self.units += need
        self.now += float(need.max())
        self.steps += 1

    def _tile(self, operand: Operand, apply: Apply, at: dict[str, int]) -> Codes:
        """What the unit reads of an input: its tile, or a part of what stays there."""
        place = self.places.get((operand, apply.level))
        return self._part(operand, at, apply.extents) if place is None else place.codes

    def _part(self, operand: Operand, at: dict[str, int], extents: Extents) -> Codes:
        """What outputs of these extents need of an input."""
        rows, columns = (_touched(self.layer, axis, at, extents) for axis in (0, 1))
        if operand == "weight":
            rows, columns = (_clip(self.layer, dim, at, extents) for dim in "PQ")
        box = np.ix_(*(_clip(self.layer, dim, at, extents) for dim in "NG"), rows, columns)
        return self.sources[operand][box]

    def _make(self, codes: Codes, at: dict[str, int], extents: Extents) -> None:
        self.made[np.ix_(*(_clip(self.layer, dim, at, extents) for dim in "NGPQ"))] = codes

    def _made_of_tiles(self, apply: Apply, at: dict[str, int]) -> Codes:
        tile = self._tile("input", apply, at)
        windows = []
        for axis, (outputs, taps) in enumerate(("PR", "QS")):
            lines = np.zeros(0, int) if tile.size == 0 else _touched(self.layer, axis, at, apply.extents)
            first = _clip(self.layer, outputs, at, apply.extents) * self.layer.stride[axis]
            windows.append(np.searchsorted(lines, first[:, None] + np.arange(self.layer.size(taps))))
        rows, columns = windows
        inputs = tile[:, :, rows[:, None, :, None], columns[None, :, None, :]]  # [N, G, P, Q, R, S]
        other = self._tile("weight", apply, at) if "weight" in self.sources else None
        return _applied(self.program.operator, inputs, other)

    def _store(self, store: Store, at: dict[str, int]) -> None:
        place = self.places["output", store.source]
        self._make(place.codes, at, store.extents)
        need = self._count("output", place.codes.size, store.source, store.target)
        place.leaving.append((self._present(), need, store.signals))
        if not self.hardware.memories[store.source].overlaps:
            self._settle(place, store.source)

    def _settle(self, place: _Place, level: int) -> None:
        """Book the outputs that are the first to leave."""
        begin, need, signals = place.leaving.pop(0)
        event, first, last = self._transfer(begin, need)
        self._note(place, "output", level, "leaves", first, last)
        self._give_free(signals, event)

    def _take_free(self, place: _Place) -> Cycles:
        if not place.free and place.leaving:
            self._settle(place, next(level for (_, level), each in self.places.items() if each is place))
        if not place.free:
            raise ValueError(f"{self.layer.name}: the program waits for a place that nothing frees")
        return place.free.pop(0)

    def _give_free(self, tokens: tuple[Token, ...], event: Cycles) -> None:
        for token in tokens:
            self.places[token.operand, token.level].free.append(event)

    def _present(self) -> Cycles:
        return self.now - self.units

    def _ahead(self, event: Cycles) -> float:
        return float((event - self._present()).max())

    def _transfer(self, release: Cycles, need: Cycles) -> tuple[Cycles, float, float]:
        """Let a transfer have its ports; give the event of its end, and in cycles from now both its ends."""
        later, begin = self._ahead(release), release
        if later > 0:
            begin = np.maximum(release, self._present() + later)
        end = begin.copy()
        moves = need > 0
        self.done[moves] = np.maximum(self.done, begin)[moves] + need[moves]
        end[moves] = self.done[moves]
        last = self._ahead(end)
        return end, min(later, last - float(need.max())), last

    def _count(self, operand: Operand, elements: int, source: int, target: int) -> Cycles:
        """Count elements that go from one level to another; give the cycles of each port."""
        read = self._moved(operand, READ, source, elements)
        return read + self._moved(operand, WRITE, target, elements)

    def _moved(self, operand: Operand, what: np.int64, level: int, elements: int) -> Cycles:
        self.counts[what, level, OPERANDS.index(operand)] += elements
        memory, need = self.hardware.memories[level], np.zeros_like(self.units)
        of = (self.hardware.read_bandwidth, self.hardware.write_bandwidth)[what]
        port = 2 * level + (what if memory.bandwidth is None else 0)
        need[port] = elements * memory.element_bits(BITS) * self.hardware.clock / (8 * of(memory))
        return need

    def _note(self, place: _Place, operand: Operand, level: int, kind: str, begin: float, end: float) -> None:
        if len(place.events) < MOST_EVENTS:
            times = (max(0.0, self.now + each) for each in (begin, end))
            place.events.append(Event(operand, self.hardware.memories[level].name, kind, *times))  # type: ignore[arg-type]

    def result(self) -> Simulated:
        """Let everything arrive, and give what came out."""
        for (operand, level), place in self.places.items():
            while place.leaving:
                self._settle(place, level)
            for event in place.free:
                if (last := self._ahead(event)) > 0:
                    name = f"{operand}@{self.hardware.memories[level].name}"
                    self.stalls[name] = self.stalls.get(name, 0.0) + last
                    self._note(place, operand, level, "waits", 0.0, last)
                    self.now += last
        memories = self.hardware.memories
        elements = np.array([memory.element_bits(BITS) for memory in memories])[:, None]
        bits = self.counts * elements
        energy = {
            each.name: float(
                bits[READ, level].sum() * each.energy_per_byte + bits[WRITE, level].sum() * each.write_energy
            )
            / 8
            for level, each in enumerate(memories)
        }
        events = [event for place in self.places.values() for event in place.events]
        reads, writes = self.counts
        return Simulated(
            output=self.made,
            cycles=self.now,
            steps=self.steps,
            stalls=self.stalls,
            reads=reads,
            writes=writes,
            busiest_reads=reads,
            busiest_writes=writes,
            read_bits=bits[READ],
            write_bits=bits[WRITE],
            memory_energy=energy,
            compute_energy=0.0,
            products=0,
            events=tuple(sorted(events, key=lambda event: (event.begin, event.end))),
        )


def _sources(program: VectorProgram, tensors: Tensors) -> dict[Operand, Codes]:
    """The padded input [N, G, H, W], and the right operand of an addition."""
    layer, operator = program.layer, program.operator
    given: dict[Operand, Codes] = {"input": tensors.input}
    if isinstance(operator, Add):
        assert isinstance(tensors.weight, np.ndarray)
        given["weight"] = tensors.weight
    windows = isinstance(operator, MaxPool | AveragePool)
    found: dict[Operand, Codes] = {}
    for operand, codes in given.items():
        shape = (layer.N, layer.G, *(codes.shape[2:] if windows else (layer.P, layer.Q)))
        if codes.dtype != np.uint8 or codes.size != np.prod(shape):
            got = f"{codes.dtype} {list(codes.shape)}"
            raise ValueError(f"{layer.name}: the {operand} is uint8 codes {list(shape)}, got {got}")
        found[operand] = codes.reshape(shape)
    if isinstance(operator, MaxPool):
        top, left, bottom, right = operator.padding
        found["input"] = np.pad(found["input"], ((0, 0), (0, 0), (top, bottom), (left, right)))
    for axis, (outputs, taps) in enumerate(("PR", "QS")):
        touched = (layer.size(outputs) - 1) * layer.stride[axis] + layer.size(taps)
        if found["input"].shape[2 + axis] < touched:
            raise ValueError(
                f"{layer.name}: the padded input has at least {touched} lines, got {found['input'].shape}"
            )
    return found


def _clip(layer: Layer, dim: str, at: dict[str, int], extents: Extents) -> NDArray[np.int64]:
    """The coordinates along a dimension of what the layer has of a tile."""
    return np.arange(at[dim], min(layer.size(dim), at[dim] + extents[DIMS.index(dim)]))


def _touched(layer: Layer, axis: int, at: dict[str, int], extents: Extents) -> NDArray[np.int64]:
    """The rows (axis 0) or columns (1) of the input that the windows of a tile touch."""
    outputs, taps = ("PR", "QS")[axis]
    first = _clip(layer, outputs, at, extents) * layer.stride[axis]
    return np.unique(first[:, None] + np.arange(layer.size(taps)))


def _applied(operator: VectorOperator, windows: Codes, other: Codes | None) -> Codes:
    """What an operator makes of windows [N, G, P, Q, R, S] of codes, and a right operand [N, G, P, Q]."""
    match operator:
        case MaxPool():
            return windows.max(axis=(4, 5))
        case AveragePool(multiplier, in_zero_point, zero_point, bounds=bounds):
            sums = (windows.astype(np.int32) - in_zero_point).sum(axis=(4, 5), dtype=np.int32)
            return saturate(_scaled(sums, multiplier), zero_point, bounds)
        case Recode(multiplier, in_zero_point, zero_point, bounds):
            centred = windows[..., 0, 0].astype(np.int32) - in_zero_point
            return saturate(_scaled(centred, multiplier), zero_point, bounds)
        case Add(a, a_zero, b, b_zero, zero_point, bounds):
            assert other is not None  # its tile has been loaded
            left = _scaled(windows[..., 0, 0].astype(np.int32) - a_zero, a)
            return add_in_parts(left, _scaled(other.astype(np.int32) - b_zero, b), zero_point, bounds)


def _scaled(centred: NDArray[np.int32], multiplier: float) -> NDArray[np.float32]:
    return centred.astype(np.float32) * np.float32(multiplier)
