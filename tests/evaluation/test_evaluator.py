"""Policies measured on one build: as the passes would have the network, and nothing is compiled again."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx
import pytest

import tersor
from tersor.compression import round_layers
from tersor.error import UserError
from tersor.evaluation.evaluator import NetworkEvaluator
from tersor.model import Model
from tersor.passes.calibrate import calibrate
from tersor.passes.extract import extract
from tersor.passes.grams import find_windows
from tersor.plan import LayerPlan, Plan
from tersor.planning import model_hash
from tersor.recipe import Recipe
from tersor.scheme import Scheme
from tersor.statistics import Statistics
from tests.models import Net, conv_kinds, masked_attention, mlp, residual_net


def samples_of(model: Model, count: int = 2) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    return [
        {name: random.normal(size=shape).astype(dtype) for name, (shape, dtype) in model.inputs.items()}
        for _ in range(count)
    ]


def calibrated(model: Model, samples: list[dict[str, np.ndarray]]) -> Statistics:
    layers = [layer.name for layer in extract(model.mod).layers]
    return calibrate(model.observe(*model.mods), samples, windows=find_windows(model.mod, layers))


class Bench:
    """A network, what it was calibrated on, and its evaluator."""

    def __init__(self, model: Model, recipe: Recipe) -> None:
        self.model, self.recipe = model, recipe
        self.samples = samples_of(model)
        self.statistics = calibrated(model, self.samples)
        self.evaluator = NetworkEvaluator(model, self.statistics, recipe, self.samples)

    def by_the_passes(self, schemes: Mapping[str, Scheme]) -> list[np.ndarray]:
        """Give the first outputs of the network as the passes round it, in float operators."""
        layers = {name: LayerPlan(scheme) for name, scheme in schemes.items()}
        plan = Plan(model_hash(self.model.mod), "here", layers, None, self.recipe)
        mod, _, _ = round_layers(self.model.mod, plan, replace(self.statistics, grams={}))
        rounded = Model("rounded", mod, self.model.host)
        return [rounded.float_runner(sample)[0] for sample in self.samples]


def swish_net() -> onnx.ModelProto:
    """[1, 8, 6, 6]: pointwise, depthwise and pointwise, with x sigmoid(x) between them."""
    net = Net("swish_net", [1, 8, 6, 6])
    x = net.conv("x", "expand", (8, 16), 1, bias=True)
    x = net.op("Mul", x, net.op("Sigmoid", x, name="gate0"), name="swish0")
    x = net.conv(x, "depthwise", (16, 16), groups=16, bias=True)
    x = net.op("Mul", x, net.op("Sigmoid", x, name="gate1"), name="swish1")
    net.op("Identity", net.conv(x, "project", (16, 8), 1), name="y")
    return net.finish(rank=4)


SHAPES = {"x": [(2, 5, 16)], "mask": [(2, 5)]}
NETS = {
    "conv_kinds": lambda: tersor.load_model(conv_kinds(), check=False),
    "residual_net": lambda: tersor.load_model(residual_net(), check=False),
    "swish_net": lambda: tersor.load_model(swish_net(), check=False),
    "attention": lambda: tersor.load_model(masked_attention(), SHAPES, check=False),
}
INT8, W4A8, W4A4 = map(Scheme.parse, ("int8", "w4a8", "w4a4"))
POLICIES = {
    "int8": [INT8],
    "mixed": [INT8, Scheme(), W4A8],
    "w4a4": [W4A4],
    "narrow": [W4A4, INT8, Scheme.parse("w8a5"), Scheme(), W4A4],
}


@pytest.fixture(scope="module", params=list(NETS))
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(NETS[request.param](), Recipe())


@pytest.fixture(scope="module")
def dense() -> Bench:
    return Bench(tersor.load_model(mlp(batch=16), check=False), Recipe())


def noise(expected: list[np.ndarray], got: list[np.ndarray]) -> float:
    """Noise over signal of all samples together."""
    differences = [got - each.astype(float) for each, got in zip(expected, got, strict=True)]
    return float(sum(np.square(d).sum() for d in differences) / sum(np.square(e).sum() for e in expected))


def mixed(bench: Bench, turns: Sequence[Scheme]) -> dict[str, Scheme]:
    layers = extract(bench.model.mod).layers
    return {
        layer.name: turns[i % len(turns)] if layer.weight_bearing else INT8 for i, layer in enumerate(layers)
    }


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_computes_what_the_passes_write(bench: Bench, policy: str) -> None:
    schemes = mixed(bench, POLICIES[policy])
    exact = [bench.model.float_runner(sample)[0] for sample in bench.samples]
    expected = bench.by_the_passes(schemes)
    got = [outputs[0] for outputs in bench.evaluator.outputs(schemes)]
    assert noise(exact, expected) > 1e-6
    # Sums are in another order here and there, which moves a code of a few.
    assert noise(expected, got) < 2e-3 * noise(exact, expected)
    assert bench.evaluator.evaluate(schemes).loss == pytest.approx(noise(exact, got), rel=1e-3)


def test_nothing_compressed_loses_nothing(bench: Bench) -> None:
    bench.evaluator.evaluate(dict.fromkeys(bench.evaluator.layers, INT8))
    measured = bench.evaluator.evaluate({})
    assert (measured.drop, measured.loss) == (0.0, 0.0)
    assert bench.evaluator.evaluate(dict.fromkeys(bench.evaluator.layers, Scheme())) == measured


def test_nothing_is_compiled_again(dense: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tvm.compile", lambda *_, **__: pytest.fail("compiled"))
    losses = [
        dense.evaluator.evaluate(dict.fromkeys(dense.evaluator.layers, Scheme.parse(text))).loss
        for text in ("int8", "int8+dynamic", "w4a8", "w4a4", "w2a8", "int8+2:4", "int8+rank8", "fp32+rank8")
    ]
    assert len(set(losses)) == len(losses)
    assert min(losses) > 0


def test_fewer_bits_and_more_layers_lose_more(dense: Bench) -> None:
    evaluator = dense.evaluator
    first = evaluator.layers[:1]
    losses = [evaluator.loss(first, Scheme.parse(text)) for text in ("int8", "w4a8", "w4a4", "w2a4")]
    assert losses == sorted(losses)
    assert evaluator.loss(evaluator.layers, W4A8) > evaluator.loss(first, W4A8)


@pytest.mark.parametrize("text", ["w4a8", "w4a4", "w4a32", "fp32+rank8"])
def test_a_loss_is_that_of_the_layer_alone(dense: Bench, text: str) -> None:
    first, scheme = dense.evaluator.layers[0], Scheme.parse(text)
    assert dense.evaluator.loss([first], scheme) == dense.evaluator.evaluate({first: scheme}).loss


def test_a_narrow_tensor_is_narrow_for_all_who_read_it(bench: Bench) -> None:
    """Also where it is added to what a layer computes, and where no layer multiplies it."""
    layers = [layer.name for layer in extract(bench.model.mod).layers if layer.weight_bearing]
    policy = dict.fromkeys(layers, Scheme.parse("w8a4"))
    together = bench.evaluator.loss(layers, Scheme.parse("w8a4"))
    assert together == pytest.approx(bench.evaluator.evaluate(policy).loss, rel=0.05)


def test_a_drop_is_of_accuracy_with_labels_and_of_agreement_without(dense: Bench) -> None:
    evaluator = dense.evaluator
    schemes = dict.fromkeys(evaluator.layers, Scheme.parse("w2a8"))
    outcome = evaluator.outcome(schemes)
    changed = outcome.classes != evaluator.reference
    assert changed.any()
    assert outcome.measured.samples == len(changed) == 16 * len(dense.samples)
    assert outcome.measured.drop == pytest.approx(100 * changed.mean())
    assert np.array_equal(evaluator.right(outcome), ~changed)
    labels = np.where(changed, outcome.classes, 0)
    judged = NetworkEvaluator(dense.model, dense.statistics, dense.recipe, dense.samples, labels, 16)
    assert judged.digest != evaluator.digest
    expected = 100 * (judged.right().mean() - judged.right(judged.outcome(schemes)).mean())
    assert judged.evaluate(schemes).drop == pytest.approx(expected)
    assert expected < 0
    assert judged.loss(judged.layers, W4A8) != evaluator.loss(judged.layers, W4A8)  # of one batch, not of two


def test_other_samples_are_measured_as_by_an_evaluator_of_their_own(dense: Bench) -> None:
    schemes = dict.fromkeys(dense.evaluator.layers, W4A8)
    before = dense.evaluator.evaluate(schemes)
    others = dense.samples[1:]
    labels = np.zeros(16, int)
    alone = NetworkEvaluator(dense.model, dense.statistics, dense.recipe, others, labels)
    shared = dense.evaluator.on(others, labels)
    assert shared.digest == alone.digest != dense.evaluator.digest
    assert shared.evaluate(schemes) == alone.evaluate(schemes) != before
    assert dense.evaluator.evaluate(schemes) == before
    with pytest.raises(UserError, match="no samples"):
        dense.evaluator.on([])


def test_what_does_not_fit_is_refused(dense: Bench) -> None:
    made = dense.model, dense.statistics
    samples = dense.samples
    with pytest.raises(UserError, match="no samples"):
        NetworkEvaluator(*made, Recipe(), [])
    with pytest.raises(UserError, match="has no input 'x'"):
        NetworkEvaluator(*made, Recipe(), [{"y": samples[0]["x"]}])
    with pytest.raises(UserError, match="give whole batches"):
        NetworkEvaluator(*made, Recipe(), [{"x": samples[0]["x"][:1]}])
    with pytest.raises(UserError, match="depend on each other"):
        NetworkEvaluator(*made, Recipe(equalize=True), samples)
    with pytest.raises(UserError, match="no layer 'other'"):
        dense.evaluator.loss(["other"], INT8)
    with pytest.raises(UserError, match="of sample 0 is not finite"):
        NetworkEvaluator(*made, Recipe(), [{"x": np.full_like(samples[0]["x"], np.nan)}])
    with pytest.raises(UserError, match="a label for each of the 32 samples"):
        NetworkEvaluator(*made, Recipe(), samples, np.zeros(3, int))
