import os
import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tersor.data import load_samples
from tests.samples import IMAGE, TEXT, VECTOR, only, refused, save_images

# Arrays.


def test_one_array_of_any_name_serves_one_input(tmp_path):
    data = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.savez(tmp_path / "data.npz", anything=data)
    samples = load_samples(tmp_path / "data.npz", VECTOR)
    assert len(samples) == 3
    np.testing.assert_array_equal(np.concatenate(only(samples)), data)
    assert only(samples)[0].shape == (1, 4)


def test_samples_can_be_iterated_again(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).normal(size=(5, 4)))
    samples = load_samples(tmp_path / "data.npz", VECTOR)
    np.testing.assert_array_equal(only(samples), only(samples))
    first = iter(samples)
    next(first)
    assert len(only(samples)) == 5


@given(count=st.integers(0, 12), batch=st.integers(1, 4), skip=st.integers(0, 3), limit=st.integers(1, 12))
def test_batches_hold_the_samples_in_order(tmp_path_factory, count, batch, skip, limit):
    path = tmp_path_factory.mktemp("data") / "data.npy"
    data = np.arange(4 * count, dtype=np.float32).reshape(count, 4)
    np.save(path, data)
    inputs = {"x": ((batch, 4), "float32")}
    expected = data[skip : skip + limit]
    expected = expected[: len(expected) // batch * batch]
    if not len(expected):
        with refused("holds no samples|at least"):
            load_samples(path, inputs, limit=limit, skip=skip)
        return
    samples = load_samples(path, inputs, limit=limit, skip=skip)
    batches = only(samples)
    assert len(samples) == len(batches) == len(expected) // batch
    np.testing.assert_array_equal(np.concatenate(batches), expected)


def test_several_inputs_take_the_arrays_of_their_names(tmp_path):
    ids, mask = np.arange(12).reshape(2, 6), np.ones((2, 6), np.int32)
    np.savez_compressed(tmp_path / "text.npz", mask=mask, ids=ids)
    batches = list(load_samples(tmp_path / "text.npz", TEXT))
    np.testing.assert_array_equal(batches[1]["ids"], ids[1:])
    assert batches[0]["mask"].dtype == np.int64


def test_inputs_without_a_common_batch_are_stored_whole(tmp_path):
    inputs = {"x": ((1, 4), "float32"), "state": ((2, 1, 3), "float32")}
    x, state = np.ones((5, 1, 4)), np.random.default_rng(0).normal(size=(5, 2, 1, 3)).astype(np.float32)
    np.savez(tmp_path / "steps.npz", x=x, state=state)
    batches = list(load_samples(tmp_path / "steps.npz", inputs))
    assert len(batches) == 5
    np.testing.assert_array_equal(batches[3]["state"], state[3])


def test_arrays_may_keep_their_batch_axis_and_be_in_fortran_order(tmp_path):
    data = np.asfortranarray(np.random.default_rng(0).normal(size=(3, 1, 4)).astype(np.float32))
    np.savez(tmp_path / "data.npz", x=data)
    np.testing.assert_array_equal(only(load_samples(tmp_path / "data.npz", VECTOR)), data)


def test_a_folder_of_arrays_is_read_in_the_order_of_names(tmp_path):
    for i, count in enumerate([2, 1, 3]):
        np.save(tmp_path / f"{i}.npy", np.full((count, 4), i, np.float32))
    batches = only(load_samples(tmp_path, VECTOR))
    assert [batch[0, 0] for batch in batches] == [0, 0, 1, 2, 2, 2]


def test_labels_in_the_file_come_with_the_samples(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.ones((4, 4)), labels=np.array([7, 8, 9, 10], np.uint8))
    samples = load_samples(tmp_path / "data.npz", VECTOR, skip=1, limit=2)
    np.testing.assert_array_equal(samples.labels, [8, 9])
    assert load_samples(tmp_path / "data.npz", VECTOR).labels.dtype == np.int64


def test_memory_does_not_grow_with_the_number_of_samples(tmp_path):
    np.savez_compressed(tmp_path / "data.npz", x=np.zeros((500, 100, 100), np.float32))
    samples = load_samples(tmp_path / "data.npz", {"x": ((1, 100, 100), "float32")})
    tracemalloc.start()
    for _ in samples:
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_a_sample_that_is_not_finite_is_named(tmp_path, bad):
    data = np.zeros((5, 4))
    data[3, 2] = bad
    np.savez(tmp_path / "data.npz", x=data)
    with refused(r"sample 3 of '.*data.npz' holds NaN or infinity for the input 'x'"):
        only(load_samples(tmp_path / "data.npz", VECTOR))
    assert len(only(load_samples(tmp_path / "data.npz", VECTOR, limit=3))) == 3


def test_a_wrong_shape_is_shown_beside_the_right_one(tmp_path):
    np.savez(tmp_path / "data.npz", pixels=np.zeros((5, 28, 28)))
    message = r"'pixels' .* has the shape \[5, 28, 28\], but the input 'x' needs \[samples, 3, 8, 8\]"
    with refused(message):
        load_samples(tmp_path / "data.npz", IMAGE)


def test_an_unknown_array_name_is_refused(tmp_path):
    ids = np.zeros((2, 6), np.int64)
    np.savez(tmp_path / "a.npz", ids=ids, masks=ids)
    with refused("no array for the input 'mask'; its arrays are 'ids', 'masks'"):
        load_samples(tmp_path / "a.npz", TEXT)
    np.savez(tmp_path / "b.npz", ids=ids, mask=ids, extra=ids)
    with refused("has an array 'extra', but the model's inputs are 'ids', 'mask'"):
        load_samples(tmp_path / "b.npz", TEXT)


def test_arrays_must_agree_on_the_number_of_samples(tmp_path):
    np.savez(tmp_path / "a.npz", ids=np.zeros((2, 6), int), mask=np.zeros((3, 6), int))
    with refused("different numbers of samples: 'ids' has 2, 'mask' has 3"):
        load_samples(tmp_path / "a.npz", TEXT)


def test_types_that_would_lose_values_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", ids=np.zeros((2, 6)), mask=np.zeros((2, 6), int))
    with refused("'ids' .* holds float64, but the input 'ids' needs int64"):
        load_samples(tmp_path / "a.npz", TEXT)
    np.savez(tmp_path / "b.npz", x=np.full((2, 4), "text"))
    with refused("holds <U4, but the input 'x' needs float32"):
        load_samples(tmp_path / "b.npz", VECTOR)


def test_pickled_objects_are_refused_unread(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    np.save(tmp_path / "a.npy", np.array([Bomb()] * 4).reshape(1, 4), allow_pickle=True)
    with refused("holds object, but the input 'x' needs float32"):
        load_samples(tmp_path / "a.npy", VECTOR)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("labels", "shown"), [(np.zeros(3, int), r"int64 \[3\]"), (np.zeros(4), r"float64 \[4\]")]
)
def test_stored_labels_must_be_one_integer_per_sample(tmp_path, labels, shown):
    np.savez(tmp_path / "a.npz", x=np.ones((4, 4)), labels=labels)
    with refused(f"'labels' in .* is {shown}, but it must be one integer for each of 4 samples"):
        load_samples(tmp_path / "a.npz", VECTOR)


def test_stored_labels_leave_none_for_an_option(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones((4, 4)))
    with refused("--labels is for images"):
        load_samples(tmp_path / "a.npz", VECTOR, labels="filename")


def test_labels_in_some_files_only_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones((1, 4)), labels=np.zeros(1, int))
    np.savez(tmp_path / "b.npz", x=np.ones((1, 4)))
    with refused(r"'.*b.npz' has no array 'labels', but other files have one"):
        load_samples(tmp_path, VECTOR)


