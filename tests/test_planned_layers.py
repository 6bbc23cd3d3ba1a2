import numpy as np
import onnx
import pytest

from tersor.error import UserError
from tersor.factor import LowRank
from tersor.frontend import import_model
from tersor.plan import GroupPlan, LayerPlan, Plan
from tersor.planned_layers import PlannedLayers, density
from tersor.planning import model_hash
from tersor.scheme import INT8, Scheme
from tersor.statistics import Statistics
from tests.models import mlp
from tests.relax_modules import statistics_of

MODEL: onnx.ModelProto = mlp()
MOD = import_model(MODEL)


SAMPLES = list(np.random.default_rng(0).normal(size=(8, 1, 64)).astype("f4"))


@pytest.fixture(scope="module")
def seen() -> Statistics:
    return statistics_of(MOD, SAMPLES)


def plan(*groups: GroupPlan, **schemes: str) -> Plan:
    layers = {f"{name}.weight": LayerPlan(Scheme.parse(text)) for name, text in schemes.items()}
    return Plan(model_hash(MOD), "edge", layers, groups=groups)


def test_a_relu_leaves_zeros_and_the_network_s_input_has_none(seen: Statistics) -> None:
    found = PlannedLayers.of(MOD, plan(fc0="int8", fc1="int8", fc2="int8"), seen)
    assert found.schemes == dict.fromkeys(("fc0.weight", "fc1.weight", "fc2.weight"), INT8)
    assert found.densities["fc0.weight"].input > 0.95
    assert 0.3 < found.densities["fc1.weight"].input < 0.7
    assert found.densities["fc0.weight"].output == found.densities["fc1.weight"].input


def test_fewer_bits_leave_more_zeros(seen: Statistics) -> None:
    tensor = seen.tensors["x"]
    values = np.concatenate(SAMPLES)
    half = (tensor.maximum - tensor.minimum) / 15 / 2
    assert density(tensor, 4) == pytest.approx(float((np.abs(values) >= half).mean()), abs=0.01)
    assert density(tensor, 4) < density(tensor, 8) <= density(tensor, 32)


def test_between_factors_nothing_is_zero(seen: Statistics) -> None:
    found = PlannedLayers.of(MOD, plan(fc1="int8+rank16"), seen).densities
    factors = [
        part.name for part in PlannedLayers.of(MOD, plan()).network["fc1.weight"].factored(LowRank(16))
    ]
    assert [found[name].input < 1 for name in factors] == [True, False]
    assert [found[name].output < 1 for name in factors] == [False, True]


def test_dropped_channels_are_gone() -> None:
    group = GroupPlan(("fc0.weight",), tuple(range(32)))
    found = PlannedLayers.of(MOD, plan(group, fc0="int8+channels50"))
    assert (found.network["fc0.weight"].K, found.network["fc1.weight"].C) == (32, 32)
    assert found.schemes == {"fc0.weight": INT8}
    assert found.densities == {}


def test_a_plan_for_another_model_is_refused() -> None:
    with pytest.raises(UserError, match="was made for another model"):
        PlannedLayers.of(import_model(mlp(seed=1)), plan(fc0="int8"))
