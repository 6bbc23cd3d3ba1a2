"""The race: what integers make slower stays float, by times that the tests tell instead of a clock."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tersor
from tersor.compiler import Compiled, Model
from tersor.config import Config
from tersor.model import Build
from tersor.race import MARGIN, fastest, may_race
from tersor.scheme import FP32
from tersor.targets.cpu.host.detect import detect
from tests.models import mlp, random_inputs

LAYERS = ("fc0.weight", "fc1.weight", "fc2.weight")


class Told:
    """A stopwatch that says what it was told.

    `layers` are the seconds of the named layers in integers and in float, `others` those of all others in
    either; `networks` are the seconds of the builds in the order in which they are raced.
    """

    def __init__(
        self, layers: Mapping[str, tuple[float, float]], networks: Sequence[float], others: float = 1e-3
    ) -> None:
        self.told, self.seconds, self.others = layers, networks, others
        self.raced: list[Build] = []

    def layers(self, builds: Sequence[Build]) -> list[dict[str, float]]:
        assert len(builds) == 2
        return [{name: self.told.get(name, (self.others,) * 2)[i] for name in LAYERS} for i in (0, 1)]

    def networks(self, builds: Sequence[Build]) -> list[Any]:
        self.raced = list(builds)
        assert len(builds) == len(self.seconds)
        return [np.full(3, seconds) for seconds in self.seconds]


@pytest.fixture(scope="module")
def model() -> Model:
    return tersor.load_model(mlp())


def samples() -> list[dict[str, Any]]:
    return [random_inputs(mlp(), seed) for seed in range(4)]


@pytest.fixture
def compressed(model: Model, monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(stopwatch: Told, config: str = "int8") -> Compiled:
        monkeypatch.setattr("tersor.compiler.Stopwatch.for_cores", lambda _: stopwatch)
        monkeypatch.setattr("tersor.compiler.latencies", lambda *_: [2.0, 1.0])
        return tersor.compile(model, samples(), config)

    return run


def schemes(compiled: Compiled) -> dict[str, str]:
    return {name: str(layer.scheme) for name, layer in compiled.plan.layers.items()}


def test_what_is_faster_in_integers_is_what_was_planned(model: Model, compressed: Any) -> None:
    raced = compressed(Told({}, [1e-3, 2e-3]))
    assert raced.plan == tersor.compile(model, samples(), measure=False).plan
    said = "the network took 1.000 ms in int8, 2.000 ms in fp32: it is emitted in int8"
    assert raced.report.race == said
    assert f"race: {said}" in raced.report.text(200)


def test_a_layer_that_loses_stays_float_and_the_report_says_so(compressed: Any) -> None:
    raced = compressed(Told({"fc1.weight": (900e-6, 500e-6)}, [2e-3, 1.6e-3, 3e-3]))
    assert schemes(raced) == {"fc0.weight": "int8", "fc1.weight": "fp32", "fc2.weight": "int8"}
    assert raced.report.race.endswith("it is emitted in int8 but for 1 layer")
    text = raced.report.text(200)
    assert "fc1.weight is fp32: int8 took 900.0 us, fp32 500.0 us" in text


def test_a_raced_plan_is_carried_out_again_without_a_clock_to_the_same_bytes(
    model: Model, compressed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compressed(Told({"fc1.weight": (9e-4, 5e-4)}, [2e-3, 1e-3, 3e-3])).save(tmp_path / "raced")
    monkeypatch.setattr("tersor.compiler.run_race", None)
    plan = tersor.Plan.load(tmp_path / "raced" / "plan.json")
    assert plan.layers["fc1.weight"].scheme == FP32
    tersor.compile(model, samples(), plan).save(tmp_path / "replayed")
    for name in ("plan.json", "model.so"):
        raced, replayed = (tmp_path / folder / name for folder in ("raced", "replayed"))
        assert raced.read_bytes() == replayed.read_bytes(), name


def test_a_network_that_is_faster_in_float_is_emitted_as_it_came(
    model: Model, compressed: Any, tmp_path: Path
) -> None:
    raced = compressed(Told({}, [3e-3, 2e-3]))
    assert set(schemes(raced).values()) == {"fp32"}
    assert raced.report.layers[0].reason == "the network took 3.000 ms in int8, 2.000 ms in fp32"
    assert (
        raced.report.totals.bytes == tersor.compile(model, samples(), "fp32", race=False).report.totals.bytes
    )
    for sample in samples():
        assert np.array_equal(raced(sample)[0], model.float_runner(sample)[0])
    raced.save(tmp_path / "raced")
    tersor.compile(model, samples(), raced.plan).save(tmp_path / "replayed")
    libraries = (tmp_path / folder / "model.so" for folder in ("raced", "replayed"))
    assert next(libraries).read_bytes() == next(libraries).read_bytes()


def test_float_layers_that_do_not_make_the_network_faster_are_not_emitted(compressed: Any) -> None:
    raced = compressed(Told({"fc1.weight": (9e-4, 5e-4)}, [2e-3, 2e-3, 3e-3]))
    assert set(schemes(raced).values()) == {"int8"}
    assert "2.000 ms in int8, 2.000 ms in int8 but for 1 layer" in raced.report.race


@pytest.mark.parametrize(
    ("layer", "others"),
    [
        ((1000e-6, 970e-6), 1e-6),  # within the noise of a layer
        ((5e-6, 3e-6), 30e-6),  # less than its conversions cost
        ((30e-6, 10e-6), 1e-3),  # within the noise of the network
    ],
)
def test_a_layer_has_to_lose_by_more_than_noise_and_conversions(
    layer: tuple[float, float], others: float, compressed: Any
) -> None:
    stopwatch = Told({"fc1.weight": layer}, [1e-3, 2e-3], others)
    assert set(schemes(compressed(stopwatch)).values()) == {"int8"}
    assert len(stopwatch.raced) == 2


def test_a_later_build_has_to_be_faster_by_more_than_noise() -> None:
    def of(**seconds: float) -> str:
        return fastest({name: np.full(3, each) for name, each in seconds.items()})

    assert of(int8=1.0, fp32=1.0 - MARGIN / 2) == "int8"
    assert of(int8=1.0, fp32=1.0 - MARGIN * 2) == "fp32"
    assert of(int8=3.0, mixed=2.0, fp32=1.99) == "mixed"


def test_what_hits_some_rounds_of_all_or_one_round_of_one_decides_nothing() -> None:
    busy = np.array([1.0, 3.0, 2.0, 1.0, 5.0])
    assert fastest({"int8": 1.0 * busy, "fp32": 1.5 * busy}) == "int8"
    assert fastest({"int8": np.array([1.0, 1.0, 1.0, 9.0, 9.0]), "fp32": np.full(5, 1.5)}) == "int8"
    assert fastest({"int8": np.array([1.0, 2.0, 3.0]), "fp32": np.array([3.0, 1.0, 2.0])}) == "int8"


@pytest.mark.parametrize("options", [{"race": False}, {"measure": False}])
def test_it_can_be_left_out(model: Model, options: dict[str, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tersor.compiler.run_race", None)
    assert tersor.compile(model, samples(), **options).report.race == ""


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ("int8", True),
        ("int8+dynamic", True),
        (Config("auto"), True),
        (Config("auto", objective="size"), False),
        ("int8+2:4", False),
        ("int8+rank4", False),
        ("fp32", False),
        (tersor.Plan("0" * 64, "cpu-avx2", {}), False),
    ],
)
def test_only_what_is_to_be_fast_is_raced(model: Model, request_: Any, expected: bool) -> None:
    assert may_race(model, request_) == expected


def test_only_the_cpu_that_it_is_compiled_on_is_raced(model: Model) -> None:
    other = Model(model.name, model.mod, replace(detect(), isa=detect("plain").isa))
    assert may_race(other, "int8") == (detect().isa.name == "plain")


def test_layers_without_integers_are_no_reason_for_a_race(compressed: Any) -> None:
    assert compressed(Told({}, []), "fp32").report.race == ""
