"""From an integer network to a library whose programs an executor runs: the same bits as on the CPU.

The executor here is `numpy_machine`, which knows what a program makes and nothing of how.
"""

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tersor.compiler import calibrated_plan, silent
from tersor.compression import canonical, compress
from tersor.hardware import Hardware
from tersor.ir.graph import Graph, operator
from tersor.ir.untyped import relax, tvm
from tersor.linking import export_library
from tersor.lowering import build
from tersor.mapping import Keep, Loop, Mapping
from tersor.model import Model
from tersor.plan import Plan
from tersor.relax_pipeline import pipeline
from tersor.scheme import INT8, Scheme
from tersor.statistics import Statistics
from tersor.targets.accelerator.isa.program import Program
from tersor.targets.accelerator.mapper.mapper import Mapper, Task
from tersor.targets.accelerator.offload import execution
from tersor.targets.accelerator.offload.offload import Offloaded, Show, offload, split_mappings
from tersor.targets.cpu.lowering import lower
from tests.relax_modules import Array, compiled
from tests.targets.accelerator.offload import numpy_machine
from tests.targets.accelerator.offload.networks import (
    IMAGES,
    TOKENS,
    image_net,
    integer_attention_net,
    integer_image_net,
)
from tests.targets.cpu.lowered_networks import HOST, execute

ROOT = Path(__file__).parents[4]
EDGE = Hardware.load(ROOT / "targets" / "machines" / "edge.toml")
MAPPER = Mapper(EDGE, effort=200, exhaustive=200)


@pytest.fixture(autouse=True)
def _without_simulator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "simulate", numpy_machine.run)


def assert_same_bits(mod: Any, x: Array) -> Offloaded:
    """On the machine, on the CPU's kernels and on plain LLVM."""
    offloaded = offload(mod, EDGE, mapper=MAPPER)
    (machine,) = execute(lower(offloaded.mod, HOST.isa, 2), x)
    (kernels,) = execute(lower(mod, HOST.isa, 2), x)
    (plain,) = compiled(mod, level=0)(x)
    np.testing.assert_array_equal(machine, kernels)
    np.testing.assert_array_equal(machine, plain)
    return offloaded


def test_an_image_network_gives_the_same_bits_and_runs_whole_on_the_machine() -> None:
    offloaded = assert_same_bits(integer_image_net(), IMAGES[1])
    assert [layer.kind for layer in offloaded.layers] == [
        "conv2d", "max_pool2d", "depthwise", "conv2d", "average_pool", "rescale", "average_pool", "add",
        "average_pool", "matmul",
    ]  # fmt: skip
    assert offloaded.share == 1.0
    called = [operator(value) for _, value in Graph(offloaded.mod).bindings]
    assert called == ["call_tir", "call_dps_packed", "reshape", "call_dps_packed"]


def test_an_attention_block_gives_the_same_bits_and_leaves_floats_to_the_cpu() -> None:
    offloaded = assert_same_bits(integer_attention_net(), TOKENS[1])
    kinds = [layer.kind for layer in offloaded.layers]
    assert kinds == ["matmul", "matmul", "matmul", "product", "rescale", "product", "matmul"]
    assert offloaded.share == 1.0
    assert any(refusal.name == "divide.1" for refusal in offloaded.refusals)


def test_what_does_not_fit_runs_on_the_cpu_of_the_same_library() -> None:
    dram, buffer, registers = EDGE.memories
    small = replace(EDGE, memories=(dram, replace(buffer, size=80), registers))
    offloaded = offload(integer_image_net(), small, mapper=Mapper(small, effort=200, exhaustive=200))
    kinds = {layer.kind for layer in offloaded.layers}
    refused = {refusal.name: refusal.reason for refusal in offloaded.refusals}
    assert "depthwise" in kinds
    assert "max_pool2d.1" in refused
    assert "in buffer" in refused["max_pool2d.1"]
    (machine,) = execute(lower(offloaded.mod, HOST.isa, 2), IMAGES[1])
    (kernels,) = execute(lower(integer_image_net(), HOST.isa, 2), IMAGES[1])
    np.testing.assert_array_equal(machine, kernels)


def test_those_that_listen_hear_of_every_program_in_order() -> None:
    offloaded = offload(integer_image_net(), EDGE, mapper=MAPPER)
    heard: list[tuple[str, float]] = []
    with execution.listening(lambda name, done: heard.append((name, done.cycles))):
        execute(lower(offloaded.mod, HOST.isa, 2), IMAGES[1])
    assert heard == [(layer.name, float(layer.program.layer.macs)) for layer in offloaded.layers]


@pytest.fixture(scope="module")
def model() -> Model:
    """Give the image network as it is compiled from."""
    return Model("images", canonical(image_net()), HOST)


def planned(model: Model, text: str) -> tuple[Plan, Statistics]:
    data: list[Any] = [{"x": image} for image in IMAGES]
    return calibrated_plan(model, data, data, text, len(data), silent)


@pytest.mark.parametrize(
    "text", ["int8", "w4a8", "w2a8", "ternary-a8", "int8+2:4", "w4a8+2:4", "int8+sparse75", "int8+rank3"]
)
def test_every_scheme_gives_the_same_bits_from_its_stored_form(model: Model, text: str) -> None:
    plan, statistics = planned(model, text)
    integer = compress(model.mod, plan, statistics)
    offloaded = offload(integer, EDGE, mapper=MAPPER)
    (machine,) = execute(lower(offloaded.mod, HOST.isa, 2), IMAGES[1])
    (kernels,) = execute(lower(integer, HOST.isa, 2), IMAGES[1])
    np.testing.assert_array_equal(machine, kernels)
    assert offloaded.share == 1.0
    schemes = {
        layer.name: layer.program.scheme for layer in offloaded.layers if isinstance(layer.program, Program)
    }
    if "rank" in text:
        assert {schemes[f"first.weight.{i}"] for i in range(2)} == {INT8}
    else:
        assert schemes["first.weight"] == Scheme.parse(text)


