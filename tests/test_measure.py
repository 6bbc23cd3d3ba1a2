"""Comparing two builds: noise, agreement, accuracy and time."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersor.measure import Comparison, Power, latencies, snr_db


def test_a_hundredth_of_the_power_is_20_db() -> None:
    assert snr_db(1.0, 0.01) == pytest.approx(20.0)


def test_equal_tensors_have_a_bounded_ratio_and_silence_has_none() -> None:
    assert snr_db(1.0, 0.0) == 200.0
    assert snr_db(0.0, 1.0) is None


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=20), st.integers(1, 19))
def test_power_adds_up_over_batches(values: list[float], cut: int) -> None:
    reference = np.array(values, np.float32)
    result = np.round(reference)
    whole, parts = Power(), Power()
    whole.add(reference, result)
    parts.add(reference[:cut], result[:cut])
    parts.add(reference[cut:], result[cut:])
    assert math.isclose(whole.signal, parts.signal, rel_tol=1e-9)
    assert math.isclose(whole.noise, parts.noise, rel_tol=1e-9)


def test_agreement_and_accuracy_count_classes() -> None:
    comparison = Comparison()
    reference = np.eye(4, dtype=np.float32)
    result = reference[[0, 1, 3, 3]]
    comparison.add([reference[:2]], [result[:2]], np.array([0, 0]))
    comparison.add([reference[2:]], [result[2:]], np.array([2, 3]))
    assert comparison.rows == 4
    assert comparison.agreement == 0.75
    assert comparison.accuracies == (0.75, 0.5)


def test_without_samples_or_labels_there_is_nothing_to_say() -> None:
    comparison = Comparison()
    assert comparison.agreement is None
    assert comparison.accuracies == (None, None)


def test_runners_are_timed_in_turn() -> None:
    order: list[str] = []

    class Fake:
        def __init__(self, name: str) -> None:
            self.name = name

        def prepare(self, _arrays: object) -> list[Any]:
            return []

        def run(self, _prepared: object) -> list[Any]:
            order.append(self.name)
            return []

    runners: Any = [Fake("a"), Fake("b")]
    medians = latencies(runners, {}, repeats=3)
    assert order == ["a", "b"] * 5  # two of each warm up
    assert all(median >= 0 for median in medians)
