"""Our own machine: its numbers are frozen, so that figures of different days can be compared."""

import json
from dataclasses import asdict
from pathlib import Path

from tersor.hardware import Hardware

ROOT = Path(__file__).parents[3]


def test_its_numbers_do_not_change() -> None:
    """Costs on `edge` are quoted in documents: whoever needs other numbers writes another machine."""
    machine = asdict(Hardware.load(ROOT / "targets" / "machines" / "edge.toml"))
    for entry in (*machine["compute"], *machine["memories"]):
        del entry["source"]  # its wording may change
    golden = json.loads((ROOT / "tests" / "golden" / "edge.json").read_text())
    assert json.loads(json.dumps(machine)) == golden["machine"]
