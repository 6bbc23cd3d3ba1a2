"""Systolic arrays against SCALE-Sim: the machine says how operands flow, the formulas follow from it."""

import json
from dataclasses import replace
from math import ceil
from pathlib import Path

import numpy as np
import pytest

from tersor.hardware import Hardware
from tersor.layer import Dim, Layer, Operand
from tersor.mapping import Keep
from tersor.scheme import INT8
from tersor.targets.accelerator.model import evaluate
from tersor.targets.accelerator.nest import Nest

ROOT = Path(__file__).parents[3]
GOLDEN = json.loads((ROOT / "tests" / "golden" / "scale_sim.json").read_text())
FILES: dict[Operand, str] = {"output": "systolic_os", "weight": "systolic_ws", "input": "systolic_is"}
MACHINES = {
    operand: Hardware.load(ROOT / "targets" / "machines" / f"{name}.toml") for operand, name in FILES.items()
}

# Of each stationary operand: the dimensions on rows and columns, and the one that streams by.
FLOWS: dict[Operand, tuple[Dim, Dim, Dim]] = {
    "output": ("N", "K", "C"),
    "weight": ("C", "K", "N"),
    "input": ("C", "N", "K"),
}


def array(stationary: Operand, rows: int, columns: int) -> Hardware:
    """The shipped array of that dataflow, with as many rows and columns."""
    machine = MACHINES[stationary]
    sizes = {"rows": rows, "columns": columns}
    return replace(
        machine,
        axes=tuple(replace(axis, size=sizes[axis.name]) for axis in machine.axes),
        compute=(replace(machine.compute[0], macs_per_cycle=rows * columns),),
    )


def cycles(stationary: Operand, rows: int, columns: int, m: int, n: int, k: int) -> float:
    """Cycles of the array for a product [m, k] by [k, n], counted from 1."""
    layer = Layer("fc", "matmul", N=m, K=n, C=k)
    on_rows, on_columns, streamed = FLOWS[stationary]
    loops: tuple[tuple[Dim, str], ...] = (
        (on_rows, "dram"),
        (on_columns, "dram"),
        (on_rows, "rows"),
        (on_columns, "columns"),
        (streamed, "register"),
    )
    keep = (*(Keep(o, "dram") for o in ("weight", "input", "output")), Keep(stationary, "register"))
    nest = Nest(layer, array(stationary, rows, columns), loops, keep)
    outer = [ceil(layer.size(on_rows) / rows), ceil(layer.size(on_columns) / columns)]
    sizes = np.array([*outer, rows, columns, layer.size(streamed)], np.float64)[:, None]
    return float(evaluate(nest, sizes, INT8).latency.compute[0])


@pytest.mark.parametrize("row", GOLDEN["rows"], ids=str)
def test_cycles_are_scale_sims(row: list) -> None:
    stationary, side, m, n, k, published = row
    assert cycles(stationary, side, side, m, n, k) - 1 == published, "SCALE-Sim counts from 0"


def closed_form(stationary: Operand, rows: int, columns: int, m: int, n: int, k: int) -> int:
    """SCALE-Sim's cycles (Samajdar et al., ISPASS 2020, section III), counted from 1."""
    match stationary:
        case "output":
            return ceil(m / rows) * ceil(n / columns) * (k + rows + columns - 2)
        case "weight":
            return ceil(k / rows) * ceil(n / columns) * (m + 2 * rows + columns - 2)
        case "input":
            return ceil(k / rows) * ceil(m / columns) * (n + 2 * rows + columns - 2)


def test_the_closed_forms_hold_for_a_thousand_random_products() -> None:
    random = np.random.default_rng(0)
    for _ in range(334):
        m, n, k = (int(size) for size in random.integers(1, 3000, 3))
        rows, columns = (int(2**power) for power in random.integers(0, 8, 2))
        for stationary in FLOWS:
            expected = closed_form(stationary, rows, columns, m, n, k)
            assert cycles(stationary, rows, columns, m, n, k) == expected, (
                stationary,
                rows,
                columns,
                m,
                n,
                k,
            )
