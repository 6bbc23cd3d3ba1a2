"""Measure: how two builds of one network compare in speed and in what they compute."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tersor.runner import Runner

Array = npt.NDArray[Any]


def latencies(runners: Sequence[Runner], inputs: Mapping[str, Array], repeats: int = 30) -> list[float]:
    """Give each runner's median wall time in ms, run in turn so that all see the same noise."""
    prepared = [runner.prepare(inputs) for runner in runners]
    times: list[list[float]] = [[] for _ in runners]
    for repeat in range(repeats + 2):
        for runner, tensors, seen in zip(runners, prepared, times, strict=True):
            start = time.perf_counter()
            runner.run(tensors)
            if repeat >= 2:
                seen.append((time.perf_counter() - start) * 1e3)
    return [statistics.median(seen) for seen in times]


def snr_db(signal: float, noise: float) -> float | None:
    """Give a signal-to-noise ratio in dB; None without a signal, at most 200 where nothing differs."""
    if signal <= 0:
        return None
    return min(200.0, 10 * float(np.log10(signal / noise))) if noise > 0 else 200.0


@dataclass
class Power:
    """Powers of a reference and of what differs from it, summed over samples."""

    signal: float = 0.0
    noise: float = 0.0

    def add(self, reference: Array, result: Array) -> None:
        """Take in one sample."""
        wide = reference.astype(np.float64)
        self.signal += float(np.square(wide).sum())
        self.noise += float(np.square(result.astype(np.float64) - wide).sum())

    @property
    def snr(self) -> float | None:
        """The signal-to-noise ratio in dB."""
        return snr_db(self.signal, self.noise)


@dataclass
class Comparison:
    """Two builds on the same samples; a sample's class is where its first output is largest."""

    powers: list[Power] = field(default_factory=list)
    rows: int = 0
    agreeing: int = 0
    right_reference: int = 0
    right: int = 0
    labelled: int = 0

    def add(self, reference: Sequence[Array], result: Sequence[Array], labels: Array | None = None) -> None:
        """Take in one batch of outputs of the reference and of the compressed build."""
        self.powers = self.powers or [Power() for _ in reference]
        for power, expected, got in zip(self.powers, reference, result, strict=True):
            power.add(expected, got)
        expected_class = _classes(reference[0])
        got_class = _classes(result[0])
        self.rows += expected_class.size
        self.agreeing += int((expected_class == got_class).sum())
        if labels is not None:
            self.labelled += labels.size
            self.right_reference += int((expected_class == labels).sum())
            self.right += int((got_class == labels).sum())

    @property
    def snr(self) -> float | None:
        """The signal-to-noise ratio in dB of the output that has the least."""
        return min((power.snr for power in self.powers if power.snr is not None), default=None)

    @property
    def agreement(self) -> float | None:
        """The share of samples on which both builds choose the same class."""
        return self.agreeing / self.rows if self.rows else None

    @property
    def accuracies(self) -> tuple[float | None, float | None]:
        """The share of right classes: of the reference, of the compressed build."""
        if not self.labelled:
            return None, None
        return self.right_reference / self.labelled, self.right / self.labelled


def _classes(output: Array) -> Array:
    return output.reshape(output.shape[0] if output.ndim > 1 else 1, -1).argmax(axis=1)
