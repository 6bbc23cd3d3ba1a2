from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tersor.error import UserError
from tersor.gram import Gram
from tersor.statistics import BINS, Statistics, TensorStatistics


def tensor(seed: int = 0, channels: int = 3) -> TensorStatistics:
    rng = np.random.default_rng(seed)
    return TensorStatistics(
        samples=2,
        elements=600,
        minimum=-0.5,
        maximum=1.25,
        lo=-1.0,
        hi=3.0,
        histogram=rng.integers(0, 9, BINS),
        mean=rng.normal(size=channels),
        second_moment=rng.random(channels),
        channel_minimum=rng.normal(size=channels),
        channel_maximum=rng.normal(size=channels),
    )


def test_a_saved_file_loads_to_the_same_numbers(tmp_path: Path) -> None:
    statistics = Statistics({"features.0/conv ü": tensor(0, 3), "b": tensor(1, 1), "a\0": tensor(2, 7)})
    path = tmp_path / "statistics.npz"
    statistics.save(path)
    loaded = Statistics.load(path)
    assert loaded.digest() == statistics.digest()
    assert loaded.tensors.keys() == statistics.tensors.keys()
    for name, expected in statistics.tensors.items():
        found = loaded.tensors[name]
        assert (found.samples, found.elements) == (expected.samples, expected.elements)
        assert (found.minimum, found.maximum, found.lo, found.hi) == (-0.5, 1.25, -1.0, 3.0)
        np.testing.assert_array_equal(found.histogram, expected.histogram)
        np.testing.assert_array_equal(found.mean, expected.mean)
        np.testing.assert_array_equal(found.second_moment, expected.second_moment)
        np.testing.assert_array_equal(found.channel_minimum, expected.channel_minimum)
        np.testing.assert_array_equal(found.channel_maximum, expected.channel_maximum)
    assert list(tmp_path.iterdir()) == [path]


def test_no_tensors_save_and_load(tmp_path: Path) -> None:
    Statistics({}).save(tmp_path / "empty.npz")
    assert Statistics.load(tmp_path / "empty.npz").tensors == {}


def test_the_digest_depends_on_the_content_and_not_on_its_order() -> None:
    a, b = tensor(0), tensor(1)
    digest = Statistics({"a": a, "b": b}).digest()
    assert len(digest) == 64
    assert digest == Statistics({"b": b, "a": a}).digest()
    assert digest != Statistics({"a": b, "b": a}).digest()
    assert digest != Statistics({"a": a, "c": b}).digest()
    assert digest != Statistics({"a": a, "b": replace(b, maximum=1.26)}).digest()


def test_edges_are_evenly_spaced_from_lo_to_hi() -> None:
    edges = tensor().edges
    assert edges.shape == (BINS + 1,)
    assert (edges[0], edges[-1]) == (-1.0, 3.0)
    np.testing.assert_array_equal(np.diff(edges), np.full(BINS, 4 / BINS))


@pytest.mark.parametrize(
    "wrong",
    [
        {"samples": 0},
        {"elements": 0},
        {"minimum": 2.0},
        {"maximum": float("nan")},
        {"lo": 0.5},
        {"hi": float("inf")},
        {"histogram": np.zeros(BINS, np.int64)},
        {"histogram": np.ones(7, np.int64)},
        {"mean": np.zeros(4)},
        {"second_moment": np.full(3, np.inf)},
    ],
)
def test_impossible_statistics_are_refused(wrong: dict) -> None:
    with pytest.raises(UserError):
        replace(tensor(), **wrong)


