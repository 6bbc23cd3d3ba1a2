import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tersor.scheduler import model_version as module
from tersor.scheduler.model_version import hardware_digest, model_version
from tersor.targets.accelerator import latency
from tests.scheduler.toy_machine import TOY


def test_a_description_that_says_something_else_has_another_digest() -> None:
    assert hardware_digest(TOY) == hardware_digest(replace(TOY))
    assert hardware_digest(TOY) != hardware_digest(replace(TOY, clock=2e9))


def test_a_model_whose_source_differs_has_another_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "accelerator"
    shutil.copytree(Path(latency.__file__).parent, copy)
    monkeypatch.setattr(module.accelerator, "__file__", str(copy / "__init__.py"))
    fresh = model_version.__wrapped__
    assert fresh() == model_version()
    with (copy / "latency.py").open("a") as file:
        file.write("# slower\n")
    assert fresh() != model_version()
