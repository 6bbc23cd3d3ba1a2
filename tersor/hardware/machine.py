"""The machine as a whole, and the file that it is read from.

name = "edge"
clock = "500 MHz"

[[compute]]                     # one entry for each number format
precision = "int8"
macs_per_cycle = 256
skips = ["2:4"]                 # the sparsity whose zeros take no time
energy_per_mac = "0.3 pJ"
source = "where the energy is from"

[[memories]]                    # from the outermost to the innermost
name = "dram"
size = "512 MiB"
bandwidth = "6.4 GB/s"
energy_per_byte = "160 pJ"
source = "where the energy is from"

[[axes]]                        # of an accelerator: units side by side
name = "rows"
size = 16
inside = "buffer"               # the memory below which they are
unrolls = ["C", "R", "S"]
reduces = true
multicast = ["input"]

[datapath]                      # of an accelerator: how a unit multiplies
mode = "packed"
word = 8
"""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import ConfigDict

from tersor.document import read_toml
from tersor.hardware.axis import Axis
from tersor.hardware.compute import Compute
from tersor.hardware.datapath import Datapath
from tersor.hardware.memory import OPERANDS, Memory
from tersor.units import Hertz

Operator = Literal["conv2d", "matmul", "gather"]
OPERATORS: tuple[Operator, ...] = ("conv2d", "matmul", "gather")


@dataclass(frozen=True)
class Hardware:
    """A machine; `memories` go from the outermost (dram) to the innermost, `features` are of its ISA.

    `axes` and `datapath` are an accelerator's; without them only rates and sizes are known.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    clock: Hertz
    compute: tuple[Compute, ...]
    memories: tuple[Memory, ...]
    cores: int = 1
    features: tuple[str, ...] = ()
    axes: tuple[Axis, ...] = ()
    datapath: Datapath | None = None
    operators: tuple[Operator, ...] = OPERATORS

    def __post_init__(self) -> None:
        if not self.clock > 0:
            raise ValueError(f"the hardware {self.name} needs a clock above 0 Hz, got {self.clock}")
        if self.cores < 1:
            raise ValueError(f"the hardware {self.name} needs at least 1 core, got {self.cores}")
        for kind, names in (
            ("compute", [unit.precision for unit in self.compute]),
            ("memories", [memory.name for memory in self.memories]),
        ):
            if not names:
                raise ValueError(f"the hardware {self.name} needs at least one entry in {kind}, got none")
            _check_distinct(self.name, kind, names)
        _check_distinct(self.name, "memories and axes", [each.name for each in (*self.memories, *self.axes)])
        if missing := set(OPERANDS) - set(self.memories[0].keeps):
            outermost = self.memories[0].name
            raise ValueError(f"{outermost}, the outermost memory, keeps every operand; add {min(missing)}")
        self._check_array()

    def _check_array(self) -> None:
        memories = [memory.name for memory in self.memories]
        for axis in self.axes:
            if axis.inside not in memories:
                raise ValueError(
                    f"the axis {axis.name} lies inside of one of {', '.join(memories)}, got {axis.inside!r}"
                )
        if self.axes and self.datapath is None:
            raise ValueError(
                f"the hardware {self.name} has axes; add a [datapath] that says how units multiply"
            )
        if self.datapath is None:
            return
        axes = [axis.name for axis in self.axes]
        for name in (*self.datapath.skew, *self.datapath.loads):
            if name not in axes:
                raise ValueError(f"datapath: skew and loads name axes ({', '.join(axes)}), got {name!r}")
        for unit in self.compute:
            self._check_rate(unit, self.datapath)

    def _check_rate(self, unit: Compute, datapath: Datapath) -> None:
        if not unit.is_integer:
            return
        if reason := datapath.why_not(unit.bits, unit.bits):
            raise ValueError(f"{unit.precision}: {reason}; make its word larger or remove {unit.precision}")
        rate = self.units * datapath.macs(unit.bits, unit.bits)
        if abs(rate - unit.macs_per_cycle) > 1e-9 * rate:
            raise ValueError(
                f"{unit.precision}: {self.units} units make {rate:g} products in a cycle, "
                f"macs_per_cycle says {unit.macs_per_cycle:g}"
            )

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a machine's TOML file. Raises UserError naming the file, the key and what to change."""
        return read_toml(path, cls)

    def unit(self, precision: str) -> Compute | None:
        """What computes in `precision`, or None if nothing does."""
        return next((unit for unit in self.compute if unit.precision == precision), None)

    def memory(self, name: str) -> Memory:
        """The memory of that name. Raises KeyError."""
        for memory in self.memories:
            if memory.name == name:
                return memory
        raise KeyError(name)

    def axis(self, name: str) -> Axis:
        """The axis of that name. Raises KeyError."""
        for axis in self.axes:
            if axis.name == name:
                return axis
        raise KeyError(name)

    @property
    def precisions(self) -> tuple[str, ...]:
        """The number formats it computes in."""
        return tuple(unit.precision for unit in self.compute)

    @property
    def units(self) -> int:
        """Units of the whole array: one without axes."""
        return prod(axis.size for axis in self.axes)

    def instances(self, memory: Memory) -> int:
        """How many of the memory there are: one for each unit of the axes around it."""
        names = [each.name for each in self.memories]
        level = names.index(memory.name)
        return prod(axis.size for axis in self.axes if names.index(axis.inside) < level)

    def read_bandwidth(self, memory: Memory) -> float:
        """Bytes per second that one such memory gives, if nothing is written meanwhile."""
        return self._bandwidth(memory, memory.read_ports)

    def write_bandwidth(self, memory: Memory) -> float:
        """Bytes per second that one such memory takes, if nothing is read meanwhile."""
        return self._bandwidth(memory, memory.write_ports)

    def _bandwidth(self, memory: Memory, ports: float | None) -> float:
        if memory.bandwidth is not None:
            return memory.bandwidth
        assert ports is not None
        assert memory.word is not None  # the memory has looked
        return ports * memory.banks * memory.word / 8 * self.clock


def _check_distinct(name: str, kind: str, names: list[str]) -> None:
    if len(set(names)) < len(names):
        raise ValueError(f"the hardware {name} has two entries of one name in {kind}: {names}")
