"""Networks and published machines, simulated: is every bit and every cycle right, and how long does it take?

    python benchmarks/simulated.py [--models resnet18 ...] [--masks FILE.npz] [--json FILE]

A network in int8 runs on `edge` as `tersor simulate` runs it, beside its build for the CPU and beside numpy,
which computes the whole integer network by `tersor.arithmetic`. Of a transformer numpy takes the results of
float operators (softmax, norms, GELU) from the CPU; `tests/numpy_network.py` says why, and compares every
tensor between kernels. Seconds are processor time on one core, with the simulator compiled before.

`--masks` are those of the PE of Eyeriss v2, as `accelerator.py` takes them.
"""

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path
from time import process_time

import numpy as np
from models import NETWORKS
from rows import Row, print_rows, write_rows

from tersor.compiler import calibrated_plan, load_model, silent
from tersor.compression import compress
from tersor.error import UserError
from tersor.hardware import Hardware
from tersor.machine_run import MachineRun
from tersor.simulate import simulate_network
from tests.numpy_network import run_in_numpy
from tests.targets.accelerator.simulator.layer_cases import expected_sums
from tests.targets.accelerator.simulator.published import at_work, pe_layer, pe_run, pe_tensors, systolic_run

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
MODELS = ("efficientnet-lite0", "resnet18", "minilm-l3-s32")
SECONDS = {"resnet18": 60.0}  # in which a network is to be simulated


@dataclass
class Clock:
    """Notes when the programs of a run began to be simulated and when each was done, in processor time."""

    times: list[float] = field(default_factory=list)

    def __call__(self, what: str, done: int, total: int | None) -> None:
        """Take the time of one step of `simulate_network`."""
        if what == "simulating":
            self.times.append(process_time())

    @property
    def seconds(self) -> float:
        """From the first program to the last."""
        return self.times[-1] - self.times[0]


def network(slug: str) -> list[Row]:
    """One sample of a network on `edge`, on the CPU and in numpy."""
    edge = Hardware.load(ROOT / "targets" / "machines" / "edge.toml")
    described = NETWORKS[slug]
    model = load_model(described.build(), hardware=edge)
    samples = list(described.samples(model.inputs))
    plan, statistics = calibrated_plan(model, samples, [], "int8", len(samples), silent)
    clock = Clock()
    run = simulate_network(model, edge, plan, statistics, samples[-1:], clock)
    mod = compress(model.mod, plan, statistics)
    on_cpu = model.compiled([mod])
    in_numpy = run_in_numpy(model, mod, samples[-1], on_cpu)
    unequal = sum(
        not np.array_equal(mine, theirs)
        for mine, theirs in zip(in_numpy.outputs, on_cpu.runner(samples[-1]), strict=True)
    )
    different = sum(output.different for output in run.outputs)
    seconds = clock.seconds
    macs = sum(layer.macs for layer in run.layers)
    return [
        Row("simulated", "network", slug, "edge", "offloaded %", round(100 * run.share, 2), 95.0, ">="),
        _row(slug, "elements unlike the CPU's", different, 0.0),
        _row(slug, "outputs unlike numpy's", unequal, 0.0),
        _row(slug, "tensors unlike numpy's", len(in_numpy.different), 0.0),
        _row(slug, "tensors compared", in_numpy.compared),
        _row(slug, "simulated s", round(seconds, 1), SECONDS.get(slug)),
        _row(slug, "MMAC/s", round(macs / seconds / 1e6, 1)),
        *_prediction(slug, run),
    ]


def _prediction(slug: str, run: MachineRun) -> list[Row]:
    """How far the analytic model is off, of the layers on the array."""
    errors = {each.name: 100 * abs(each.cycles_error or 0.0) for each in run.predicted}
    worst = max(errors, key=lambda name: errors[name])
    total = sum(each.cycles for each in run.predicted)
    expected = sum(each.predicted.cycles for each in run.predicted if each.predicted)
    return [
        _row(slug, "cycles", round(run.cycles)),
        _row(slug, "error of all cycles %", round(100 * abs(expected / total - 1), 2)),
        _row(slug, "mean error %", round(float(np.mean(list(errors.values()))), 2), 1.0),
        _row(slug, "max error %", round(errors[worst], 2), 5.0, note=f"{slug}: the max error is of {worst}"),
    ]


def _row(slug: str, metric: str, value: float, at_most: float | None = None, note: str = "") -> Row:
    direction = None if at_most is None else "<="
    return Row("simulated", "network", slug, "edge", metric, value, at_most, direction, note)


def systolic() -> list[Row]:
    """SCALE-Sim's runs on arrays whose memories do not wait: cycles that are not its, sums that are wrong."""
    published = json.loads((GOLDEN / "scale_sim.json").read_text())["rows"]
    apart: list[float] = []
    wrong = 0
    for stationary, side, m, n, k, cycles in published:
        ran, layer, given = systolic_run(stationary, side, side, (m, n, k))
        apart.append(abs(ran.cycles - 1 - cycles))
        wrong += not np.array_equal(ran.output, expected_sums(layer, given))
    case = f"{len(published)} products"
    return [
        Row("simulated", "systolic", case, "SCALE-Sim", "most cycles apart", round(max(apart), 3), 0.0, "<="),
        Row("simulated", "systolic", case, "numpy", "wrong outputs", wrong, 0.0, "<="),
    ]


def processing_element(masks: Path) -> list[Row]:
    """The PE of Eyeriss v2 as it is shipped, on the masks of pruned layers.

    The ground truth are the cycles in which it multiplies. What its scratchpads wait for is beside them: our
    mapping brings the sums of each pixel from and to what is behind the PE.
    """
    arrays = np.load(masks)
    rows: list[Row] = []
    for row in json.loads((GOLDEN / "eyeriss_v2_pe.json").read_text())["rows"]:
        name = row["layer"]
        if f"{name}_weights" not in arrays:
            continue
        layer = pe_layer(row)
        given = pe_tensors(layer, arrays[f"{name}_weights"], arrays[f"{name}_inputs"])
        start = process_time()
        ran = pe_run(layer, given)
        seconds, apart = process_time() - start, abs(at_work(ran) - row["cycles"])
        wrong = int(not np.array_equal(ran.output, expected_sums(layer, given)))
        for metric, value, goal in (
            ("cycles at work", round(at_work(ran)), None),
            ("cycles with waiting", round(ran.cycles), None),
            ("cycles off the truth", round(apart, 3), 1.0),
            ("wrong outputs", wrong, 0.0),
            ("s", round(seconds, 1), 10.0),
        ):
            direction = None if goal is None else "<="
            rows.append(Row("simulated", "eyeriss_v2_pe", name, "PE", metric, value, goal, direction))
    return rows


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="*", default=MODELS, choices=sorted(NETWORKS))
    parser.add_argument("--masks", type=Path, help="masks of the PE of Eyeriss v2, .npz")
    parser.add_argument("--json", type=Path, help="write the rows here, too")
    arguments = parser.parse_args()
    rows = systolic()
    if arguments.masks:
        rows += processing_element(arguments.masks)
    for slug in arguments.models:
        try:
            rows += network(slug)
        except UserError as error:
            print(f"{slug}: not measured: {error}")
    print_rows("simulated", rows)
    if arguments.json:
        write_rows(arguments.json, rows)


if __name__ == "__main__":
    main()
