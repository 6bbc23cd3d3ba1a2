"""Simulated: what came out of a run, how long it took, and what it moved."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tersor.hardware import Hardware
from tersor.layer import Operand
from tersor.targets.accelerator.simulator import tables
from tersor.targets.accelerator.simulator.decode import Decoded
from tersor.targets.accelerator.simulator.rates import Arithmetic, Rates, buses_of
from tersor.targets.accelerator.simulator.tables import Clock, Memory


@dataclass(frozen=True)
class Event:
    """A tile of `operand` that `comes` to a memory, sums that it `leaves`, or an array that `waits` for it.

    A transfer begins when its tile's place is free and what it fetches is there, and ends when it has
    arrived; in cycles. Events are those between the operand's home and the next memory that keeps it.
    """

    operand: Operand
    memory: str
    kind: Literal["comes", "leaves", "waits"]
    begin: float
    end: float


@dataclass(frozen=True, eq=False)
class Simulated:
    """One run of a program.

    `cycles` are those of `steps` at full speed and of all `stalls`: for tiles (`input@buffer`), `fill`,
    `imbalance`, ports (`buffer port`) and buses (`buffer weight bus`; `partial` are sums that come back).
    Accesses are of all memories of a level, [memories, streams] with the streams weight, input, output,
    partial; `busiest_*` of the first of them. Energies are in pJ.
    """

    output: NDArray[Any]
    cycles: float
    steps: int
    stalls: dict[str, float]
    reads: NDArray[np.int64]
    writes: NDArray[np.int64]
    busiest_reads: NDArray[np.int64]
    busiest_writes: NDArray[np.int64]
    read_bits: NDArray[np.float64]
    write_bits: NDArray[np.float64]
    memory_energy: dict[str, float]
    compute_energy: float
    products: int  # those in which no zero was seen
    events: tuple[Event, ...]

    @property
    def energy(self) -> float:
        """All energy, pJ."""
        return self.compute_energy + sum(self.memory_energy.values())


def simulated(
    decoded: Decoded,
    hardware: Hardware,
    output: NDArray[Any],
    arithmetic: Arithmetic,
    rates: Rates,
    memory: Memory,
    clock: Clock,
) -> Simulated:
    """Read a result off the state in which a run has ended."""
    moved = rates.each[0] * (memory.counts - memory.saved[0]) + rates.each[1] * memory.saved[1]
    bits = moved[:, tables.ALL]
    energy = {
        each.name: float(
            bits[tables.READ, level].sum() * each.energy_per_byte
            + bits[tables.WRITE, level].sum() * each.write_energy
        )
        / 8
        for level, each in enumerate(hardware.memories)
    }
    made = tables.EFFECTUAL if rates.looks[4] else tables.PRODUCTS
    products = int(memory.state[made])
    return Simulated(
        output=output,
        cycles=float(clock.now[tables.NOW]),
        steps=int(memory.state[tables.STEPS]),
        stalls=_stalls(decoded, hardware, clock),
        reads=memory.counts[tables.READ, tables.ALL],
        writes=memory.counts[tables.WRITE, tables.ALL],
        busiest_reads=memory.counts[tables.READ, tables.FIRST],
        busiest_writes=memory.counts[tables.WRITE, tables.FIRST],
        read_bits=bits[tables.READ],
        write_bits=bits[tables.WRITE],
        memory_energy=energy,
        compute_energy=products * arithmetic.energy,
        products=products,
        events=_events(decoded, hardware, clock),
    )


_KINDS: tuple[Literal["comes", "leaves", "waits"], ...] = ("comes", "leaves", "waits")


def _stalls(decoded: Decoded, hardware: Hardware, clock: Clock) -> dict[str, float]:
    names = [f"{operand}@{hardware.memories[level].name}" for operand, level in decoded.keys]
    names += ["fill", "imbalance"]
    names += [f"{memory.name} {port}" for memory in hardware.memories for port in ("port", "write port")]
    names += [
        f"{hardware.memories[level].name} {tables.STREAMS[stream]} bus"
        for level, stream, _ in buses_of(hardware)
    ]
    return {name: float(cycles) for name, cycles in zip(names, clock.stalls, strict=True) if cycles > 0}


def _events(decoded: Decoded, hardware: Hardware, clock: Clock) -> tuple[Event, ...]:
    found = sorted(clock.events[: int(clock.now[tables.NOTED])].tolist(), key=lambda event: event[2:])
    keys = [decoded.keys[int(tile)] for tile, _, _, _ in found]
    return tuple(
        Event(operand, hardware.memories[level].name, _KINDS[int(kind)], begin, end)  # type: ignore[arg-type]
        for (operand, level), (_, kind, begin, end) in zip(keys, found, strict=True)
    )
