"""Buckets end to end: one library for several shapes, arrays padded to them and outputs cropped."""

from pathlib import Path

import numpy as np
import onnx
import pytest

import tersor
from tersor.compiler import Model
from tersor.targets.cpu.host.detect import detect
from tests.models import masked_attention, mlp

FEATURES = (64, 512, 512, 10)
LENGTHS = {"x": [(1, 8, 16), (1, 24, 16)], "mask": [(1, 8), (1, 24)]}


def rows(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).normal(size=(count, FEATURES[0])).astype("f4")}


def sentence(length: int, seed: int = 0) -> dict[str, np.ndarray]:
    x = np.random.default_rng(seed).normal(size=(1, length, 16)).astype("f4")
    return {"x": x, "mask": np.ones((1, length), np.int64)}


@pytest.fixture(scope="module")
def batches() -> Model:
    return tersor.load_model(mlp("batch", FEATURES), batch=[1, 4, 16])


@pytest.fixture(scope="module")
def batched(batches: Model) -> tersor.Compiled:
    return tersor.compile(batches, [rows(16, seed) for seed in range(3)], measure=False)


@pytest.fixture(scope="module")
def lengths() -> Model:
    return tersor.load_model(masked_attention(), shapes=LENGTHS)


@pytest.fixture(scope="module")
def sequenced(lengths: Model) -> tersor.Compiled:
    return tersor.compile(lengths, [sentence(n, n) for n in (5, 8, 11, 20, 24)], measure=False)


def test_rows_of_any_batch_are_computed_one_like_the_other(batched: tersor.Compiled) -> None:
    sample = rows(23)
    together = batched(sample)[0]
    assert together.shape == (23, 10)
    alone = [batched({"x": row[None]})[0] for row in sample["x"]]
    np.testing.assert_array_equal(together, np.concatenate(alone))


def test_weights_are_stored_once(batches: Model, batched: tersor.Compiled, tmp_path: Path) -> None:
    single = tersor.load_model(mlp("batch", FEATURES), batch=16)
    one = tersor.compile(single, [rows(16)], measure=False)
    size = one.save(tmp_path / "one").totals
    several = batched.save(tmp_path / "several").totals
    assert several.bytes == size.bytes
    assert several.file_bytes is not None
    assert size.file_bytes is not None
    assert several.file_bytes - size.file_bytes < 100_000  # code, beside 300,000 bytes of weights
    assert several.bytes < 0.3 * several.bytes_fp32


def test_one_plan_and_one_report_tell_of_all_buckets(batched: tersor.Compiled) -> None:
    assert set(batched.plan.layers) == {"fc0.weight", "fc1.weight", "fc2.weight"}
    assert [bucket.entry for bucket in batched.report.buckets.shapes] == ["main_1", "main_4", "main"]
    kernels = 1 if detect().isa.tiles else 3  # rows of all shapes fill one tile
    assert [layer.kernel.count("dense int8") for layer in batched.report.layers] == [kernels] * 3
    assert "x takes [any, 64]" in batched.report.text()
    assert batched.report.totals.samples == 48


def test_a_sequence_gives_the_same_in_every_bucket(lengths: Model) -> None:
    sample = sentence(5)
    exact = tersor.load_model(masked_attention(), shapes={"x": (1, 5, 16), "mask": (1, 5)})
    expected = exact.float_runner(sample)[0]
    got = lengths.float_runner(sample)[0]
    assert got.shape == expected.shape == (1, 5, 16)
    assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max()


def test_int8_sequences_of_any_length_stay_near_fp32(lengths: Model, sequenced: tersor.Compiled) -> None:
    for length in (3, 8, 9, 24):
        several = [sentence(length, seed) for seed in range(90, 100)]
        expected, got = (
            np.concatenate([run(each)[0] for each in several]) for run in (lengths.float_runner, sequenced)
        )
        assert got.shape == (10, length, 16)
        assert np.square(got - expected).mean() < 0.01 * np.square(expected).mean()


def test_unmasked_padding_is_refused_and_exact_sizes_run() -> None:
    model = tersor.load_model(masked_attention(masked=False), shapes=LENGTHS)
    data = [sentence(8), sentence(24)]
    compiled = tersor.compile(model, data, measure=False)
    assert [compiled(sample)[0].shape[1] for sample in data] == [8, 24]
    with pytest.raises(tersor.UserError, match=r"8 or 24.*does not mask its padding"):
        compiled(sentence(9))
    with pytest.raises(tersor.UserError, match="does not mask its padding"):
        tersor.compile(model, [sentence(9)], measure=False)
    assert "no padding: zeros after axis 1 of 'x'" in compiled.report.text()
    assert "x takes [1, 8 or 24, 16]" in compiled.report.text()


def test_a_leading_dimension_of_1_becomes_a_batch() -> None:
    source = mlp(1)
    model = tersor.load_model(source, batch=3)
    reference = tersor.load_model(source).float_runner
    sample = rows(5)
    expected = np.concatenate([reference({"x": row[None]})[0] for row in sample["x"]])
    got = model.float_runner(sample)[0]
    assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max()


def test_a_model_that_mixes_rows_is_padded_only_where_that_changes_nothing() -> None:
    """Softmax over the batch: a row depends on all others."""
    graph = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        mixing (float[n, 4] x) => (float[n, 4] y) { y = Softmax<axis = 0>(x) }"""
    )
    model = tersor.load_model(graph, batch=[2, 4])
    with pytest.raises(tersor.UserError, match=r"\[2 or 4, 4\], got an array of \[3, 4\]"):
        model.float_runner({"x": np.zeros((3, 4), np.float32)})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"shapes": {**LENGTHS, "mask": [(1, 8), (1, 24), (1, 32)]}}, "'x' has 2, 'mask' has 3"),
        ({"shapes": {"x": [(1, 8, 16)] * 2, "mask": (1, 8)}}, "give each once"),
        ({"shapes": {**LENGTHS, "x": "1x8x16"}}, r"the shape '1x8x16' of 'x'.*write it as"),
        ({"batch": 0}, "at least 1"),
        ({"batch": [4, 4]}, "give each batch once"),
    ],
)
def test_a_mistake_is_said_in_words(options: dict, said: str) -> None:
    with pytest.raises(tersor.UserError, match=said):
        tersor.load_model(masked_attention(), **options)
