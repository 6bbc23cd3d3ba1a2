from typing import Any

import numpy as np
import pytest
import tvm

from tersor.targets.cpu.host.detect import Host, detect
from tersor.targets.cpu.host.isa import AMX, AVX2, AVX512, AVX512_VNNI, AVX_VNNI, ISAS, PLAIN, Isa
from tersor.targets.cpu.kernels.choice import choose_kernel
from tersor.targets.cpu.kernels.epilogue import Requantize
from tersor.targets.cpu.layout.geometry import Geometry
from tests.quantized_layers import QuantizedLayer

INTEGER = Requantize(3, bounded=True)
POINTWISE = Geometry(1, 4, 4, 16, 32)
DEPTHWISE = Geometry(1, 4, 4, 32, 32, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 32)


def assembly(isa: Isa, geometry: Geometry) -> str:
    """The code that LLVM writes for a kernel; any x86 host can have it written for another."""
    kernel = choose_kernel(isa, 1, geometry, INTEGER, 0)
    g = geometry
    function = kernel.prim_func(
        (g.batch, g.height, g.width, g.channels), (g.batch, g.out_height, g.out_width, g.outputs)
    )
    mod = tvm.IRModule({"f": function.with_attr("global_symbol", "f")})
    library: Any = tvm.tirx.build(mod, target=Host(isa, 1).target)
    return library.inspect_source("asm")


@pytest.mark.parametrize(
    ("isa", "instruction", "register"),
    [(AVX512_VNNI, "vpdpbusd", "zmm"), (AVX512, "vpmaddwd", "zmm"), (AVX_VNNI, "vpdpbusd", "ymm"),
     (AVX2, "vpmaddwd", "ymm")],
)  # fmt: skip
def test_the_unit_that_an_instruction_set_is_for_is_used(isa: Isa, instruction: str, register: str) -> None:
    lines = [line for line in assembly(isa, POINTWISE).splitlines() if instruction in line]
    assert lines
    assert all(f"%{register}" in line for line in lines)


@pytest.mark.parametrize("isa", [AVX512_VNNI, AVX2])
def test_depthwise_multiplies_pairs(isa: Isa) -> None:
    assert "vpmaddwd" in assembly(isa, DEPTHWISE)


@pytest.mark.parametrize("isa", [PLAIN, AVX512_VNNI.described()])
def test_a_description_uses_no_unit_and_no_vex_encoding(isa: Isa) -> None:
    text = assembly(isa, POINTWISE)
    assert "vpdpbusd" not in text
    assert "ymm" not in text
    assert "zmm" not in text


def test_a_description_keeps_the_layouts() -> None:
    for isa in ISAS:
        described = isa.described()
        assert (described.lanes, described.group, described.staged) == (isa.lanes, isa.group, isa.staged)
        assert described.dot is None
        assert described.flags == ()


def test_wider_instruction_sets_come_first_and_the_last_runs_anywhere() -> None:
    assert [isa.name for isa in ISAS] == ["amx", "avx512-vnni", "avx512", "avx-vnni", "avx2", "plain"]
    assert ISAS[-1].flags == ()
    assert set(AVX512.flags) < set(AVX512_VNNI.flags) < set(AMX.flags)


def test_kernels_of_vectors_on_a_cpu_with_tiles_are_those_of_one_without() -> None:
    assert AMX.vector_unit is not AMX
    assert AMX.vector_unit == AVX512_VNNI
    assert AMX.described().vector_unit.dot is None
    assert AVX2.vector_unit is AVX2


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
def test_llvm_knows_every_feature_and_cpu_by_its_name(isa: Isa) -> None:
    target = Host(isa, 1).target
    assert set(isa.features) <= {str(name) for name in tvm.target.codegen.llvm_get_cpu_features(target)}
    known = {str(name) for name in tvm.target.codegen.llvm_get_cpu_archlist(target)}
    assert isa.mcpu in known or not isa.flags


def test_a_dot_product_of_extremes_does_not_saturate() -> None:
    """255 * -127 twice is beyond int16: a unit that saturates there (vpmaddubsw) would be caught."""
    layer = QuantizedLayer(POINTWISE, False, 0, 0, (0, 255), None, True, 1)
    x = np.full((1, 16, 4, 4), 255, np.uint8)
    weight = np.full((32, 16, 1, 1), -127, np.int8)
    numbers = (x, weight, np.zeros(32, np.int32), np.ones(32, np.float32), np.zeros((1, 32, 4, 4), np.uint8))
    layer.__dict__["numbers"] = numbers
    isa = detect().isa
    kernel = layer.kernel(isa)
    mod = tvm.IRModule({"f": layer.prim_func(kernel).with_attr("global_symbol", "f")})
    result = layer.run(tvm.tirx.build(mod, target=Host(isa, 1).target)["f"], kernel)
    np.testing.assert_array_equal(result, np.full((1, 32, 4, 4), -255 * 127 * 16, np.float32))


def packed_by_halves(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """What vpackssdw and vpackuswb do: in each 128 bits the first operand's elements, then the second's."""
    count = 16 // low.dtype.itemsize
    pairs = [each.reshape(-1, count) for each in (low, high)]
    narrow = np.dtype(np.int16 if low.dtype == np.int32 else np.uint8)
    limits = np.iinfo(narrow)
    return np.clip(np.concatenate(pairs, axis=1).ravel(), limits.min, limits.max).astype(narrow)


@pytest.mark.parametrize("isa", [AVX2, AVX512], ids=lambda isa: isa.name)
def test_packed_codes_come_back_in_the_order_of_the_channels(isa: Isa) -> None:
    codes = np.arange(2 * isa.lanes, dtype=np.int32)
    words = packed_by_halves(codes[: isa.lanes], codes[isa.lanes :])
    quads = packed_by_halves(words, words).reshape(-1, 4)
    shuffle: Any = isa.pack_bytes(tvm.tirx.Var("words", f"int16x{2 * isa.lanes}")).args[0]
    order = [int(index) for index in shuffle.indices]
    np.testing.assert_array_equal(quads[order].ravel(), codes)


@pytest.mark.parametrize("isa", [AMX, AVX512_VNNI, AVX512, AVX_VNNI, AVX2], ids=lambda isa: isa.name)
def test_two_vectors_of_sums_are_packed_at_once(isa: Isa) -> None:
    text = assembly(isa, POINTWISE)
    assert "vpackssdw" in text
    assert "vpackuswb" in text