def test_files_that_are_something_else_are_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the statistics"):
        Statistics.load(tmp_path / "missing.npz")
    with pytest.raises(UserError, match="cannot read the statistics"):
        Statistics.load(tmp_path)
    text = tmp_path / "text.npz"
    text.write_text("not an archive")
    with pytest.raises(UserError, match="does not hold calibration statistics"):
        Statistics.load(text)
    other = tmp_path / "other.npz"
    np.savez(other, x=np.zeros(3))
    with pytest.raises(UserError, match="does not hold calibration statistics"):
        Statistics.load(other)
    whole = tmp_path / "whole.npz"
    Statistics({"a": tensor()}).save(whole)
    cut = tmp_path / "cut.npz"
    cut.write_bytes(whole.read_bytes()[:-400])
    with pytest.raises(UserError, match="does not hold calibration statistics"):
        Statistics.load(cut)
    with np.load(whole) as arrays:
        content = dict(arrays)
    np.savez(other, **content | {"version": np.array([99])})  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="version 99"):
        Statistics.load(other)
    np.savez(other, **content | {"counts": np.array([[0, 0]])})  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="at least one sample"):
        Statistics.load(other)
    np.savez(other, **content | {"names": np.array([["pickled"]], object)})  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="does not hold calibration statistics"):
        Statistics.load(other)


def test_damaged_bytes_inside_the_archive_are_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "statistics.npz"
    Statistics({"a": tensor()}).save(path)
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(good), 60):
        bad = bytearray(good)
        bad[position] ^= 0xFF
        path.write_bytes(bytes(bad))
        try:
            loaded = Statistics.load(path)
        except UserError:
            continue
        assert loaded.digest() == Statistics({"a": tensor()}).digest()  # the byte meant nothing


def test_an_unwritable_path_is_refused_in_words_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write the statistics"):
        Statistics({"a": tensor()}).save(tmp_path / "no" / "such" / "statistics.npz")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="cannot write the statistics"):
        Statistics({"a": tensor()}).save(tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def gram(seed: int = 0, groups: int = 2, columns: int = 5) -> Gram:
    rows = np.random.default_rng(seed).normal(size=(groups, 9, columns)).astype(np.float32)
    moment = np.einsum("grn,grm->gnm", rows, rows)
    return Gram((moment + moment.transpose(0, 2, 1)) / 18, rows.mean(axis=1, dtype=np.float64), 9)


def test_gram_matrices_and_the_origin_are_saved_and_part_of_the_digest(tmp_path: Path) -> None:
    bare = Statistics({"a": tensor()})
    origin = Statistics({"a": tensor(1)}, {"fc": gram(1)})
    whole = Statistics({"a": tensor()}, {"fc": gram(2), "conv": gram(3, 1, 7)}, origin)
    whole.save(tmp_path / "statistics.npz")
    loaded = Statistics.load(tmp_path / "statistics.npz")
    assert loaded.digest() == whole.digest()
    assert loaded.origin is not None
    assert loaded.origin.digest() == origin.digest()
    for found, expected in ((loaded, whole), (loaded.origin, origin)):
        assert found.grams.keys() == expected.grams.keys()
        for name, each in expected.grams.items():
            assert found.grams[name].rows == each.rows
            np.testing.assert_array_equal(found.grams[name].second_moment, each.second_moment)
            np.testing.assert_array_equal(found.grams[name].mean, each.mean)
    digests = {
        bare.digest(),
        whole.digest(),
        replace(whole, origin=None).digest(),
        replace(whole, grams={}).digest(),
    }
    assert len(digests) == 4


@pytest.mark.parametrize(
    ("moment", "mean", "rows"),
    [
        (np.zeros((1, 2, 3)), np.zeros((1, 2)), 1),
        (np.zeros((2, 2, 2)), np.zeros((1, 2)), 1),
        (np.zeros((1, 2, 2)), np.zeros(2), 1),
        (np.zeros((1, 2, 2)), np.zeros((1, 2)), 0),
        (np.full((1, 2, 2), np.nan), np.zeros((1, 2)), 1),
    ],
)
def test_a_gram_matrix_that_is_none_is_refused(moment: np.ndarray, mean: np.ndarray, rows: int) -> None:
    with pytest.raises(UserError):
        Gram(moment.astype(np.float32), mean, rows)