@pytest.mark.parametrize("name", ["a.npz", "a.npy"])
def test_truncated_files_are_refused(tmp_path, name):
    data = np.random.default_rng(0).normal(size=(100, 4))
    (np.savez if name.endswith("z") else np.save)(tmp_path / name, data)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with refused("truncated"):
        only(load_samples(tmp_path / name, VECTOR))


def test_a_damaged_member_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((10000, 4), np.float32))
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[150_000] ^= 0xFF
    (tmp_path / "a.npz").write_bytes(data)
    with refused("the array 'x' in .* is truncated or damaged"):
        only(load_samples(tmp_path / "a.npz", VECTOR))


def test_too_few_samples_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 4)))
    with refused("holds 3 samples, but at least 8 are needed"):
        load_samples(tmp_path / "a.npz", {"x": ((8, 4), "float32")})
    np.savez(tmp_path / "b.npz", x=np.zeros((0, 4)))
    with refused("holds no samples"):
        load_samples(tmp_path / "b.npz", VECTOR)
    with refused("the number of samples must be at least 1, got 0"):
        load_samples(tmp_path / "a.npz", VECTOR, limit=0)


# Images.


def test_images_are_read_in_the_order_of_their_names(tmp_path):
    save_images(tmp_path, ["b.png", "a.png", "c/d.png"])
    samples = load_samples(tmp_path, IMAGE)
    expected = [np.asarray(Image.open(tmp_path / name), np.float32) for name in ("a.png", "b.png", "c/d.png")]
    np.testing.assert_array_equal(np.concatenate(only(samples)), np.stack(expected).transpose(0, 3, 1, 2))
    assert len(samples) == 3
    assert samples.labels is None


def test_a_pattern_chooses_images(tmp_path):
    save_images(tmp_path, ["cat_1.png", "cat_2.png", "dog_1.png"])
    assert len(load_samples(tmp_path / "cat_*.png", IMAGE)) == 2
    with refused("there is no data at '.*cow"):
        load_samples(tmp_path / "cow_*.png", IMAGE)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "holds no .jpg, .png, .npz or .npy file"),
        (["notes.txt"], "holds no .jpg"),
        (["a.png", "a.npz"], "keep one kind"),
    ],
)
def test_a_folder_without_one_kind_of_data_is_refused(tmp_path, files, message):
    for name in files:
        (tmp_path / name).write_bytes(b"")
    with refused(re.escape(message)):
        load_samples(tmp_path, IMAGE)


def test_other_paths_are_refused(tmp_path):
    with refused("there is no data at '.*nowhere'"):
        load_samples(tmp_path / "nowhere", IMAGE)
    (tmp_path / "notes.txt").write_text("no data")
    with refused(r"'.*notes.txt' holds no .jpg, .png, .npz or .npy file"):
        load_samples(tmp_path / "notes.txt", IMAGE)
