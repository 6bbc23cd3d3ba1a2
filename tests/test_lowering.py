"""The pipeline through tvm.compile: by object and by name, under instruments, with and without statistics."""

from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

import tersor
from tersor.ir.join import join
from tersor.lowering import finish
from tersor.model import Model
from tersor.plan import LayerPlan, Plan
from tersor.planning import model_hash
from tersor.runner import Runner
from tersor.scheme import FP32, INT8
from tersor.statistics import Statistics
from tersor.targets.cpu.host.detect import detect
from tests.models import masked_attention, mlp, pool_net, random_inputs

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


@pytest.mark.parametrize("network", [masked_attention, pool_net])
def test_passes_that_are_left_out_change_no_result(network: Any) -> None:
    shapes = {"x": (1, 6, 16), "mask": (1, 6)} if network is masked_attention else None
    model = tersor.load_model(network(), shapes, check=False)
    sample = model.buckets.largest.draw()
    (lowered,) = model.lowered_alike([model.mod])
    everything = tvm.transform.module_pass(lambda m, _: finish(m, model.host), opt_level=0)
    complete = tvm.compile(join({"main": lowered.mod}), model.host.target, relax_pipeline=everything)
    expected = Runner(complete, model.inputs)(sample)
    for got, result in zip(model.float_runner(sample), expected, strict=True):
        assert np.array_equal(got, result)


def test_the_passes_of_the_context_around_a_build_are_watched(mod: tvm.IRModule) -> None:
    seen: list[str] = []

    @tvm.ir.instrument.pass_instrument
    class Watching:
        def run_before_pass(self, _mod: object, info: Any) -> None:
            seen.append(info.name)

    model = Model("mlp", mod, detect())
    with tvm.transform.PassContext(instruments=[Watching()]):
        model.compiled([mod])
    assert "tersor.schedule" in seen
