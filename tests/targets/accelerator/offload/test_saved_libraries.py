"""Saved libraries run in a new process as they did in this one, and refuse programs that are not whole."""

import base64
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tersor
from tersor.compiler import load_model
from tersor.hardware import Hardware
from tersor.linking import export_library
from tersor.lowering import build
from tersor.targets.accelerator.isa.encoding import encode
from tersor.targets.accelerator.isa.program import AnyProgram
from tersor.targets.accelerator.mapper.mapper import Mapper
from tersor.targets.accelerator.offload.execution import listening
from tersor.targets.accelerator.offload.offload import Offloaded, offload
from tersor.targets.cpu.lowering import Lowered, lower
from tests.models import mlp, random_inputs
from tests.targets.accelerator.offload.networks import IMAGES, integer_image_net
from tests.targets.cpu.lowered_networks import HOST, execute

ROOT = Path(__file__).parents[4]
EDGE = Hardware.load(ROOT / "targets" / "machines" / "edge.toml")
MAPPER = Mapper(EDGE, effort=200, exhaustive=200)
RUN = """
import json, sys
import numpy as np
import tersor
import tvm
from tvm import relax
from tersor.targets.accelerator.offload.execution import listening
machine = relax.VirtualMachine(tvm.runtime.load_module(sys.argv[1]), tvm.cpu())
heard = []
with listening(lambda name, done: heard.append([name, done.cycles, done.energy, done.stalls])):
    np.save(sys.argv[3], machine["main"](tvm.runtime.tensor(np.load(sys.argv[2]))).numpy())
print(json.dumps(heard))
"""
COMMAND = "from tersor.cli.app import main; main()"
REFUSED = """
import sys
from pathlib import Path
import numpy as np
from tersor.cli.folder import read_report
from tersor.error import UserError
from tersor.runner import Runner
folder = Path(sys.argv[1])
with np.load(folder / "x.npz") as data:
    inputs = dict(data)
for path in sys.argv[2:]:
    try:
        Runner.load(Path(path), read_report(folder).buckets)(inputs)
        print("ran")
    except UserError as error:
        print(error)
"""
PROGRAM = "the program of fc0.weight in this library"
AGAIN = "copy it again or compile the model again"


def in_a_new_process(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.fixture(scope="module")
def offloaded() -> Offloaded:
    """Give the image network, all of which runs on the machine."""
    return offload(integer_image_net(), EDGE, mapper=MAPPER)


@pytest.fixture(scope="module")
def lowered(offloaded: Offloaded) -> Lowered:
    return lower(offloaded.mod, HOST.isa, 2)


@pytest.fixture(scope="module")
def library(lowered: Lowered, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save it."""
    path = tmp_path_factory.mktemp("library") / "model.so"
    export_library(build(lowered, HOST), path)
    return path


def test_outputs_cycles_energy_and_stalls_are_the_same_in_a_new_process(
    lowered: Lowered, library: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", IMAGES[1])
    heard: list[Any] = []
    with listening(lambda name, done: heard.append([name, done.cycles, done.energy, done.stalls])):
        (expected,) = execute(lowered, IMAGES[1])
    ran = in_a_new_process(RUN, library, tmp_path / "x.npy", tmp_path / "y.npy")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == heard
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), expected)
    assert len(heard) == 10
    assert all(cycles > 0 for _, cycles, _, _ in heard)


def damaged(data: bytearray) -> None:
    data[len(data) // 2] ^= 1


def newer(data: bytearray) -> None:
    data[8] += 1  # the version


def shorter(data: bytearray) -> None:
    data[14] += 1  # of the records that there should be


def another(data: bytearray) -> None:
    data[0] ^= 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile a small network for the machine, and save it as `tersor compress` does."""
    data = [random_inputs(mlp(), seed) for seed in range(2)]
    compiled = tersor.compile(load_model(mlp(), hardware=EDGE, check=False), data, "int8", measure=False)
    path = tmp_path_factory.mktemp("saved") / "out"
    compiled.save(path)
    np.savez(path / "x.npz", x=data[0]["x"])
    return path


def programs_in(library: bytes) -> list[bytes]:
    """The programs of a library as they stand in it: base64 in JSON."""
    return re.findall(rb'"program":\s*"([A-Za-z0-9+/=]+)"', library)


def changed(library: bytes, change: Callable[[bytearray], None]) -> bytes:
    """Change the bytes of the first program of a library."""
    first = programs_in(library)[0]
    data = bytearray(base64.b64decode(first))
    change(data)
    return library.replace(first, base64.b64encode(data))


def test_a_saved_network_runs_on_the_simulator_and_is_refused_with_a_damaged_program(folder: Path) -> None:
    ran = in_a_new_process(COMMAND, "run", folder, "--data", folder / "x.npz")
    assert (ran.returncode, ran.stdout.splitlines()[0]) == (0, "y: float32 [1, 10]"), ran.stderr
    broken = folder.with_name("broken")
    shutil.copytree(folder, broken)
    (broken / "model.so").write_bytes(changed((folder / "model.so").read_bytes(), damaged))
    ran = in_a_new_process(COMMAND, "run", broken, "--data", folder / "x.npz")
    assert ran.returncode == 2
    assert ran.stderr.splitlines() == [f"error: {PROGRAM} is damaged, its checksum is wrong: {AGAIN}"]


def test_programs_that_are_not_whole_are_refused_in_one_sentence(folder: Path, tmp_path: Path) -> None:
    library = (folder / "model.so").read_bytes()
    first = programs_in(library)[0]
    libraries = [
        (changed(library, damaged), f"{PROGRAM} is damaged, its checksum is wrong: {AGAIN}"),
        (
            changed(library, newer),
            f"{PROGRAM} is of version 3, this tersor runs 2: compile the model again, or run it with a newer "
            "tersor",
        ),
        (changed(library, shorter), f"{PROGRAM} is truncated, 72 bytes are missing: {AGAIN}"),
        (changed(library, another), f"{PROGRAM} is no accelerator's program: give what tersor compiled"),
        (library.replace(first, b"*" + first[1:]), f"{PROGRAM} is damaged, it is no base64: {AGAIN}"),
    ]
    paths: list[Path] = []
    for number, (content, _) in enumerate(libraries):
        paths.append(tmp_path / f"{number}.so")
        paths[-1].write_bytes(content)
    ran = in_a_new_process(REFUSED, folder, *paths)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [sentence for _, sentence in libraries]


def test_the_bytes_in_a_library_are_those_of_the_programs(offloaded: Offloaded, library: Path) -> None:
    programs: list[AnyProgram] = [layer.program for layer in offloaded.layers]
    encoded = {base64.b64encode(encode(program)) for program in programs}
    assert set(programs_in(library.read_bytes())) == encoded
