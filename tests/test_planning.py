"""Requests become plans with reasons; what cannot be carried out to the letter is refused."""

from dataclasses import replace

import pytest
import tvm

import tersor
from tersor.compression import compress
from tersor.config import Config
from tersor.error import UserError
from tersor.mapping import Loop, Mapping
from tersor.plan import LayerPlan
from tersor.planning import model_hash, plan_for
from tersor.rule import Rule
from tersor.scheme import FP32, INT8, Scheme
from tersor.targets.cpu.host.detect import detect
from tests.models import mlp
from tests.relax_modules import residual_net


@pytest.fixture(scope="module")
def mod() -> tvm.IRModule:
    return tersor.import_model(mlp())


def test_a_model_is_known_by_its_weights(mod: tvm.IRModule) -> None:
    assert model_hash(mod) == model_hash(tersor.import_model(mlp()))
    assert model_hash(mod) != model_hash(tersor.import_model(mlp(seed=1)))


@pytest.mark.parametrize("scheme", ["w16a8", "int8+3:32", "int8+rank60"])
def test_a_plan_that_the_target_cannot_carry_out_is_refused_not_approximated(
    mod: tvm.IRModule, scheme: str
) -> None:
    host = detect()
    plan = plan_for("fp32", mod, host, None)
    name = next(iter(plan.layers))
    edited = replace(plan, layers={**plan.layers, name: LayerPlan(Scheme.parse(scheme))})
    with pytest.raises(UserError, match=rf"gives '{name}' the scheme .*: change it"):
        plan_for(edited, mod, host, None)


def test_a_layer_that_a_plan_leaves_out_stays_as_it_is(mod: tvm.IRModule) -> None:
    plan = plan_for("fp32", mod, detect(), None)
    assert model_hash(compress(mod, replace(plan, layers={}), None)) == model_hash(mod)


def test_rules_become_a_plan_with_their_reasons(mod: tvm.IRModule) -> None:
    rules = (Rule(FP32, "fc0.*"), Rule(Scheme.parse("int8+2:4"), kind="dense"))
    plan = plan_for(Config(rules=rules), mod, detect("plain"), None)
    assert {name: (str(layer.scheme), layer.reason) for name, layer in plan.layers.items()} == {
        "fc0.weight": ("fp32", "rule fc0.*"),
        "fc1.weight": ("int8+2:4", "rule * (dense)"),
        "fc2.weight": ("int8+2:4", "rule * (dense)"),
    }


def test_layers_without_a_rule_get_the_configs_scheme(mod: tvm.IRModule) -> None:
    plan = plan_for(Config("fp32", rules=(Rule(INT8, "fc1.weight"),)), mod, detect("plain"), None)
    assert [str(layer.scheme) for layer in plan.layers.values()] == ["fp32", "int8", "fp32"]


def test_what_a_layer_cannot_have_is_recorded_or_where_it_is_named_refused(mod: tvm.IRModule) -> None:
    impossible = Scheme.parse("int8+rank64")
    plan = plan_for(Config(rules=(Rule(impossible, "fc2*"),)), mod, detect("plain"), None)
    assert plan.layers["fc2.weight"].scheme == INT8
    assert "no int8+rank64: the rank 64 is above 10" in plan.layers["fc2.weight"].reason
    with pytest.raises(UserError, match=r"the rule for fc2.weight asks for int8\+rank64, but .* above 10"):
        plan_for(Config(rules=(Rule(impossible, "fc2.weight"),)), mod, detect("plain"), None)


def test_a_layer_whose_input_another_reads_in_more_bits_gets_as_many() -> None:
    """Of the residual network the sum of the first block is read by two layers."""
    mod, host = residual_net(), detect("plain")
    config = Config(scheme="int4", rules=(Rule(INT8, "down*"),))
    plan = plan_for(config, mod, host, None)
    assert plan.layers["c.weight"].scheme == Scheme.parse("w4a8")
    assert plan.layers["c.weight"].reason == "no int4: its input has 8 bits, for down.weight"
    assert plan.layers["a.weight"] == LayerPlan(Scheme.parse("int4"))
    assert plan_for(plan, mod, host, None) == plan
    mapping = Mapping((Loop("K", 12, "dram"),))
    narrow = LayerPlan(Scheme.parse("int4"), (mapping,))
    written = replace(plan, layers={**plan.layers, "c.weight": narrow})
    assert plan_for(written, mod, host, None) == plan
