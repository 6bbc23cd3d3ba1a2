"""A rule for ranks asked of a whole network: the plan holds numbers, or why there are none."""

import numpy as np

from tersor.compiler import compile, load_model
from tersor.compression import canonical
from tersor.frontend import import_model
from tersor.passes.extract import extract
from tersor.planning import plan_for
from tersor.scheme import Scheme
from tersor.targets.cpu.host.detect import detect
from tests.models import conv_kinds, residual_net


def test_every_layer_has_its_own_numbers() -> None:
    mod = canonical(import_model(residual_net()))
    network = extract(mod)
    plan = plan_for("int8+tucker-macs60", mod, detect(), None)
    for name, planned in plan.layers.items():
        layer, factor = network[name], planned.scheme.factor
        if layer.R == 1:
            assert planned.scheme == Scheme.parse("int8")
            assert "1x1 convolution" in planned.reason
        else:
            assert factor is not None
            assert sum(part.macs for part in layer.factored(factor)) <= 0.6 * layer.macs


def test_a_layer_without_factors_says_why() -> None:
    mod = canonical(import_model(conv_kinds()))
    plan = plan_for("int8+rank-vbmf", mod, detect(), None)
    assert "no rank-vbmf: only convolutions without groups" in plan.layers["grouped.weight"].reason


def test_a_network_is_compiled_with_them_and_the_plan_does_it_again() -> None:
    model = load_model(residual_net(), check=False)
    samples = [model.buckets.largest.draw() for _ in range(2)]
    compiled = compile(model, samples, "int8+rank-macs60", measure=False)
    schemes = [layer.scheme for layer in compiled.plan.layers.values()]
    assert any(scheme.factor for scheme in schemes)
    again = compile(model, samples, compiled.plan, measure=False)
    assert again.plan.layers == compiled.plan.layers
    np.testing.assert_array_equal(again(samples[0])[0], compiled(samples[0])[0])
