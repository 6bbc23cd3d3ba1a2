"""Buckets: arrays go into the smallest that holds them, and what comes out is as long as what went in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersor.buckets import Bucket, Buckets, Dim, Padding, TensorSpec, entries, find_dims
from tersor.error import UserError


def bucket(*shapes: tuple[int, ...], outputs: tuple[tuple[int, ...], ...] | None = None) -> Bucket:
    """A network that gives its inputs back, unless told the shapes of its outputs."""
    inputs = tuple(TensorSpec(f"x{i}", shape, "float32") for i, shape in enumerate(shapes))
    given = shapes if outputs is None else outputs
    return Bucket("", inputs, tuple(TensorSpec(f"y{i}", shape, "float32") for i, shape in enumerate(given)))


def buckets(*each: Bucket, padding: tuple[Padding, ...] = (), batched: tuple[str, ...] = ()) -> Buckets:
    named = entries(each)
    found = Buckets(named, find_dims(named, batched)[0])
    return found.padded_by([(p, "") for p in padding]) if padding else found


def grid(batches: list[int], lengths: list[int]) -> Buckets:
    """A bucket [batch, length, 3] for each pair, sorted as the compiler sorts them."""
    shapes = sorted(((b, n, 3) for b in batches for n in lengths), key=lambda s: (np.prod(s), s))
    found = buckets(*(bucket(shape) for shape in shapes))
    return found.padded_by([("rows" if ("x0", 0) in dim.inputs else "zeros", "") for dim in found.dims])


sizes = st.lists(st.integers(1, 40), min_size=1, max_size=3, unique=True)


@given(sizes, sizes, st.integers(1, 100), st.integers(1, 40), st.integers(0, 9))
def test_an_identity_gives_everything_back(
    batches: list[int], lengths: list[int], rows: int, length: int, seed: int
) -> None:
    shapes = grid(batches, lengths)
    free = {axis for dim in shapes.dims for _, axis in dim.inputs}
    shape = (rows if 0 in free else batches[0], min(length, max(lengths)) if 1 in free else lengths[0], 3)
    array = np.random.default_rng(seed).normal(size=shape)
    placed = shapes.place({"x0": array})
    assert all(each.arrays["x0"].shape == shapes.shapes[each.index].inputs[0].shape for each in placed)
    (result,) = shapes.join([shapes.crop([each.arrays["x0"]], each) for each in placed])
    np.testing.assert_array_equal(result, array)


@given(sizes, st.integers(1, 40))
def test_the_smallest_bucket_that_holds_the_arrays_is_taken(lengths: list[int], length: int) -> None:
    lengths = sorted({*lengths, 40})
    shapes = buckets(*(bucket((1, n)) for n in lengths), padding=("zeros",) if len(lengths) > 1 else ())
    length = length if len(lengths) > 1 else 40
    (placed,) = shapes.place({"x0": np.ones((1, length))})
    assert lengths[placed.index] == min(n for n in lengths if n >= length)


def test_sequences_are_padded_with_zeros_and_batches_with_their_last_row() -> None:
    lengths = buckets(bucket((1, 2)), bucket((1, 4)), padding=("zeros",))
    (placed,) = lengths.place({"x0": np.array([[1, 2, 3]])})
    assert placed.arrays["x0"].tolist() == [[1, 2, 3, 0]]
    batches = buckets(bucket((1, 2)), bucket((4, 2)), padding=("rows",))
    (placed,) = batches.place({"x0": np.array([[1, 2], [3, 4]])})
    assert placed.arrays["x0"].tolist() == [[1, 2], [3, 4], [3, 4], [3, 4]]


def test_a_batch_larger_than_the_largest_is_cut() -> None:
    shapes = buckets(bucket((1, 2)), bucket((4, 2)), bucket((8, 2)), padding=("rows",))
    placed = shapes.place({"x0": np.zeros((19, 2))})
    assert [shapes.shapes[each.index].entry for each in placed] == ["main", "main", "main_4"]
    assert [each.sizes for each in placed] == [(8,), (8,), (3,)]


def test_the_only_bucket_of_a_batch_takes_any_batch() -> None:
    shapes = buckets(bucket((4, 4)), batched=("x0",), padding=("rows",))
    assert shapes.dims == (Dim((4,), (("x0", 0),), (("y0", 0),), "rows"),)
    assert [each.sizes for each in shapes.place({"x0": np.zeros((6, 4))})] == [(4,), (2,)]


def test_axes_that_grow_together_are_one_dim() -> None:
    shapes = buckets(bucket((1, 8), (1, 1, 8, 8), (1, 5)), bucket((1, 16), (1, 1, 16, 16), (1, 5)))
    axes = ("x0", 1), ("x1", 2), ("x1", 3)
    assert [dim.inputs for dim in shapes.dims] == [axes]
    assert shapes.dims[0].outputs == tuple((name.replace("x", "y"), axis) for name, axis in axes)


def test_a_batch_in_the_second_axis_of_a_state_is_the_batch() -> None:
    shapes = buckets(bucket((1, 8), (2, 1, 5)), bucket((4, 8), (2, 4, 5)), padding=("rows",))
    assert shapes.dims[0].inputs == (("x0", 0), ("x1", 1))
    parts = shapes.place({"x0": np.zeros((6, 8)), "x1": np.arange(60).reshape(2, 6, 5)})
    joined = shapes.join([shapes.crop(list(part.arrays.values()), part) for part in parts])
    np.testing.assert_array_equal(joined[1], np.arange(60).reshape(2, 6, 5))


def test_a_leading_axis_as_long_as_another_of_its_tensor_is_apart() -> None:
    shapes = buckets(bucket((1, 1, 3)), bucket((8, 8, 3)))
    assert [dim.inputs for dim in shapes.dims] == [(("x0", 0),), (("x0", 1),)]
    assert [dim.outputs for dim in shapes.dims] == [(("y0", 0),), (("y0", 1),)]


def test_entries_are_named_after_what_differs() -> None:
    shapes = (bucket((1, 32)), bucket((4, 32)), bucket((1, 256)), bucket((4, 256)))
    assert [each.entry for each in entries(shapes)] == ["main_1x32", "main_4x32", "main_1x256", "main"]


def test_outputs_of_other_lengths_forbid_padding() -> None:
    short, long = bucket((1, 8), outputs=((1, 4),)), bucket((1, 16), outputs=((1, 8),))
    assert find_dims((short, long))[1] == "the output 'y0' has sizes of its own, 4 or 8"


PADDED = buckets(bucket((1, 8), (1, 8)), bucket((1, 16), (1, 16)), padding=("zeros",))
EXACT = buckets(bucket((1, 8), (1, 8)), bucket((1, 16), (1, 16))).padded_by([("exact", "it sums them")])
LOPSIDED = buckets(bucket((8, 1, 2)), bucket((2, 16, 2)), padding=("rows", "zeros"))


@pytest.mark.parametrize(
    ("shapes", "arrays", "said"),
    [
        (PADDED, {"x0": (1, 8)}, r"'x1' is missing: give it as an array of \[1, up to 16\]"),
        (
            PADDED,
            {"x0": (1, 17), "x1": (1, 17)},
            r"'x0' has shape \[1, up to 16\], got an array of \[1, 17\]",
        ),
        (PADDED, {"x0": (2, 8), "x1": (2, 8)}, r"has shape \[1, up to 16\], got an array of \[2, 8\]"),
        (PADDED, {"x0": (8,), "x1": (8,)}, r"got an array of \[8\]"),
        (PADDED, {"x0": (1, 0), "x1": (1, 0)}, r"got an array of \[1, 0\]"),
        (PADDED, {"x0": (1, 8), "x1": (1, 9)}, "'x0' has 8, 'x1' has 9"),
        (EXACT, {"x0": (1, 9), "x1": (1, 9)}, r"shape \[1, 8 or 16\].* are not padded: it sums them"),
    ],
)
def test_what_no_bucket_holds_is_said_in_words(
    shapes: Buckets, arrays: dict[str, tuple[int, ...]], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        shapes.place({name: np.zeros(shape) for name, shape in arrays.items()})


def test_lists_are_arrays_and_other_kinds_of_numbers_are_refused() -> None:
    inputs = Buckets.single({"x": ((1, 2), "float32"), "ids": ((1, 2), "int64")})
    (placed,) = inputs.place({"x": [[1.5, 2]], "ids": [[3, 4]]})  # pyright: ignore[reportArgumentType]
    assert [array.tolist() for array in placed.arrays.values()] == [[[1.5, 2]], [[3, 4]]]
    for ids, held in (([[0.5, 1]], "float64"), ([["a", "b"]], "<U1")):
        with pytest.raises(UserError, match=f"'ids' holds {held}, but the network takes int64"):
            inputs.place({"x": np.zeros((1, 2)), "ids": np.array(ids)})


def test_rows_are_cut_to_the_bucket_that_is_long_enough() -> None:
    (first, *_), rest = LOPSIDED.place({"x0": np.zeros((3, 9, 2))}), 1
    assert (LOPSIDED.shapes[first.index].inputs[0].shape, first.sizes, rest) == ((2, 16, 2), (2, 9), 1)
