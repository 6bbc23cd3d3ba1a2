"""Our own machine: its numbers are frozen, so that figures of different days can be compared."""

import json
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path

from tersor.hardware import Hardware

ROOT = Path(__file__).parents[3]


def said(noun: object) -> object:
    """What a machine says beside the defaults, as JSON has it; the wording of sources may change."""
    if isinstance(noun, tuple):
        return [said(each) for each in noun]
    if not is_dataclass(noun):
        return noun
    found = {}
    for field in fields(noun):
        value = getattr(noun, field.name)
        made = field.default_factory() if field.default_factory is not MISSING else field.default
        if field.name != "source" and value != made:
            found[field.name] = said(value)
    return found


def test_its_numbers_do_not_change() -> None:
    """Costs on `edge` are quoted in documents: whoever needs other numbers writes another machine."""
    edge = Hardware.load(ROOT / "targets" / "machines" / "edge.toml")
    golden = json.loads((ROOT / "tests" / "golden" / "edge.json").read_text())
    assert said(edge) == golden["machine"]
