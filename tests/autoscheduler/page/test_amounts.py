"""Amounts in words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersor.autoscheduler.page.amounts import (
    amount,
    compared,
    duration,
    known_amount,
    many,
    percent,
    ratio_decibels,
    scaled,
)
from tersor.scheduler.contract import Quantity

FACTORS = {"f": 1e-15, "p": 1e-12, "n": 1e-9, "µ": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}


@pytest.mark.parametrize(
    ("quantity", "value", "said"),
    [
        ("latency", 1.25e-3, "1.25 ms"),
        ("latency", 12.0, "12.0 s"),
        ("latency", 999.6e-6, "1.00 ms"),
        ("energy", 3.01e7, "30.1 µJ"),
        ("edp", 2.5e4, "25.0 nJ s"),
        ("size", 549.0, "549 B"),
        ("size", 1.0, "1 B"),
        ("size", 0.0, "0 B"),
        ("latency", 0.0, "0 s"),
        ("size", 1_234_000.0, "1.23 MB"),
        ("drop", 0.421, "0.42 points"),
        ("drop", -0.1, "-0.10 points"),
        ("drop", 1.0, "1.00 point"),
    ],
)
def test_units_and_prefixes(quantity: Quantity, value: float, said: str) -> None:
    assert amount(quantity, value) == said


@given(st.floats(1e-14, 1e11))
def test_three_digits_are_what_the_number_is(value: float) -> None:
    number, unit = amount("latency", value).split(" ")
    assert float(number) * FACTORS[unit.removesuffix("s")] == pytest.approx(value, rel=6e-3)
    assert 1 <= float(number) < 1000
    assert scaled("latency", value)[1] == unit


def test_what_is_not_known_is_not_zero() -> None:
    assert known_amount("energy", 0.0) == "–"
    assert known_amount("drop", 0.0) == "0.00 points"
    assert compared(1.0, 0.0, "int8") == ""


def test_comparisons() -> None:
    assert compared(0.7, 1.0, "int8") == "30 % less than int8"
    assert compared(1.05, 1.0, "int8") == "5.0 % more than int8"
    assert compared(3.0, 1.0, "int8") == "3 times int8"
    assert compared(1.0, 1.0, "int8") == "as int8"


def test_times_counts_and_shares() -> None:
    assert [duration(each) for each in (0.04, 99.2, 294.2, 7260.0)] == [
        "40 ms", "99.2 s", "4 min 54 s", "2 h 1 min",
    ]  # fmt: skip
    assert [many(each) for each in (4096, 8**24)] == ["4,096", "4.7 × 10²¹"]
    assert [percent(each) for each in (0.0032, 0.843, 1.2)] == ["0.32 %", "84.3 %", "120.0 %"]
    assert [ratio_decibels(each) for each in (1e-3, 0.0)] == ["30.0 dB", "exact"]
