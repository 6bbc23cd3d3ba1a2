"""Ports: what bits of one memory of each level are read and written by, and the buses that carry them."""

from math import inf

import numpy as np

from tersor.hardware import Hardware
from tersor.layer import Operand
from tersor.targets.accelerator.counts import INPUT, OUTPUT, PARTIAL, WEIGHT
from tersor.targets.accelerator.schedule.ledger import Needs

BACK = PARTIAL  # the bus of sums that come back; that of those that leave is OUTPUT
_BUSES: dict[Operand, tuple[int, ...]] = {"weight": (WEIGHT,), "input": (INPUT,), "output": (OUTPUT, BACK)}


class Ports:
    """The ports of all memories, and their buses: how many bits they move in a cycle."""

    def __init__(self, hardware: Hardware) -> None:
        speed: list[float] = []
        self.level: list[int] = []  # of each port
        self._numbers: dict[tuple[int, str], int] = {}
        self._buses: dict[tuple[int, int], int] = {}
        for level, memory in enumerate(hardware.memories):
            self._numbers[level, "read"] = self._numbers[level, "write"] = len(speed)
            speed.append(8 * hardware.read_bandwidth(memory) / hardware.clock)
            if memory.bandwidth is None:
                self._numbers[level, "write"] = len(speed)
                speed.append(8 * hardware.write_bandwidth(memory) / hardware.clock)
            for operand, streams in _BUSES.items():
                if memory.buses.of(operand) < inf:
                    for stream in streams:
                        self._buses[level, stream] = len(speed)
                        speed.append(memory.buses.of(operand))
            self.level += [level] * (len(speed) - len(self.level))
        self.speed = np.array(speed)

    def needs(self, moved: dict[tuple[int, str], float], carried: dict[tuple[int, int], float]) -> Needs:
        """Cycles for bits that memories read and write, and that their buses carry."""
        found: dict[int, float] = {}
        used = [(self._numbers[key], bits) for key, bits in moved.items()]
        used += [(self._buses[key], bits) for key, bits in carried.items() if key in self._buses]
        for port, bits in used:
            if bits > 0:
                found[port] = found.get(port, 0.0) + bits / float(self.speed[port])
        return tuple(found.items())

    def of(self, *levels: int) -> tuple[int, ...]:
        """All ports and buses of some memories."""
        found = {self._numbers[level, way] for level in levels for way in ("read", "write")}
        found |= {port for (level, _), port in self._buses.items() if level in levels}
        return tuple(sorted(found))
