"""The CPU's cost model: times of real layers that it has not seen, beside times that are measured.

It learns from at most 64 sampled shapes of each kernel family. The layers of the networks that are not among
them are measured twice, at different times: how far the two are apart is the noise that no model is below.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from rows import Row

from tersor.compiler import load_model
from tersor.layer import Layer
from tersor.passes.extract import extract
from tersor.runner import use_threads
from tersor.scheme import FP32, INT8, Scheme
from tersor.targets.cpu.host.cost import why_not
from tersor.targets.cpu.host.detect import Host, cpu_name, hardware
from tersor.tuning.cpu_cost import CpuCosts
from tersor.tuning.journal import REFERENCE, Journal
from tersor.tuning.kernel_family import KernelFamily
from tersor.tuning.layer_workload import workload_of
from tersor.tuning.measurement import Candidate, Laboratory, meter
from tersor.tuning.references import reference_of
from tersor.tuning.selection import Score
from tersor.tuning.workload import Workload

RANKS = 0.9  # Spearman's correlation, at least
ERROR = 0.15  # mean of |predicted / measured - 1| beyond the noise, at most
REPEATS = 2


Pair = tuple[Workload, KernelFamily]


def cost_model(networks: Mapping[str, onnx.ModelProto], host: Host, journal: Path) -> list[Row]:
    """Give the scores of each kernel family; what `journal` has is not measured again."""
    use_threads(host.cores)
    measurements = Journal(journal, host, cpu_name(), REFERENCE)
    laboratory = Laboratory(host, meter(host.cores))
    costs = CpuCosts(host, measurements, laboratory)
    costs.train()
    layers = dict.fromkeys(replace(layer, name="") for model in networks.values() for layer in _layers(model))
    found = {
        family: held_out for family in costs.selected if (held_out := _held_out(layers, family, costs, host))
    }
    for workload, family in _twice(found, measurements):
        candidate = Candidate(workload, workload.default)
        measurements.add(candidate, laboratory.compare(workload, reference_of(family, host)))
    rows: list[Row] = []
    for family, held_out in found.items():
        rows += _rows(family, held_out, costs, measurements)
    return rows


def _layers(model: onnx.ModelProto) -> tuple[Layer, ...]:
    return extract(load_model(model, check=False).mod).layers


def _held_out(
    layers: Iterable[Layer], family: KernelFamily, costs: CpuCosts, host: Host
) -> dict[Workload, Layer]:
    """Give the layers of a family by their workloads, without those that were measured to learn from."""
    scheme, described = _scheme(family), hardware(host)
    mine = [
        layer
        for layer in layers
        if KernelFamily.of(layer, scheme) == family and why_not(layer, scheme, described) is None
    ]
    return {
        workload_of(layer, family.precision, host): layer
        for layer in mine
        if costs.timed(layer, scheme).source == "learned"
    }


def _twice(found: Mapping[KernelFamily, Mapping[Workload, Layer]], known: Journal) -> Iterator[Pair]:
    """Give what is to be measured: all once, then all again."""
    for repeat in range(REPEATS):
        for family, held_out in found.items():
            for workload in held_out:
                entry = known.find(Candidate(workload, workload.default))
                if entry is None or len(entry.timings) <= repeat:
                    yield workload, family


def _rows(
    family: KernelFamily, held_out: Mapping[Workload, Layer], costs: CpuCosts, measurements: Journal
) -> Iterator[Row]:
    selected, scheme = costs.selected[family], _scheme(family)
    ratios, predicted = [], []
    for workload, layer in held_out.items():
        entry = measurements.find(Candidate(workload, workload.default))
        assert entry is not None
        ratios.append([timing.ratio for timing in entry.timings[:REPEATS]])
        predicted.append(costs.seconds(layer, scheme))
    measured = np.log(np.array(ratios) * costs.usual[family])
    score = Score.of(np.log(predicted), measured.mean(axis=1))
    noise = float(np.abs(np.exp(measured[:, 1] - measured[:, 0]) - 1).mean())
    scores = "; ".join(
        f"{name} {each.spearman:.3f} and {each.mape:.3f}" for name, each in selected.scores.items()
    )
    row = Row("cost-model", str(family), str(family), selected.name, "", None)
    yield replace(row, metric="layers", value=len(held_out), note=f"{family}: cross-validated {scores}")
    yield replace(row, metric="spearman", value=score.spearman, goal=RANKS, direction=">=")
    yield replace(row, metric="mape", value=score.mape)
    yield replace(row, metric="repeat_noise", value=noise)
    above = max(0.0, score.mape - noise)
    yield replace(row, metric="mape_above_noise", value=above, goal=ERROR, direction="<=")


def _scheme(family: KernelFamily) -> Scheme:
    return INT8 if family.precision == "int8" else FP32
