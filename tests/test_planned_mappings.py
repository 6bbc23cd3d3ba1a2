"""A plan's mappings are carried out: other kernels, the same numbers; the report names what ran."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import tersor
from tersor.compiler import Model
from tersor.mapping import Loop, Mapping
from tersor.plan import LayerPlan
from tests.models import conv_net, mlp, random_inputs

DATA = [random_inputs(conv_net(), seed) for seed in range(3)]


@pytest.fixture(scope="module")
def model() -> Model:
    return tersor.load_model(conv_net())


@pytest.fixture(scope="module", params=["int8", "fp32"])
def compiled(model: Model, request: Any) -> tersor.Compiled:
    return tersor.compile(model, DATA, request.param, measure=False)


def test_every_kernel_of_a_layer_is_reported_with_its_loops(compiled: tersor.Compiled) -> None:
    for layer in compiled.report.layers:
        assert "@registers" in layer.mapping or "@lanes" in layer.mapping


def test_a_mapping_changes_the_kernel_and_not_the_result(model: Model, compiled: tersor.Compiled) -> None:
    layers = {layer.name: layer for layer in compiled.report.layers}
    name, reported = next((n, each) for n, each in layers.items() if "K=2@registers" in each.mapping)
    mapping = _one_vector(Mapping(tuple(Loop.parse(each) for each in reported.mapping.split(", "))))
    planned = replace(compiled.plan.layers[name], mappings=(mapping,))
    plan = replace(compiled.plan, layers={**compiled.plan.layers, name: planned})
    again = tersor.compile(model, DATA, plan, measure=False)
    ran = next(layer for layer in again.report.layers if layer.name == name)
    assert ran.mapping == str(mapping)
    assert ran.kernel != reported.kernel
    for sample in DATA:
        np.testing.assert_allclose(again(sample)[0], compiled(sample)[0], rtol=1e-5, atol=1e-6)


def _one_vector(mapping: Mapping) -> Mapping:
    """Halve a tile of two vectors: twice the blocks of output channels, whose loop is around the tiles'."""
    loops = [loop for loop in mapping.loops if loop != Loop("K", 2, "registers")]
    tiles = next(i for i, loop in enumerate(loops) if loop.dim == "Q" and loop.at == "cache")
    blocks = [i for i in range(tiles) if loops[i].dim == "K" and loops[i].at == "cache"]
    if blocks:
        loops[blocks[0]] = replace(loops[blocks[0]], size=2 * loops[blocks[0]].size)
    else:
        loops.insert(tiles, Loop("K", 2, "cache"))
    return Mapping(tuple(loops))


def test_a_mapping_that_does_not_fit_is_refused_in_one_sentence() -> None:
    model = tersor.load_model(mlp())
    data = [random_inputs(mlp(), 0)]
    compiled = tersor.compile(model, data, measure=False)
    wrong = LayerPlan(compiled.plan.layers["fc0.weight"].scheme, (Mapping((Loop("K", 7, "cores"),)),))
    plan = replace(compiled.plan, layers={**compiled.plan.layers, "fc0.weight": wrong})
    with pytest.raises(tersor.UserError, match=r"the plan maps 'fc0\.weight' as K=7@cores, but"):
        tersor.compile(model, data, plan, measure=False)
