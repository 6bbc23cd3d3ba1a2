"""The pipeline through tvm.compile: by object and by name, under instruments, with and without statistics."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

import tersor
from tersor.plan import LayerPlan, Plan
from tersor.planning import model_hash
from tersor.scheme import FP32, INT8
from tersor.statistics import Statistics
from tests.models import mlp, random_inputs

TARGET = {"kind": "llvm", "mcpu": "x86-64", "num-cores": 1}
SAMPLE = random_inputs(mlp())


@pytest.fixture(scope="module")
def mod() -> tvm.IRModule:
    return tersor.import_model(mlp())


@pytest.fixture(scope="module")
def statistics() -> Statistics:
    return tersor.compile(tersor.load_model(mlp(), check=False), [SAMPLE], measure=False).statistics


def outputs(mod: tvm.IRModule, pipeline: Any) -> np.ndarray:
    executable = tvm.compile(mod, tvm.target.Target(TARGET), relax_pipeline=pipeline)
    machine: Any = relax.VirtualMachine(executable, tvm.cpu())
    return machine["main"](tvm.runtime.tensor(SAMPLE["x"])).numpy()


def reference() -> np.ndarray:
    return tersor.load_model(mlp(), check=False).float_runner(SAMPLE)[0]


def near(result: np.ndarray, decibels: float) -> bool:
    expected = reference()
    return bool(10 * np.log10(np.square(expected).sum() / np.square(result - expected).sum()) > decibels)


def test_fp32_needs_no_statistics(mod: tvm.IRModule) -> None:
    assert near(outputs(mod, tersor.pipeline("fp32")), 100)


def test_int8_with_statistics(mod: tvm.IRModule, statistics: Statistics) -> None:
    assert near(outputs(mod, tersor.pipeline("int8", statistics=statistics)), 25)


def test_the_pipeline_has_a_name(mod: tvm.IRModule, statistics: Statistics) -> None:
    by_name = relax.get_pipeline("tersor", request="int8", statistics=statistics)
    expected = outputs(mod, tersor.pipeline("int8", statistics=statistics))
    assert np.array_equal(outputs(mod, by_name), expected)


def test_a_plan_says_what_is_done_to_each_layer(mod: tvm.IRModule, statistics: Statistics) -> None:
    layers = {"fc0.weight": LayerPlan(INT8), "fc1.weight": LayerPlan(FP32), "fc2.weight": LayerPlan(FP32)}
    plan = Plan(model_hash(mod), "cpu-plain", layers)
    assert near(outputs(mod, tersor.pipeline(plan, statistics=statistics)), 25)
    assert not near(outputs(mod, tersor.pipeline(plan, statistics=statistics)), 100)


def test_missing_statistics_are_said_in_one_sentence(mod: tvm.IRModule) -> None:
    with pytest.raises(tersor.UserError, match=r"calibration statistics: pass statistics="):
        outputs(mod, tersor.pipeline("int8"))


def test_statistics_of_another_model_are_refused(mod: tvm.IRModule) -> None:
    with pytest.raises(tersor.UserError):
        outputs(mod, tersor.pipeline("int8", statistics=Statistics({})))


def test_an_interrupt_inside_a_pass_stays_one(mod: tvm.IRModule) -> None:
    @tvm.transform.module_pass(opt_level=0, name="interrupt")
    def interrupt(_mod: tvm.IRModule, _context: object) -> tvm.IRModule:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        outputs(mod, interrupt)


def test_instruments_of_the_context_see_the_passes(mod: tvm.IRModule, statistics: Statistics) -> None:
    seen: list[str] = []

    @tvm.ir.instrument.pass_instrument
    class Names:
        def run_before_pass(self, _mod: tvm.IRModule, info: Any) -> None:
            seen.append(str(info.name))

    with tvm.transform.PassContext(instruments=[Names()]):
        outputs(mod, tersor.pipeline("int8", statistics=statistics))
    ours = [name for name in seen if name.startswith("tersor.")]
    order = ["tersor.pipeline", "tersor.prune", "tersor.quantize", "tersor.integerize", "tersor.encode"]
    assert [name for name in ours if name in order] == order
    assert ours.index("tersor.encode") < ours.index("tersor.lower") < ours.index("tersor.schedule")


NARROW = tersor.Settings(trials=2, loss_samples=4, effort=200, last_effort=400)
EDGE = Path(__file__).parents[1] / "targets" / "machines" / "edge.toml"


@pytest.fixture(scope="module")
def samples() -> list[dict[str, np.ndarray]]:
    return [random_inputs(mlp(), seed) for seed in range(8)]


def test_a_contract_is_searched_for_and_what_comes_closest_is_carried_out(
    mod: tvm.IRModule, samples: list[dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    edge, contract = tersor.Hardware.load(EDGE), tersor.Contract("edp", max_size=1)
    found: list[tersor.Searched] = []
    search = tersor.search

    def watched(*args: Any, **options: Any) -> tersor.Searched:
        found.append(search(*args, **options))
        return found[-1]

    monkeypatch.setattr("tersor.relax_pipeline.search", watched)
    by_name = relax.get_pipeline("tersor", request=contract, hardware=edge, samples=samples, settings=NARROW)
    with pytest.warns(UserWarning, match="no plan keeps the bound on size"):
        result = outputs(mod, by_name)
    (searched,) = found
    again = tersor.pipeline(searched.plan, edge, searched.compiled.statistics)
    assert np.array_equal(result, outputs(mod, again))


def test_a_contract_and_samples_come_together(samples: list[dict[str, np.ndarray]]) -> None:
    with pytest.raises(tersor.UserError, match=r"pass samples="):
        tersor.pipeline(tersor.Contract(max_drop=0.5))
    with pytest.raises(tersor.UserError, match=r"leave out statistics"):
        tersor.pipeline(tersor.Contract(max_drop=0.5), statistics=Statistics({}), samples=samples)
    with pytest.raises(tersor.UserError, match=r"pass a tersor.Contract"):
        tersor.pipeline("int8", samples=samples)
