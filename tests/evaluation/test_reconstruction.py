"""A layer's numbers under a scheme are those that the passes of a whole compression give it."""

import numpy as np
import pytest

import tersor
from tersor.compression import round_layers
from tersor.error import UserError
from tersor.evaluation.reconstruction import Reconstruction
from tersor.ir.chains import find_chains
from tersor.ir.graph import Graph, weights_of
from tersor.model import Model
from tersor.passes.calibrate import calibrate
from tersor.passes.extract import extract
from tersor.passes.grams import find_windows
from tersor.passes.quantization.imported import as_float
from tersor.plan import LayerPlan, Plan
from tersor.planning import model_hash
from tersor.recipe import Recipe
from tersor.scheme import Scheme
from tersor.statistics import Statistics
from tests.models import Net

CONV, DENSE = "conv1.weight", "fc.weight"


@pytest.fixture(scope="module")
def model() -> Model:
    net = Net("chain", [4, 8, 6, 6])
    x = net.op("Relu", net.conv("x", "conv0", (8, 16), bias=True), name="relu0")
    x = net.op("Relu", net.conv(x, "conv1", (16, 24), stride=2, bias=True), name="relu1")
    x = net.op("Flatten", net.op("GlobalAveragePool", x, name="pool"), name="flatten")
    net.linear(x, "fc", (24, 16), last=True)
    return tersor.load_model(net.finish(), check=False)


@pytest.fixture(scope="module")
def statistics(model: Model) -> Statistics:
    random = np.random.default_rng(0)
    samples = [{"x": random.normal(size=(4, 8, 6, 6)).astype(np.float32)} for _ in range(2)]
    layers = [layer.name for layer in extract(model.mod).layers]
    return calibrate(model.observe(model.mod), samples, windows=find_windows(model.mod, layers))


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("text", ["int8", "w4a8", "w4a32", "int8+2:4", "w4a8+sparse50", "fp32+2:4"])
@pytest.mark.parametrize("rounding", ["nearest", "gptq"])
def test_numbers_are_those_of_the_passes(
    model: Model, statistics: Statistics, layer: int, text: str, rounding: str
) -> None:
    recipe, scheme = Recipe(rounding=rounding), Scheme.parse(text)  # pyright: ignore[reportArgumentType]
    chain = find_chains(Graph(model.mod))[layer]
    numbers = Reconstruction(model.mod, statistics, recipe).numbers(chain.layer, scheme)
    plan = Plan(model_hash(model.mod), "here", {chain.layer: LayerPlan(scheme)}, None, recipe)
    known = statistics if rounding == "gptq" else Statistics(statistics.tensors, {}, statistics)
    graph = Graph(as_float(round_layers(model.mod, plan, known)[0]))
    expected = find_chains(graph)[layer]
    assert numbers is not None
    assert expected.bias is not None
    np.testing.assert_allclose(numbers.weight, graph.weights[expected.weight], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(numbers.biases[0], expected.bias, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("factor", ["rank8", "spatial8", "tucker8x8", "cp8", "filtergroups2"])
def test_factors_are_multiplied_out(model: Model, statistics: Statistics, factor: str) -> None:
    made = Reconstruction(model.mod, statistics, Recipe(data_aware=False))
    exact = made.numbers(CONV, Scheme.parse(f"fp32+{factor}"))
    rounded = made.numbers(CONV, Scheme.parse(f"int8+{factor}"))
    weight = weights_of(model.mod)[CONV]
    assert exact is not None
    assert rounded is not None
    assert exact.weight.shape == rounded.weight.shape == weight.shape
    assert np.linalg.norm(exact.weight - weight) < np.linalg.norm(weight)
    assert 0 < np.linalg.norm(rounded.weight - exact.weight) < 0.05 * np.linalg.norm(exact.weight)


def test_steps_of_the_input_are_taken_out_again(model: Model, statistics: Statistics) -> None:
    made = Reconstruction(model.mod, statistics, Recipe())
    steps = tuple(np.geomspace(0.5, 2, 24))
    plain, scaled = (made.numbers(DENSE, Scheme.parse("w4a8"), each) for each in ((), steps))
    assert plain is not None
    assert scaled is not None
    weight = made.numbers(DENSE, Scheme())
    assert weight is not None
    assert np.linalg.norm(scaled.weight - weight.weight) < 0.5 * np.linalg.norm(weight.weight)
    assert not np.array_equal(scaled.weight, plain.weight)


def test_what_has_no_dense_weight_is_refused(model: Model, statistics: Statistics) -> None:
    made = Reconstruction(model.mod, statistics, Recipe())
    for text in ("int8+channels50", "int8+svdsoftmax2x4"):
        with pytest.raises(UserError, match="another network"):
            made.numbers(DENSE, Scheme.parse(text))
    with pytest.raises(UserError, match="row by row"):
        made.numbers(CONV, Scheme.parse("int8+dynamic"))
    with pytest.raises(UserError, match="thins all layers together"):
        Reconstruction(model.mod, statistics, Recipe(criterion="global"))
