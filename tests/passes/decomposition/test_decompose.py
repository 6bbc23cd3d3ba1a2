from typing import Any

import numpy as np
import pytest

from tersor.compiler import load_model
from tersor.error import UserError
from tersor.gram import Gram
from tersor.ir.graph import weights_of
from tersor.model import Model
from tersor.passes.decomposition.decompose import decompose
from tersor.passes.extract import extract
from tersor.recipe import Recipe
from tersor.scheme import Scheme
from tersor.statistics import Statistics
from tests.models import Net, conv_kinds, mlp, residual_net

WINDOWS: list[dict[str, Any]] = [
    {},
    {"stride": 2},
    {"stride": 3, "pad": [0, 1, 2, 0]},
    {"dilation": 2},
    {"kernel": 5, "stride": 2},
]


def convolution(**window: Any) -> Model:
    net = Net("convolution", [2, 8, 13, 14])
    net.op("Relu", net.conv("x", "c", (8, 16), bias=True, **window), name="y")
    return load_model(net.finish(rank=4))


def results(model: Model, mod: Any) -> tuple[np.ndarray, np.ndarray]:
    """What the network gives as it came, and decomposed."""
    sample = model.buckets.largest.draw()
    return model.float_runner(sample)[0], Model("decomposed", mod, model.host).float_runner(sample)[0]


def assert_near(model: Model, mod: Any) -> None:
    expected, got = results(model, mod)
    assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_a_convolution_at_full_rank_is_its_chain(window: dict[str, Any]) -> None:
    model, size = convolution(**window), window.get("kernel", 3)
    factors = ["rank16", f"spatial{8 * size}", "filtergroups1", "tucker8x16"]
    for factor in factors + (["cp72"] if size == 3 else []):
        mod, schemes = decompose(model.mod, {"c.weight": Scheme.parse(f"fp32+{factor}")})
        assert_near(model, mod)
        assert all(scheme == Scheme() for scheme in schemes.values())


@pytest.mark.parametrize("factor", ["rank8", "spatial8", "filtergroups2", "tucker4x8", "cp8"])
def test_the_layers_are_those_that_were_said(factor: str) -> None:
    model = convolution()
    scheme = Scheme.parse(f"int8+{factor}")
    assert scheme.factor
    mod, schemes = decompose(model.mod, {"c.weight": scheme})
    layers = extract(mod).layers
    assert layers == extract(model.mod)["c.weight"].factored(scheme.factor)
    assert schemes == {layer.name: Scheme.parse("int8") for layer in layers}


def test_dense_layers_at_full_rank_are_their_chains() -> None:
    model = load_model(mlp(batch=3))
    schemes = {"fc0.weight": Scheme.parse("fp32+tt999"), "fc1.weight": Scheme.parse("fp32+rank96")}
    mod, _ = decompose(model.mod, schemes)
    assert_near(model, mod)
    layers = extract(model.mod)
    expected = [layers[name].factored(scheme.factor) for name, scheme in schemes.items() if scheme.factor]
    assert extract(mod).layers[:-1] == (*expected[0], *expected[1])


def test_a_residual_and_an_activation_stay_behind_the_last() -> None:
    model = load_model(residual_net())
    name = next(layer.name for layer in extract(model.mod).layers if layer.R == 3)
    mod, _ = decompose(model.mod, {name: Scheme.parse("fp32+rank8")})
    assert_near(model, mod)


def test_a_module_without_factors_stays_as_it_is() -> None:
    model = load_model(mlp())
    schemes = {"fc0.weight": Scheme.parse("int8")}
    assert decompose(model.mod, schemes) == (model.mod, schemes)


def test_the_second_moment_of_the_inputs_counts() -> None:
    model = convolution()
    moment = np.diag(np.where(np.arange(72) % 8 < 4, 1.0, 0.0)).astype(np.float32)
    statistics = Statistics({}, grams={"c.weight": Gram(moment[None], np.zeros((1, 72)), 10)})
    schemes = {"c.weight": Scheme.parse("fp32+rank4")}
    plain = weights_of(decompose(model.mod, schemes, statistics, Recipe(data_aware=False))[0])
    aware = weights_of(decompose(model.mod, schemes, statistics, Recipe())[0])
    assert plain["c.weight.1"].shape == aware["c.weight.1"].shape
    assert not np.allclose(plain["c.weight.1"], aware["c.weight.1"])


@pytest.mark.parametrize(
    ("layer", "factor", "reason"),
    [
        ("grouped", "rank4", "only convolutions without groups are factored, this has 4"),
        ("strided", "rank17", "the rank 17 is above 16"),
        ("strided", "tt4", "only dense layers become tensor trains, this is a 5x5 convolution"),
        ("strided", "filtergroups3", "8 inputs and 16 outputs do not go into 3 groups"),
        ("strided", "tucker9x9", "the rank of the inputs 9 is above 8"),
    ],
)
def test_what_a_layer_cannot_have_is_refused(layer: str, factor: str, reason: str) -> None:
    model = load_model(conv_kinds())
    with pytest.raises(UserError, match=reason):
        decompose(model.mod, {f"{layer}.weight": Scheme.parse(f"fp32+{factor}")})
