"""Sensitivities are what a network with that one layer changed does, and are measured once."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tersor
from tersor.error import UserError
from tersor.evaluation.perturbed import Perturbed
from tersor.ir.graph import replace_weights, weights_of
from tersor.model import Model
from tersor.passes.extract import extract
from tersor.recipe import Recipe
from tersor.scheduler.rounded import rounded
from tersor.scheme import Scheme
from tersor.sensitivity.heat_map import heat_map
from tersor.sensitivity.sensitivity import Sensitivity, sensitivity
from tests.models import masked_attention, mobile_net, random_inputs

SCHEMES = tuple(map(Scheme.parse, ("int8", "w2a8", "w2a32", "int8+2:4")))
SAMPLES = [random_inputs(mobile_net(), seed) for seed in range(3)]


@pytest.fixture(scope="module")
def model() -> Model:
    return tersor.load_model(mobile_net(), check=False)


@pytest.fixture(scope="module")
def found(model: Model) -> Sensitivity:
    return sensitivity(model, SAMPLES, SAMPLES, SCHEMES, Recipe(bias_correction=False))


def test_a_cell_is_the_noise_of_a_network_with_that_weight(model: Model, found: Sensitivity) -> None:
    network = extract(model.mod)
    layer, scheme = network.layers[2], SCHEMES[2]
    weight = rounded(weights_of(model.mod)[layer.name], layer, scheme)
    changed = replace(model, mod=replace_weights(model.mod, {layer.name: weight})).float_runner
    exact, got = ([run(sample)[0] for sample in SAMPLES] for run in (model.float_runner, changed))
    noise = sum(np.square(a.astype(float) - b).sum() for a, b in zip(exact, got, strict=True))
    expected = 10 * np.log10(sum(np.square(a.astype(float)).sum() for a in exact) / noise)
    assert found.cell(layer.name, scheme).snr_db == pytest.approx(expected, abs=1e-3)


def test_every_layer_has_every_scheme_or_a_reason(model: Model, found: Sensitivity) -> None:
    assert found.layers == tuple(layer.name for layer in extract(model.mod).layers)
    assert len(found.cells) == len(found.layers) * len(SCHEMES)
    for cell in found.cells:
        assert (cell.snr_db is None) == bool(cell.reason)
    refused = [cell for cell in found.cells if cell.reason]
    assert refused
    assert all("needs a multiple of 4 inputs" in cell.reason for cell in refused)


def test_fewer_bits_are_worse_and_the_proxy_ranks_nearly_as_measured(found: Sensitivity) -> None:
    for layer in found.layers:
        eight, two = (found.cell(layer, scheme).snr_db for scheme in SCHEMES[:2])
        assert eight is not None
        assert two is not None
        assert eight > two
    assert found.proxy_correlation is not None
    assert found.layer_correlation is not None
    assert found.proxy_correlation > 0.8


def test_products_of_activations_have_rounded_operands() -> None:
    model = tersor.load_model(masked_attention(), {"x": [(1, 5, 16)], "mask": [(1, 5)]}, check=False)
    random = np.random.default_rng(0)
    sample = {name: random.normal(size=shape).astype(dtype) for name, (shape, dtype) in model.inputs.items()}
    result = sensitivity(model, [sample], [sample], SCHEMES[:3])
    product = next(layer.name for layer in extract(model.mod).layers if not layer.weight_bearing)
    assert 20 < (result.cell(product, SCHEMES[0]).snr_db or 0) < 80
    assert "no weight to compress" in result.cell(product, SCHEMES[2]).reason


def test_only_dense_layers_find_ranges_of_rows(model: Model) -> None:
    result = sensitivity(model, SAMPLES[:1], SAMPLES[:1], [Scheme.parse("int8+dynamic")])
    assert {cell.reason for cell in result.cells} == {"only dense layers find ranges row by row"}


def test_a_killed_run_goes_on_to_the_same_result(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = tmp_path / "made" / "sensitivity.sqlite"
    first = sensitivity(model, SAMPLES, SAMPLES[:1], SCHEMES[:2], journal=journal)
    first.save(tmp_path / "first.json")
    with sqlite3.connect(journal) as file:  # as if it had been killed before the last three
        last = "SELECT key FROM results WHERE kind = 'noise' ORDER BY key DESC LIMIT 3"
        file.execute(f"DELETE FROM results WHERE key IN ({last})")
    measured = []
    run = Perturbed.run
    monkeypatch.setattr(
        "tersor.evaluation.perturbed.Perturbed.run",
        lambda self, *rest: measured.append(1) or run(self, *rest),
    )
    again = sensitivity(model, SAMPLES, SAMPLES[:1], SCHEMES[:2], journal=journal)
    again.save(tmp_path / "again.json")
    assert len(measured) == 1 + 3  # the reference, and what was missing
    assert (tmp_path / "first.json").read_bytes() == (tmp_path / "again.json").read_bytes()


def test_other_samples_are_measured_anew(model: Model, tmp_path: Path) -> None:
    journal = tmp_path / "sensitivity.sqlite"
    one, other = (sensitivity(model, SAMPLES, SAMPLES[i:][:1], SCHEMES[:1], journal=journal) for i in (0, 1))
    assert [cell.snr_db for cell in one.cells] != [cell.snr_db for cell in other.cells]


def test_a_file_that_is_no_journal_is_refused(model: Model, tmp_path: Path) -> None:
    (tmp_path / "cells").write_text("no database at all" * 100)
    with pytest.raises(UserError, match="cells is no journal"):
        sensitivity(model, SAMPLES, SAMPLES[:1], SCHEMES[:1], journal=tmp_path / "cells")


def test_heat_maps_are_drawn_the_same_each_time(found: Sensitivity, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for turn in ("a", "b"):
        heat_map(found, [tmp_path / f"{turn}.png", tmp_path / f"{turn}.svg"])
    assert (tmp_path / "a.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert "<svg" in (tmp_path / "a.svg").read_text()
    for ending in ("png", "svg"):
        assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()
