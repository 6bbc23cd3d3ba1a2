from collections.abc import Sequence

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm.script.ir_builder import tirx as T

from tersor.targets.cpu.host.detect import detect
from tersor.targets.cpu.host.isa import AVX512_VNNI, PLAIN, Isa
from tersor.targets.cpu.kernels.rows import Load, Map, Program, Reduce, Value, loads_of, row_kernel

HOST = detect(cores=2)
ISAS = [HOST.isa, PLAIN, AVX512_VNNI.described()]
isas = pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)


def compute(isa: Isa, program: Program, *arrays: np.ndarray) -> list[np.ndarray]:
    function = row_kernel(isa, program).with_attr("global_symbol", "rows")
    compiled = tvm.tirx.build(tvm.IRModule({"rows": function}), target=HOST.target)["rows"]
    results = [np.zeros(program.out_shape(y), y.dtype) for y in program.outputs]
    tensors = [tvm.runtime.tensor(each) for each in (*arrays, *results)]
    compiled(*tensors)
    return [tensor.numpy() for tensor in tensors[len(arrays) :]]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def floats(*shapes: tuple[int, ...]) -> list[Load]:
    return loads_of([(shape, "float32") for shape in shapes])


def centred(x: Value, columns: int) -> Value:
    return Map(lambda x, total: x - total * T.float32(1 / columns), (x, Reduce("sum", x)))


@isas
@settings(max_examples=6, deadline=None)
@given(rows=st.integers(1, 5), columns=st.integers(1, 150))
def test_what_a_reduction_finds_meets_every_column_again(isa: Isa, rows: int, columns: int) -> None:
    (x,) = floats((rows, columns))
    array = normal(rows, columns)
    (got,) = compute(isa, Program((rows, columns), (centred(x, columns),)), array)
    np.testing.assert_allclose(got, array - array.mean(-1, keepdims=True), atol=2e-6)


@isas
@pytest.mark.parametrize("columns", [1, 3, 8, 31, 64, 77])
def test_reductions_are_numpys(isa: Isa, columns: int) -> None:
    (x,) = floats((2, 3, columns))
    array = normal(2, 3, columns) - 2
    outputs = tuple(Reduce(kind, x) for kind in ("sum", "max", "absmax"))
    total, most, largest = compute(isa, Program((2, 3, columns), outputs), array)
    np.testing.assert_allclose(total, array.sum(-1, keepdims=True), rtol=1e-5)
    np.testing.assert_array_equal(most, array.max(-1, keepdims=True))
    np.testing.assert_array_equal(largest, np.abs(array).max(-1, keepdims=True))


def broadcastable(shape: Sequence[int]) -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes that numpy reads at every element of `shape`."""
    axes = st.tuples(*(st.sampled_from((1, extent)) for extent in shape))
    return st.integers(0, len(shape) - 1).flatmap(lambda dropped: axes.map(lambda each: each[dropped:]))


@settings(max_examples=15, deadline=None)
@given(data=st.data(), shape=st.tuples(*[st.integers(1, 4)] * 2, st.integers(1, 40)))
def test_operands_spread_as_in_numpy(data: st.DataObject, shape: tuple[int, ...]) -> None:
    first, second = (data.draw(broadcastable(shape)) for _ in range(2))
    x, a, b = floats(shape, first, second)
    arrays = [normal(*each, seed=i) for i, each in enumerate((shape, first, second))]
    (got,) = compute(HOST.isa, Program(shape, (Map(lambda x, a, b: (x - a) * b, (x, a, b)),)), *arrays)
    np.testing.assert_allclose(got, (arrays[0] - arrays[1]) * arrays[2], rtol=1e-6)


def test_several_outputs_of_a_row_and_of_its_columns_are_written_in_one_kernel() -> None:
    x, scale = floats((4, 20), (20,))
    middle = centred(x, 20)
    scaled, largest = Map(lambda x, s: x * s, (middle, scale)), Reduce("absmax", middle)
    arrays = normal(4, 20), normal(20, seed=1)
    got = compute(HOST.isa, Program((4, 20), (scaled, largest, middle)), *arrays)
    expected = arrays[0] - arrays[0].mean(-1, keepdims=True)
    wanted = expected * arrays[1], np.abs(expected).max(-1, keepdims=True), expected
    for result, right in zip(got, wanted, strict=True):
        np.testing.assert_allclose(result, right, atol=2e-6)


@pytest.mark.parametrize("shape", [(7, 45001), (90003, 5), (3, 1, 90112)])
def test_threads_share_the_rows(shape: tuple[int, ...]) -> None:
    (x,) = floats(shape)
    array = normal(*shape)
    program = Program(shape, (centred(x, shape[-1]),))
    assert "T.parallel" in row_kernel(HOST.isa, program).script()
    (summed,) = compute(HOST.isa, program, array)
    np.testing.assert_allclose(summed, array - array.mean(-1, keepdims=True), atol=1e-5)
    (doubled,) = compute(HOST.isa, Program(shape, (Map(lambda x: x + x, (x,)),)), array)
    np.testing.assert_array_equal(doubled, 2 * array)


def test_a_tensor_without_rows_of_its_own_is_shared_all_the_same() -> None:
    (x,) = floats((1, 1 << 18))
    (row,) = floats((1, 1 << 18))
    elementwise = Program((1, 1 << 18), (Map(lambda x: -x, (x,)),))
    reducing = Program((1, 1 << 18), (Reduce("sum", row),))
    assert "T.parallel" in row_kernel(HOST.isa, elementwise).script()
    assert "T.parallel" not in row_kernel(HOST.isa, reducing).script()
