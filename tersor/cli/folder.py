"""A compressed model's folder, as `tersor compress` wrote it."""

from pathlib import Path

from tersor.document import read_json
from tersor.error import UserError
from tersor.plan import Plan
from tersor.report import Report
from tersor.runner import Runner, use_threads
from tersor.statistics import Statistics
from tersor.targets.cpu.detect import detect


def read_report(folder: Path) -> Report:
    """Read a folder's report. Raises UserError if there is none."""
    if not (folder / "report.json").is_file():
        raise UserError(f"{folder} holds no report.json: give a directory that `tersor compress` wrote")
    return read_json(folder / "report.json", Report)


def open_plan(folder: Path) -> tuple[Plan, Statistics]:
    """Read a folder's plan and the statistics it was made from. Raises UserError if one is missing."""
    return Plan.load(folder / "plan.json"), Statistics.load(folder / "statistics.npz")


def open_runner(folder: Path, report: Report) -> Runner:
    """Load a folder's library. Raises UserError if it is none, or is for another CPU."""
    use_threads(detect(report.hardware.removeprefix("cpu-")).cores)
    return Runner.load(folder / "model.so", report.buckets)
