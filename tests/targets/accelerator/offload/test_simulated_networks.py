"""Whole networks on the simulator: every bit as on the CPU and in numpy, every product on the machine.

Those of `benchmarks/simulated.py` are ResNet-18, EfficientNet-Lite0 and MiniLM-L3; it says what they take.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tersor
from tersor.compiler import calibrated_plan, load_model, silent
from tersor.compression import canonical, compress
from tersor.config import Config
from tersor.hardware import Hardware
from tersor.lowering import build
from tersor.model import Model
from tersor.rule import Rule
from tersor.runner import Runner
from tersor.scheme import INT8, Scheme
from tersor.targets.accelerator.isa.program import Program
from tersor.targets.accelerator.mapper.mapper import Mapper
from tersor.targets.accelerator.offload.execution import listening
from tersor.targets.accelerator.offload.offload import Offloaded, offload
from tersor.targets.cpu.lowering import lower
from tests import relax_modules
from tests.models import mlp, mobile_net, random_inputs, residual_net
from tests.numpy_network import run_in_numpy
from tests.relax_modules import Array, attention_net, samples
from tests.targets.accelerator.offload.networks import IMAGES, TOKENS, image_net
from tests.targets.cpu.lowered_networks import HOST

ROOT = Path(__file__).parents[4]
EDGE = Hardware.load(ROOT / "targets" / "machines" / "edge.toml")
MAPPER = Mapper(EDGE, effort=200, exhaustive=200)
Data = list[Mapping[str, Array]]


def images() -> tuple[Model, Data]:
    return Model("images", canonical(image_net()), HOST), [{"x": image} for image in IMAGES]


def attention() -> tuple[Model, Data]:
    return Model("attention", canonical(attention_net()), HOST), [{"x": tokens} for tokens in TOKENS]


def dense() -> tuple[Model, Data]:
    return load_model(mlp(), check=False), [random_inputs(mlp(), seed) for seed in range(2)]


def residual() -> tuple[Model, Data]:
    return load_model(residual_net(), check=False), [random_inputs(residual_net(), seed) for seed in range(2)]


def mobile() -> tuple[Model, Data]:
    return load_model(mobile_net(), check=False), [random_inputs(mobile_net(), seed) for seed in range(2)]


def load_relax() -> Model:
    return Model("residual", canonical(relax_modules.residual_net()), HOST)


def simulated(model: Model, data: Data, text: str | Config) -> Offloaded:
    """Compare a network in a scheme on the machine with the same on the CPU alone and in numpy."""
    plan, statistics = calibrated_plan(model, data, list(data), text, len(data), silent)
    integer = compress(model.mod, plan, statistics)
    offloaded = offload(integer, EDGE, mapper=MAPPER)
    on_cpu, on_machine = (
        Runner(build(lower(mod, HOST.isa, 2), HOST), model.inputs) for mod in (integer, offloaded.mod)
    )
    cycles: dict[str, float] = {}
    with listening(lambda name, done: cycles.update({name: done.cycles})):
        results = on_machine(data[-1])
    for ours, theirs in zip(results, on_cpu(data[-1]), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    in_numpy = run_in_numpy(model, integer, data[-1])
    assert in_numpy.different == ()
    for ours, numpys in zip(results, in_numpy.outputs, strict=True):
        np.testing.assert_allclose(ours, numpys, rtol=0.0 if in_numpy.exact else 1e-5)
    peak = EDGE.units * 4  # of products in a cycle: two of 4 bits each, and of those two of four are zeros
    for layer in offloaded.layers:
        assert cycles[layer.name] >= layer.macs / peak
    return offloaded


@pytest.mark.parametrize(
    ("network", "text"),
    [
        (images, "int8"),
        (images, "w4a8+2:4"),
        (images, "int8+sparse75"),
        (images, "w2a8+rank3"),
        (attention, "int8"),
        (attention, "int8+dynamic"),
        (dense, "int8"),
        (dense, "w4a8"),
        (residual, "int8"),
        (residual, "int4"),
        (mobile, "int8"),
        (mobile, "w2a4"),
    ],
)
def test_the_machine_gives_the_bits_of_the_cpu_and_of_numpy(
    network: Callable[[], tuple[Model, Data]], text: str
) -> None:
    assert simulated(*network(), text).share == 1.0


def test_layers_of_a_mixed_plan_read_and_write_what_their_neighbours_do() -> None:
    """The first layer reads 8 bits and writes 4; what the last but one writes, an average reads in 8."""
    rules = (Rule(INT8, kind="first"), Rule(Scheme.parse("w2a4"), "c*"), Rule(INT8, kind="last"))
    network = load_relax(), [{"x": image} for image in samples(1, 8, 10, 10, count=2)]
    offloaded = simulated(*network, Config(scheme="int4", rules=rules))
    assert offloaded.share == 1.0
    programs = {each.name: each.program for each in offloaded.layers if isinstance(each.program, Program)}
    assert {name: (str(each.scheme), each.output_bits) for name, each in programs.items()} == {
        "a.weight": ("int8", 4),
        "b.weight": ("int4", None),
        "c.weight": ("w2a4", None),
        "d.weight": ("int4", None),
        "down.weight": ("int4", 8),
        "fc.weight": ("int8", None),
    }


@pytest.mark.slow
@pytest.mark.parametrize("slug", ["resnet18", "efficientnet-lite0", "minilm-l3-s32"])
def test_the_networks_of_the_benchmark_do_too(slug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    rows = import_module("simulated").network(slug)
    bits = [row for row in rows if row.goal is not None and "error" not in row.metric]
    assert len(bits) >= 4
    assert [row.metric for row in bits if not row.ok] == []


def test_a_model_for_an_accelerator_is_compiled_for_it(tmp_path: Path) -> None:
    model = load_model(mlp(), hardware=EDGE, check=False)
    data = [random_inputs(mlp(), seed) for seed in range(2)]
    compiled = tersor.compile(model, data, "int8")
    reference = tersor.compile(load_model(mlp(), check=False), data, "int8", measure=False)
    np.testing.assert_array_equal(compiled(data[0])[0], reference(data[0])[0])
    kernels = {layer.name: layer.kernel for layer in compiled.report.layers}
    assert kernels == {f"fc{i}.weight": "edge: matmul" for i in range(3)}
    assert compiled.report.machine is not None
    assert compiled.report.machine.share == 1.0
    text = compiled.report.text()
    assert "edge makes 100.00 % of the products; on the CPU:" in text
    assert "quantize.1: goes between floating-point numbers and codes" in text
    saved = compiled.save(tmp_path / "out")
    heard: list[Any] = []
    with listening(lambda name, done: heard.append((name, done.cycles))):
        again = Runner.load(tmp_path / "out" / "model.so", saved.buckets)
        np.testing.assert_array_equal(again(data[0])[0], compiled(data[0])[0])
    assert heard[:3] == heard[3:]
