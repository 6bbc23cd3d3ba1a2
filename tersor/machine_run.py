"""Machine run: what a network took on a simulated accelerator, layer by layer, and whether it was right."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isclose
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tersor.document import read_json, write_json
from tersor.simulated_layer import SimulatedLayer
from tersor.targets.accelerator.offload.refusals import Refusal

Array = NDArray[Any]


@dataclass(frozen=True)
class Agreement:
    """How an output of the network compares with that of the build for the CPU.

    `different` of `elements` are not the same to the last bit, by at most `largest`.
    """

    output: str
    elements: int
    different: int
    largest: float

    @property
    def exact(self) -> bool:
        """Whether both are the same to the last bit."""
        return self.different == 0


@dataclass(frozen=True)
class MachineRun:
    """The layers of a network in the order in which a machine ran them, means over `samples` runs.

    `cycles` and `energy` (pJ) are those of all layers, one after the other; what stays `on_cpu` is in
    neither. `share` is the part of the products of the network that the machine makes.
    """

    hardware: str
    samples: int
    share: float
    cycles: float
    energy: float
    layers: tuple[SimulatedLayer, ...]
    on_cpu: tuple[Refusal, ...]
    outputs: tuple[Agreement, ...]

    def __post_init__(self) -> None:
        for what in ("cycles", "energy"):
            total = sum(getattr(layer, what) for layer in self.layers)
            if not isclose(getattr(self, what), total, rel_tol=1e-6):
                raise ValueError(f"{what} are {total:g} of all layers, got {getattr(self, what):g}")

    @classmethod
    def of(
        cls,
        hardware: str,
        samples: int,
        share: float,
        layers: Sequence[SimulatedLayer],
        on_cpu: Sequence[Refusal],
        outputs: Sequence[Agreement],
    ) -> Self:
        """Add the layers up."""
        cycles, energy = sum(layer.cycles for layer in layers), sum(layer.energy for layer in layers)
        return cls(hardware, samples, share, cycles, energy, tuple(layers), tuple(on_cpu), tuple(outputs))

    @property
    def scheme(self) -> str:
        """The scheme of all layers, or that they have several."""
        schemes = {layer.scheme for layer in self.predicted}
        return next(iter(schemes)) if len(schemes) == 1 else f"{len(schemes)} schemes"

    @property
    def exact(self) -> bool:
        """Whether all outputs are those of the CPU to the last bit."""
        return all(output.exact for output in self.outputs)

    @property
    def predicted(self) -> tuple[SimulatedLayer, ...]:
        """The layers of which the model has a prediction: those on the array."""
        return tuple(layer for layer in self.layers if layer.predicted)

    def save(self, path: Path) -> None:
        """Write all of it as JSON. Raises UserError."""
        write_json(path, self, MachineRun)

    @classmethod
    def load(cls, path: Path) -> "MachineRun":
        """Read what `save` wrote. Raises UserError naming the file, the key and what to change."""
        return read_json(path, MachineRun)


def agreement(output: str, runs: Sequence[tuple[Array, Array]]) -> Agreement:
    """Compare what the machine and the CPU gave for an output, run by run."""
    elements, different, largest = 0, 0, 0.0
    for mine, theirs in runs:
        unequal = _bits(mine) != _bits(theirs)
        elements += mine.size
        different += int(unequal.sum())
        if unequal.any():
            apart = np.abs(
                np.subtract(mine.reshape(-1)[unequal], theirs.reshape(-1)[unequal], dtype=np.float64)
            )
            # One that is no number differs by as much as can be written.
            largest = max(largest, float(np.nan_to_num(apart, nan=np.finfo(np.float64).max).max()))
    return Agreement(output, elements, different, largest)


def _bits(array: Array) -> NDArray[np.unsignedinteger[Any]]:
    return np.ascontiguousarray(array).reshape(-1).view(f"u{array.dtype.itemsize}")