def test_tvm_compile_takes_an_accelerator_and_the_mappings_of_a_plan(model: Model) -> None:
    mod, (plan, statistics) = model.mod, planned(model, "int8")
    found = offload(compress(mod, plan, statistics), EDGE, mapper=MAPPER)
    best = {layer.name: layer.mapping for layer in found.layers if layer.mapping}
    layers = {name: replace(layer, mappings=(best[name],)) for name, layer in plan.layers.items()}
    planned_mappings = replace(plan, layers=layers)
    with HOST.target:
        executable = tvm.compile(
            mod, HOST.target, relax_pipeline=pipeline(planned_mappings, EDGE, statistics=statistics)
        )
        reference = tvm.compile(mod, HOST.target, relax_pipeline=pipeline(plan, statistics=statistics))
    heard: list[str] = []
    x = tvm.runtime.tensor(IMAGES[1])
    with execution.listening(lambda name, _: heard.append(name)):
        result = relax.VirtualMachine(executable, tvm.cpu())["main"](x).numpy()
    np.testing.assert_array_equal(result, relax.VirtualMachine(reference, tvm.cpu())["main"](x).numpy())
    assert {"first.weight", "deep.weight", "point.weight", "fc.weight"} <= set(heard)


def test_what_a_factorization_made_of_a_layer_runs_by_the_mappings_of_that_layer(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, statistics = planned(model, "int8+rank3")
    integer = compress(model.mod, plan, statistics)
    found = {layer.name: layer.mapping for layer in offload(integer, EDGE, mapper=MAPPER).layers}
    parts = [mapping for name in ("first.weight.0", "first.weight.1") if (mapping := found[name])]
    asked: list[str] = []
    search = Mapper.search

    def watched(self: Mapper, tasks: Iterable[Task], show: Show) -> None:
        given = list(tasks)
        asked.extend(task.layer.name for task in given)
        search(self, given, show)

    monkeypatch.setattr(Mapper, "search", watched)
    mappings = {"first.weight": tuple(reversed(parts))}
    mapper = Mapper(EDGE, effort=200, exhaustive=200)
    again = {layer.name: layer.mapping for layer in offload(integer, EDGE, mappings, mapper).layers}
    assert [again["first.weight.0"], again["first.weight.1"]] == parts
    assert asked
    assert not {"first.weight.0", "first.weight.1"} & {*asked}


def test_mappings_for_the_machine_are_told_from_those_for_the_cpu() -> None:
    keeps = tuple(Keep(operand, "dram") for operand in ("weight", "input", "output"))
    ours = Mapping((Loop("K", 4, "dram"), Loop("C", 8, "rows")), keeps)
    cpu = Mapping((Loop("P", 8, "cores"), Loop("K", 4, "cache")))
    theirs, others = split_mappings({"a": (ours, cpu), "b": (cpu,)}, EDGE)
    assert theirs == {"a": [ours]}
    assert others == {"a": [cpu], "b": [cpu]}


RUN = """
import sys
import numpy as np
import tvm
from tvm import relax
machine = relax.VirtualMachine(tvm.runtime.load_module(sys.argv[1]), tvm.cpu())
x = tvm.runtime.tensor(np.load(sys.argv[2]))
"""
WITH_TERSOR = """
import json
import tersor
from tersor.targets.accelerator.offload import execution
from tests.targets.accelerator.offload import numpy_machine
execution.simulate = numpy_machine.run
heard = []
with execution.listening(lambda name, done: heard.append([name, done.cycles])):
    np.save(sys.argv[3], machine["main"](x).numpy())
print(json.dumps(heard))
"""
TERSOR_ALONE = """
import tersor
print(*machine["main"](x).numpy().shape)
"""
WITHOUT_TERSOR = """
try:
    machine["main"](x)
except Exception as error:
    print(type(error).__name__, str(error).strip().splitlines()[-1])
"""


def test_a_saved_library_runs_in_a_new_process_that_imports_tersor(tmp_path: Path) -> None:
    offloaded = offload(integer_image_net(), EDGE, mapper=MAPPER)
    lowered = lower(offloaded.mod, HOST.isa, 2)
    export_library(build(lowered, HOST), tmp_path / "model.so")
    np.save(tmp_path / "x.npy", IMAGES[1])
    arguments = [str(tmp_path / name) for name in ("model.so", "x.npy", "y.npy")]

    def run(script: str) -> str:
        command = [sys.executable, "-c", RUN + script, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout

    heard: list[tuple[str, float]] = []
    with execution.listening(lambda name, done: heard.append((name, done.cycles))):
        (expected,) = execute(lowered, IMAGES[1])
    assert [tuple(each) for each in json.loads(run(WITH_TERSOR))] == heard
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), expected)
    assert run(TERSOR_ALONE).split() == [str(extent) for extent in expected.shape]
    assert (
        run(WITHOUT_TERSOR)
        .strip()
        .endswith(
            "this library runs on a simulated accelerator: `import tersor` in Python before it is called"
        )
    )
