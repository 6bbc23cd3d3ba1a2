"""What the speed benchmark is to show: the ratios between builds, and how large they must be on which CPU."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from statistics import geometric_mean
from typing import Literal

from rows import Row

FLOAT_PEERS = ("ort-fp32", "openvino-f32")
PEERS = (*FLOAT_PEERS, "ort-int8", "ort-dynamic", "openvino-default", "openvino-int8")

# How many times as fast as the fastest of those on the right is the one on the left?
RATIOS = {
    "int8_vs_fp32": ("tersor-int8", ("tersor-fp32",)),
    "int8_vs_ort": ("tersor-int8", ("ort-int8",)),
    "int8_vs_openvino": ("tersor-int8", ("openvino-int8",)),
    "int8_vs_best": ("tersor-int8", PEERS),
    "fp32_vs_ort": ("tersor-fp32", ("ort-fp32",)),
    "fp32_vs_best": ("tersor-fp32", FLOAT_PEERS),
}
GEOMEAN = "geomean"

Unit = Literal["amx", "vnni", "avx2"]


@dataclass(frozen=True)
class Goal:
    """A bound on a metric of one model, of the geometric mean, or (`model` None) of each model.

    It holds for CPUs of the integer `unit` (None: for all), with as many threads as it says (None: any).
    """

    metric: str
    value: float
    direction: Literal[">=", "<="] = ">="
    model: str | None = None
    unit: Unit | None = None
    threads: int | None = 1


GOALS = (
    Goal("int8_vs_openvino", 1.6, model="resnet18", unit="amx"),
    Goal("int8_vs_ort", 4.5, model="resnet18", unit="amx"),
    Goal("int8_vs_best", 1.4, model=GEOMEAN, unit="amx"),
    Goal("int8_vs_best", 1.0, unit="amx"),
    Goal("int8_vs_openvino", 1.1, model=GEOMEAN, unit="vnni"),
    Goal("int8_vs_fp32", 1.0, unit="avx2"),
    Goal("fp32_vs_ort", 1.0, model=GEOMEAN),
    Goal("fp32_vs_ort", 0.85),
    Goal("scaling", 1.6, model="resnet50", threads=2),
    Goal("compile_s", 20, "<=", "resnet18", threads=None),
    Goal("compile_s", 40, "<=", "minilm-l3-s32", threads=None),
    Goal("compile_s", 40, "<=", "minilm-l3-s128", threads=None),
    Goal("file_ratio", 0.27, "<=", "resnet18", threads=None),
    Goal("stored_ratio", 0.27, "<=", "efficientnet-lite0", threads=None),
    Goal("snr_db", 30, model="resnet18", threads=None),
    Goal("snr_db", 20, model="efficientnet-lite0", threads=None),
)


def unit_of(isa: str) -> Unit:
    """Name the integer unit of an instruction set."""
    return "amx" if "amx" in isa else "vnni" if "vnni" in isa else "avx2"


def ratios(rows: Iterable[Row], clock: str) -> list[Row]:
    """Give the ratios of each model and their geometric means; `clock` is the metric that counts."""
    models: dict[str, dict[str, Row]] = {}
    for row in rows:
        if row.metric == clock and row.value is not None:
            models.setdefault(row.model, {})[row.backend] = row
    found = [row for times in models.values() for row in _ratios_of(times)]
    for metric in RATIOS:
        values = [(row, row.value) for row in found if row.metric == metric and row.value is not None]
        if len(values) > 1:
            mean = geometric_mean(value for _, value in values)
            found.append(replace(values[0][0], model=GEOMEAN, value=mean))
    return found


def _ratios_of(times: Mapping[str, Row]) -> Iterable[Row]:
    for metric, (ours, others) in RATIOS.items():
        known = {name: times[name].value or 0.0 for name in others if name in times}
        if ours in times and known:
            best = min(known, key=lambda name: known[name])
            value = known[best] / (times[ours].value or 1.0)
            yield replace(times[ours], table="speed", backend="tersor", metric=metric, value=value)


def judged(rows: Iterable[Row], isa: str, threads: int) -> list[Row]:
    """Give a row with a goal for each figure that one of `GOALS` is about."""
    verdicts = []
    for row in rows:
        for goal in GOALS:
            each = row.model != GEOMEAN if goal.model is None else row.model == goal.model
            here = goal.unit in (None, unit_of(isa)) and goal.threads in (None, threads)
            ours = row.backend in ("tersor", "tersor-int8")
            if goal.metric == row.metric and each and here and ours:
                verdicts.append(replace(row, goal=goal.value, direction=goal.direction))
    return verdicts
