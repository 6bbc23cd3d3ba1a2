"""Commands: the command line, called in this process as a shell would call it."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
EDGE = str(ROOT / "targets" / "machines" / "edge.toml")


@dataclass
class Result:
    code: int
    out: str
    err: str


Tersor = Callable[..., Result]


def environment(**others: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **others}
