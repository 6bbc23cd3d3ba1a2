"""The table of `tersor simulate`: a row for each program, the prediction beside it, and what ran where."""

import re
from collections import Counter
from collections.abc import Iterator

from rich.table import Table

from tersor.cli.map_table import grouped, microjoules, shortened_names
from tersor.hardware import Hardware
from tersor.machine_run import MachineRun

EXACT = "0.0 %"  # how far a prediction is off that is not


def simulate_table(title: str, run: MachineRun, hardware: Hardware) -> Table:
    """Lay out cycles, use of the array, the longest stall, energies in uJ, and how far the model is off.

    Layers have the numbers of `run_picture`. How far the model's energies are off is shown if some are.
    """
    milliseconds = 1e3 * run.cycles / hardware.clock
    what = f"{title}, {run.scheme} on {run.hardware}, simulated on {_samples(run.samples)}"
    energies_off = any(_signed(layer.energy_error) not in ("", EXACT) for layer in run.predicted)
    table = Table(
        title=f"{what}: {milliseconds:.3g} ms, {microjoules(run.energy)} uJ\n"
        f"energies in uJ{', as predicted' * (not energies_off)}; model: how far its prediction is off",
        title_justify="left",
        show_footer=True,
        padding=(0, 1, 0, 0),
    )
    levels = ["compute", *(memory.name for memory in hardware.memories)]
    several = len({layer.scheme for layer in run.predicted}) > 1
    cycles_error, energy_error = _total_errors(run)
    table.add_column("", justify="right")
    table.add_column("layer", "total", overflow="fold")
    if several:
        table.add_column("scheme", overflow="fold")
    table.add_column("cycles", f"{run.cycles:,.0f}", justify="right")
    table.add_column("model", cycles_error, justify="right")
    table.add_column("used", justify="right")
    table.add_column("stall", _longest_stall(_total_stalls(run), run.cycles), overflow="fold")
    table.add_column("energy", microjoules(run.energy), justify="right")
    if energies_off:
        table.add_column("model", energy_error, justify="right")
    for level in levels:
        total = sum(layer.energy_by.get(level, 0.0) for layer in run.layers)
        table.add_column(level, microjoules(total), justify="right")
    named = shortened_names([layer.name for layer in run.layers])
    for number, layer in enumerate(run.layers, 1):
        table.add_row(
            str(number),
            named[layer.name],
            *([layer.scheme] if several else []),
            f"{layer.cycles:,.0f}",
            _signed(layer.cycles_error),
            f"{100 * layer.utilisation:.0f} %" if layer.predicted else "",
            _longest_stall(layer.stalls, layer.cycles),
            microjoules(layer.energy),
            *([_signed(layer.energy_error)] if energies_off else []),
            *(microjoules(layer.energy_by.get(level, 0.0)) for level in levels),
        )
    return table


def notes(run: MachineRun) -> Iterator[str]:
    """Say what ran where and why, and whether the results are right."""
    yield f"{run.hardware} makes {100 * run.share:.1f} % of the network's products"
    for reason, names in grouped({each.name: each.reason for each in run.on_cpu}).items():
        yield f"on the CPU: {', '.join(_counted(names))}: {reason}"
    if run.exact:
        yield "the outputs equal those of the build for the CPU, bit for bit"
    for output in run.outputs:
        if not output.exact:
            yield (
                f"the output {output.output} is not that of the build for the CPU: {output.different} of "
                f"{output.elements} elements differ, by {output.largest:.3g} at most"
            )


def _counted(names: list[str]) -> list[str]:
    """Write operators that are numbered, softmax.1, softmax.2, as how many there are of them."""
    kinds = Counter(re.sub(r"\.\d+$", "", name) for name in names)
    numbered = [kind for kind, count in kinds.items() if count > 1]
    alone = [name for name in names if re.sub(r"\.\d+$", "", name) not in numbered]
    return alone + [f"{kinds[kind]} {kind}" for kind in numbered]


def _samples(count: int) -> str:
    return "1 sample" if count == 1 else f"{count} samples"


def _longest_stall(stalls: dict[str, float], cycles: float) -> str:
    """The reason and its part of the cycles."""
    reason = max(stalls, key=lambda each: stalls[each], default="")
    return f"{reason} {100 * stalls[reason] / cycles:.0f} %" if reason else ""


def _total_stalls(run: MachineRun) -> dict[str, float]:
    total: dict[str, float] = {}
    for layer in run.layers:
        for reason, lost in layer.stalls.items():
            total[reason] = total.get(reason, 0.0) + lost
    return total


def _total_errors(run: MachineRun) -> tuple[str, str]:
    """How far predictions of cycles and energy are off in the sum over the layers that have some."""
    models = [(layer, layer.predicted) for layer in run.layers if layer.predicted]
    if not models:
        return "", ""
    cycles = sum(model.cycles for _, model in models) / sum(layer.cycles for layer, _ in models) - 1
    energy = sum(layer.energy for layer, _ in models)
    return _signed(cycles), _signed(sum(model.energy for _, model in models) / energy - 1 if energy else None)


def _signed(error: float | None) -> str:
    if error is None:
        return ""
    percent = round(100 * error, 1)
    return f"{percent:+.1f} %" if percent else EXACT
