"""Plans that drop channels: from a scheme, through a file, to a library that is smaller."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import tersor
from tersor.channel_plan import chooses_by_data
from tersor.compression import compress, reshape_layers
from tersor.config import Config
from tersor.error import UserError
from tersor.ir.graph import weights_of
from tersor.model import Model
from tersor.passes.extract import extract
from tersor.passes.pruning.masking import masked
from tersor.plan import GroupPlan, LayerPlan, Plan
from tersor.planning import plan_for
from tersor.recipe import Recipe
from tersor.scheme import FP32, Scheme
from tersor.statistics import Statistics
from tests.models import Net, mobile_net, residual_net


@pytest.fixture(scope="module")
def model() -> Model:
    net = Net("cnn", [1, 3, 8, 8])
    x = "x"
    for i, pair in enumerate(pairwise((3, 32, 32, 48))):
        x = net.op("Relu", net.conv(x, f"conv{i}", pair, bias=True), name=f"relu{i}")
    net.linear(
        net.op("Flatten", net.op("GlobalAveragePool", x, name="p"), name="f"), "fc", (48, 4), last=True
    )
    return tersor.load_model(net.finish(), check=False)


@pytest.fixture(scope="module")
def samples() -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    # Neighbouring pixels are alike, as in photographs.
    images = random.normal(size=(24, 1, 3, 10, 10)).astype(np.float32)
    return [{"x": np.ascontiguousarray(image[:, :, 1:9, 1:9] + image[:, :, :8, 2:])} for image in images]


def compiled(model: Model, samples, scheme: str, **recipe) -> tersor.Compiled:
    config = Config(scheme=scheme, recipe=Recipe(criterion="global", **recipe))
    return tersor.compile(model, samples, config, measure=False)


def test_half_of_the_multiplications_go_and_the_plan_says_which(model: Model, samples) -> None:
    result = compiled(model, samples, "int8+channels50")
    small, _ = reshape_layers(model.mod, result.plan, result.statistics)
    assert abs(extract(small).macs / extract(model.mod).macs - 0.5) <= 0.03
    assert {group.layers for group in result.plan.groups} <= {(f"conv{i}.weight",) for i in range(3)}
    assert str(result.plan.layers["conv1.weight"].scheme) == "int8+channels50"
    assert "multiplications" in result.plan.layers["conv1.weight"].reason
    assert result(samples[0])[0].shape == (1, 4)
    by_name = {layer.name: layer for layer in result.report.layers}
    assert by_name["conv1.weight"].scheme == "int8+channels50"
    assert (by_name["fc.weight"].snr_db or 0) > 0


def test_fitting_what_is_left_helps(model: Model, samples) -> None:
    fitted = compiled(model, samples, "fp32+channels30").report.totals.snr_db
    cut = compiled(model, samples, "fp32+channels30", repair=False).report.totals.snr_db
    assert fitted is not None
    assert cut is not None
    assert fitted > cut + 3


def test_a_plan_is_replayed_from_its_files(model: Model, samples, tmp_path: Path) -> None:
    first = compiled(model, samples, "int8+channels50")
    first.save(tmp_path / "out")
    plan = Plan.load(tmp_path / "out" / "plan.json")
    statistics = Statistics.load(tmp_path / "out" / "statistics.npz")
    assert plan == first.plan
    again = weights_of(compress(model.mod, plan, statistics))
    before = weights_of(compress(model.mod, first.plan, first.statistics))
    assert again.keys() == before.keys()
    assert all(np.array_equal(again[name], before[name]) for name in again)


def test_codes_equal_those_of_the_masked_network(model: Model, samples) -> None:
    """Integers are exact: with the same ranges a narrowed network gives the masked one's very codes."""
    recipe = Recipe(calibration="minmax", bias_correction=False, repair=False, criterion="global")
    result = tersor.compile(model, samples, Config("int8+channels50", recipe=recipe), measure=False)
    whole = replace(model, mod=masked(model.mod, result.plan.groups))
    reference = tersor.compile(whole, samples, Config("int8", recipe=recipe), measure=False, race=False)
    for sample in samples[:8]:
        np.testing.assert_array_equal(result(sample)[0], reference(sample)[0])


def test_what_is_left_is_factored_by_what_it_reads(model: Model, samples) -> None:
    scheme = Scheme.parse("fp32+rank3+channels40")
    plan = plan_for("fp32", model.mod, model.host, None)
    layers = {name: LayerPlan(replace(scheme, factor=None)) for name in plan.layers}
    plan = replace(plan, layers=layers | {"fc.weight": LayerPlan(scheme)}, recipe=Recipe(criterion="global"))
    result = tersor.compile(model, samples, plan, measure=False)
    small = weights_of(reshape_layers(model.mod, result.plan, result.statistics)[0])
    assert small["fc.weight.0"].shape == (small["conv2.weight"].shape[0], 3)
    assert result.plan.groups


def test_groups_are_chosen_by_hand(model: Model, samples) -> None:
    plan = plan_for("fp32", model.mod, model.host, None)
    plan = replace(plan, groups=(GroupPlan(("conv0.weight",), tuple(range(8))),), recipe=Recipe(repair=False))
    mod, _ = reshape_layers(model.mod, plan, None)
    assert weights_of(mod)["conv1.weight"].shape == (32, 8, 3, 3)
    assert tersor.compile(model, samples, plan, measure=False)(samples[0])[0].shape == (1, 4)


def test_a_plan_with_schemes_alone_gets_its_groups(model: Model) -> None:
    plan = plan_for("fp32", model.mod, model.host, None)
    narrow = LayerPlan(Scheme.parse("fp32+channels50"))
    written = replace(plan, layers={**plan.layers, "conv1.weight": narrow}, recipe=Recipe(criterion="global"))
    found = plan_for(written, model.mod, model.host, None)
    assert [group.layers for group in found.groups] == [("conv1.weight",)]


def test_what_cannot_be_dropped_is_refused_with_the_reason() -> None:
    residual = tersor.load_model(residual_net(), check=False)
    plan = plan_for("fp32+channels20", residual.mod, residual.host, None)
    kept = plan.layers["block1.downsample.0.weight"]
    assert kept.scheme == FP32
    assert kept.reason == "no channels20: its channels stay: they are the network's output"
    single = Net("single", [1, 8])
    single.linear("x", "fc", (8, 4), last=True)
    alone = tersor.load_model(single.finish(), check=False)
    with pytest.raises(UserError, match=r"no channels may be dropped: 'fc.weight': its channels stay"):
        plan_for("fp32+channels50", alone.mod, alone.host, None)


def test_a_group_of_another_network_is_refused() -> None:
    mobile = tersor.load_model(mobile_net(), check=False)
    plan = plan_for("fp32", mobile.mod, mobile.host, None)
    with pytest.raises(UserError, match="is none of this network"):
        plan_for(replace(plan, groups=(GroupPlan(("project.weight",), (0,)),)), mobile.mod, mobile.host, None)


def test_criteria_of_data_are_known_before_there_is_a_plan(model: Model, samples) -> None:
    recipe = Recipe(criterion="obc")
    assert chooses_by_data(Config("int8+channels50", recipe=recipe))
    assert not chooses_by_data(Config("int8", recipe=recipe))
    assert not chooses_by_data("int8+channels50")
    for criterion in ("wanda", "obc"):
        config = Config("fp32+channels50", recipe=Recipe(criterion=criterion))
        assert tersor.compile(model, samples, config, measure=False).plan.groups
