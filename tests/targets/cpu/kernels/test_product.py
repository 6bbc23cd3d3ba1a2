from typing import Any

import numpy as np
import pytest
import tvm

from tersor import arithmetic as A
from tersor.targets.cpu.host.detect import Host, detect
from tersor.targets.cpu.host.isa import AVX512, AVX512_VNNI, PLAIN, Isa
from tersor.targets.cpu.kernels.epilogue import Activation, Epilogue, Requantize, Rescale
from tersor.targets.cpu.kernels.product import ProductKernel
from tersor.targets.cpu.layout.packing import pack_channels
from tersor.targets.cpu.layout.views import View

Array = np.ndarray
NATIVE = detect().isa
# batch, M, C, K: whole vectors and steps, ragged ones, single rows and columns, fewer entries than cores
SHAPES = [
    ((2, 3), 4, 8, 16),
    ((3,), 5, 7, 9),
    ((1,), 6, 3, 1),
    ((), 3, 5, 33),
    ((2,), 1, 1, 8),
    ((1, 2), 2, 9, 17),
]
EPILOGUES: dict[str, Epilogue] = {
    "codes": Requantize(7), "bounded codes": Requantize(7, bounded=True), "float": Rescale()
}  # fmt: skip


def build(kernels: list[ProductKernel], isa: Isa) -> list[Any]:
    functions = {f"f{i}": k.prim_func().with_attr("global_symbol", f"f{i}") for i, k in enumerate(kernels)}
    library = tvm.tirx.build(tvm.IRModule(functions), target=Host(isa, 2).target)
    return [library[name] for name in functions]


def apply(function: Any, *arrays: Array) -> Array:
    tensors = [tvm.runtime.tensor(np.ascontiguousarray(array)) for array in arrays]
    function(*tensors)
    return tensors[-1].numpy()


def plain_views(batch: tuple[int, ...], m: int, c: int, k: int) -> tuple[View, View, View]:
    return View.of((*batch, m, c)), View.of((*batch, c, k)), View.of((*batch, m, k))


@pytest.mark.parametrize(
    "isa", [NATIVE, PLAIN, AVX512.described(), AVX512_VNNI.described()], ids=lambda i: i.name
)
@pytest.mark.parametrize("name", EPILOGUES)
def test_integer_products_are_their_arithmetic(isa: Isa, name: str) -> None:
    epilogue = EPILOGUES[name]
    kernels = [ProductKernel(isa, 2, *plain_views(*shape), epilogue, z) for shape in SHAPES for z in (0, 131)]
    for kernel, function in zip(kernels, build(kernels, isa), strict=True):
        rng = np.random.default_rng(len(kernel.batch))
        left, right = (rng.integers(0, 256, v.shape).astype(np.uint8) for v in (kernel.left, kernel.right))
        multiplier = rng.uniform(1e-4, 1e-3, kernel.out.shape[-1]).astype(np.float32)
        accumulator = A.product(left, kernel.zero_point, right, 128)
        axis = accumulator.ndim - 1
        if isinstance(epilogue, Rescale):
            expected = A.rescale_accumulator(accumulator, multiplier, axis)
        else:
            expected = A.requantize(accumulator, multiplier, 7, axis=axis)
        packed = pack_channels(isa, kernel.geometry, multiplier)
        np.testing.assert_array_equal(
            apply(function, left, right, packed, np.empty_like(expected)), expected, str(kernel)
        )


def test_float_products_are_products() -> None:
    kernels = [ProductKernel(NATIVE, 2, *plain_views(*shape), Activation()) for shape in SHAPES]
    for kernel, function in zip(kernels, build(kernels, NATIVE), strict=True):
        rng = np.random.default_rng(0)
        left, right = (rng.normal(size=v.shape).astype(np.float32) for v in (kernel.left, kernel.right))
        expected = left @ right
        np.testing.assert_allclose(
            apply(function, left, right, np.empty_like(expected)), expected, rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("integer", [True, False])
def test_operands_and_result_are_read_and_written_through_their_transposes(integer: bool) -> None:
    """Attention's: heads lie between rows in memory; the keys are transposed besides."""
    rows, heads, width = 6, 3, 5
    stored = (1, rows, heads, width)
    left, right = View.of(stored).transposed([0, 2, 1, 3]), View.of(stored).transposed([0, 2, 3, 1])
    out = View.of((1, rows, heads, rows)).untransposed([0, 2, 1, 3])
    epilogue: Epilogue = Rescale() if integer else Activation()
    kernel = ProductKernel(NATIVE, 2, left, right, out, epilogue, 77 if integer else 0)
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 256, stored).astype(np.uint8) for _ in range(2))
    if not integer:
        a, b = a.astype(np.float32), b.astype(np.float32)
    zeros = (77, 128) if integer else (0, 0)
    queries, keys = (x.astype(np.float64) - z for x, z in zip((a, b), zeros, strict=True))
    expected = np.einsum("nqhd,nkhd->nqhk", queries, keys).astype(np.float32)
    ones = [pack_channels(NATIVE, kernel.geometry, np.ones(rows, np.float32))] if integer else []
    [function] = build([kernel], NATIVE)
    np.testing.assert_allclose(apply(function, a, b, *ones, np.empty_like(expected)), expected, rtol=1e-6)


def test_few_entries_are_shared_by_their_rows() -> None:
    kernel = ProductKernel(NATIVE, 4, *plain_views((1,), 1001, 128, 128), Activation())
    assert (kernel.chunks, kernel.rows) == (4, 251)
    assert ProductKernel(NATIVE, 2, *plain_views((4,), 1001, 128, 128), Activation()).chunks == 1


def test_small_products_are_not_shared() -> None:
    kernel = ProductKernel(NATIVE, 4, *plain_views((1,), 10, 8, 8), Activation())
    assert kernel.chunks == 1
    assert "T.parallel" not in kernel.prim_func().script()
