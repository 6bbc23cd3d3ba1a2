"""The pass on small networks: every pattern by every criterion, and what repair gives back."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from tersor.error import UserError
from tersor.formats.matrix import matrix_of
from tersor.gram import Gram
from tersor.ir.graph import weights_of
from tersor.passes.grams import find_windows, rows_of
from tersor.passes.pruning.prune import prune
from tersor.recipe import Recipe
from tersor.scheme import Scheme
from tersor.statistics import Statistics
from tests.relax_modules import attention_net, compiled, residual_net, samples

LAYERS = {f"{name}.weight": axis for name, axis in zip("abcd", (0,) * 4, strict=True)}
LAYERS |= {"down.weight": 0, "fc.weight": 1}


def gram_of(rows: np.ndarray) -> Gram:
    moments = np.stack([each.T @ each / len(each) for each in rows])
    return Gram(moments.astype(np.float32), rows.mean(axis=1).astype(np.float64), rows.shape[1])


def statistics(mod, layers: Mapping[str, int]) -> Statistics:
    """Grams of random rows: right in shape for every layer."""
    random = np.random.default_rng(0)
    grams = {}
    for layer, (window, *_) in find_windows(mod, layers).items():
        mixed = random.normal(size=(window.columns, window.columns))
        grams[layer] = gram_of(random.normal(0.5, 1, size=(window.groups, 300, window.columns)) @ mixed)
    return Statistics({}, grams)


def schemes(text: str) -> dict[str, Scheme]:
    return {name: Scheme.parse(f"fp32+{text}") for name in LAYERS}


def matrices(mod) -> dict[str, np.ndarray]:
    weights = weights_of(mod)
    return {name: matrix_of(weights[name], axis) for name, axis in LAYERS.items()}


@pytest.mark.parametrize("criterion", ["magnitude", "global", "wanda", "obc"])
@pytest.mark.parametrize("repair", [False, True])
@pytest.mark.parametrize("text", ["2:4", "1:4", "sparse75", "block2x4-50"])
def test_every_layer_gets_its_pattern(criterion, repair, text) -> None:
    mod = residual_net()
    recipe = Recipe(criterion=criterion, repair=repair)
    pruned = prune(mod, schemes(text), statistics(mod, LAYERS), recipe)
    density = Scheme.parse(f"fp32+{text}").sparsity.density
    total = kept = 0
    for name, matrix in matrices(pruned).items():
        assert np.isfinite(matrix).all()
        count = np.count_nonzero(matrix)
        total, kept = total + matrix.size, kept + count
        if ":" in text:
            assert (np.count_nonzero(matrix.reshape(-1, 4), axis=1) == int(text[0])).all(), name
        if text.startswith("block"):
            tiles = matrix.reshape(len(matrix) // 2, 2, -1, 4) != 0
            assert (tiles.all(axis=(1, 3)) | ~tiles.any(axis=(1, 3))).all(), name
        if criterion in ("magnitude", "obc"):
            assert count == pytest.approx(density * matrix.size, abs=8), name
    if criterion != "wanda":  # whose rows round each for itself
        assert kept == pytest.approx(density * total, abs=8)


def test_other_layers_stay_as_they_are() -> None:
    mod = residual_net()
    pruned = prune(mod, {"b.weight": Scheme.parse("int8+2:4")}, statistics(mod, LAYERS), Recipe())
    before, after = weights_of(mod), weights_of(pruned)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"b.weight", "b.bias"}
    assert prune(mod, {"b.weight": Scheme.parse("int8")}, None, Recipe()) is mod


def test_repair_gives_back_what_a_layer_lost_and_the_mean_of_its_output() -> None:
    mod = residual_net()
    # Channels that go together: those that stay can stand in for the others.
    inputs = [x + 2 * x[:, :1] for x in samples(1, 8, 10, 10, count=4)]
    windows = find_windows(mod, ["a.weight"])["a.weight"]
    rows = np.concatenate([rows_of(windows[0], x, i) for i, x in enumerate(inputs)], axis=1)
    known = Statistics({}, {"a.weight": gram_of(rows)})
    scheme = {"a.weight": Scheme.parse("fp32+2:4")}
    outputs = {}
    for repair in (False, True):
        pruned = weights_of(prune(mod, scheme, known, Recipe(repair=repair)))
        outputs[repair] = rows[0] @ matrix_of(pruned["a.weight"], 0).T + pruned["a.bias"].reshape(-1)
    weights = weights_of(mod)
    exact = rows[0] @ matrix_of(weights["a.weight"], 0).T + weights["a.bias"].reshape(-1)
    assert np.square(outputs[True] - exact).mean() < 0.5 * np.square(outputs[False] - exact).mean()
    np.testing.assert_allclose(outputs[True].mean(axis=0), exact.mean(axis=0), atol=1e-4)


def test_a_pruned_network_runs_and_keeps_its_shapes() -> None:
    mod = residual_net()
    pruned = prune(mod, schemes("2:4"), statistics(mod, LAYERS), Recipe(criterion="obc"))
    (output,) = compiled(pruned, level=0)(samples(1, 8, 10, 10, count=1)[0])
    assert output.shape == (1, 10)


def test_a_layer_whose_inputs_were_not_seen_in_its_shape_keeps_its_largest_weights() -> None:
    mod = residual_net()
    known = statistics(mod, LAYERS)
    grams = {**known.grams, "b.weight": gram_of(np.ones((1, 4, 36)))}
    scheme = {"b.weight": Scheme.parse("fp32+2:4")}
    fallen_back = prune(mod, scheme, replace(known, grams=grams), Recipe(criterion="wanda"))
    largest = prune(mod, scheme, None, Recipe(repair=False))
    np.testing.assert_array_equal(weights_of(fallen_back)["b.weight"], weights_of(largest)["b.weight"])


@pytest.mark.parametrize(
    ("text", "recipe", "message"),
    [
        (
            "3:7",
            Recipe(repair=False),
            "the layer 'a.weight': 3:7 sparsity needs a multiple of 7 inputs, got 8",
        ),
        ("block5x4-50", Recipe(repair=False), "needs a multiple of 5 outputs, got 8"),
        ("2:4", Recipe(), "pruning 'a.weight' by its inputs, or repairing it, needs their moments"),
        ("2:4", Recipe(criterion="wanda", repair=False), "needs their moments"),
        ("2:4", Recipe(criterion="taylor", repair=False), "by the criterion taylor needs gradients"),
        ("2:4", Recipe(criterion="bn"), "bn ranks channels, not weights"),
    ],
)
def test_what_cannot_be_is_refused(text, recipe, message) -> None:
    with pytest.raises(UserError, match=message):
        prune(residual_net(), {"a.weight": Scheme.parse(f"fp32+{text}")}, None, recipe)


def test_a_table_is_refused() -> None:
    with pytest.raises(UserError, match="rows of a table are looked up and not multiplied"):
        prune(attention_net(), {"table": Scheme.parse("int8+sparse50")}, None, Recipe())
