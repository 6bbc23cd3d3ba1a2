"""Rows of Eyeriss: the chip on AlexNet, and the PE of its successor on a pruned MobileNet."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rows import Row

from tersor.hardware import Hardware
from tersor.layer import Layer
from tersor.scheme import Scheme
from tersor.targets.accelerator.density import Densities
from tersor.targets.accelerator.model import evaluate
from tersor.targets.accelerator.nest import Nest
from tersor.targets.accelerator.row_stationary import RowStationary

ROOT = Path(__file__).parents[1]
SKIPS = ("weight", "input")


def chip() -> list[Row]:
    """Processing latency of AlexNet, batch 4, by the chip's mappings; waiting for DRAM is not in it."""
    machine = Hardware.load(ROOT / "targets" / "machines" / "eyeriss.toml")
    outermost, *others = machine.memories
    machine = replace(machine, memories=(replace(outermost, bandwidth=1e30), *others))
    rows: list[Row] = []
    errors: list[float] = []
    for row in _golden("eyeriss_v1.json"):
        shape: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in row["shape"].items()}
        layer = Layer(row["layer"], "conv2d", N=4, **shape)
        nest, sizes = Nest.of(RowStationary(*row["row_stationary"]).mapping(layer, machine), layer, machine)
        found = evaluate(nest, sizes, Scheme.parse("w16a16"))
        milliseconds = 1e3 * float(found.cycles[0]) / machine.clock
        errors.append(100 * abs(milliseconds / row["milliseconds"] - 1))
        for name, value in (("published", row["milliseconds"]), ("model", round(milliseconds, 2))):
            rows.append(Row("accelerator", "eyeriss", row["layer"], name, "ms", value))
    for name, value, goal in (("mean", float(np.mean(errors)), 3.0), ("max", max(errors), 8.0)):
        rows.append(Row("accelerator", "eyeriss", name, "model", "error %", round(value, 2), goal, "<="))
    return rows


def processing_element(masks: Path | None) -> list[Row]:
    """Cycles of a PE that skips zeros of both factors, by what is known of the zeros."""
    arrays = np.load(masks) if masks else {}
    errors: dict[str, list[float]] = {"uniform": [], "one scalar": [], "masks": []}
    rows: list[Row] = []
    for row in _golden("eyeriss_v2_pe.json"):
        name = row["layer"]
        layer = Layer(name, "conv2d", K=row["K"], C=row["C"], P=row["P"], Q=row["Q"])
        known = {"uniform": Densities(row["weight"], row["input"])}
        if "measured" in row:
            known["one scalar"] = Densities(**row["measured"])
        if f"{name}_weights" in arrays:
            weights, inputs = arrays[f"{name}_weights"], arrays[f"{name}_inputs"]
            known["masks"] = Densities.of(layer, weights[..., None, None], inputs.transpose(2, 0, 1)[None])
        rows.append(Row("accelerator", "eyeriss_v2", name, "published", "cycles", row["cycles"]))
        for how, each in known.items():
            cycles = layer.macs * each.products(SKIPS)
            errors[how].append(100 * abs(cycles - row["cycles"]) / row["cycles"])
            rows.append(Row("accelerator", "eyeriss_v2", name, how, "cycles", round(cycles)))
    for how, goal in (("uniform", 3.5), ("one scalar", 2.0), ("masks", 1e-9)):
        value = float(np.mean(errors[how])) if errors[how] else None
        rows.append(Row("accelerator", "eyeriss_v2", "mean", how, "error %", value, goal, "<="))
    return rows


def _golden(name: str) -> list[dict[str, Any]]:
    return json.loads((ROOT / "tests" / "golden" / name).read_text())["rows"]
