"""Instruction sets of x86 CPUs as data, and the integer dot product each of them has.

Every dot product has a scalar description of the same meaning on the same layout (``Isa.described``), so that
kernels for one CPU can be tested for equality on any other.
"""

from dataclasses import dataclass, replace
from typing import Any

from tvm.script.ir_builder import tirx as T

Expr = Any  # a TIR expression or buffer; tvm ships no types


# Of a kernel's PrimFunc: its buffers are as small as they have to be (see `schedule.compact`).
KERNEL = "tersor.kernel"
# Of every kernel's PrimFunc: it is scheduled, and nothing is to be fused into it (8: opaque to FuseOps).
KERNEL_ATTRIBUTES = {"tirx.noalias": True, "tirx.is_scheduled": True, "op_pattern": 8, KERNEL: True}


@dataclass(frozen=True)
class Isa:
    """What a kernel needs to know about the vector unit it is written for."""

    name: str
    lanes: int  # 32-bit lanes of a vector register
    registers: int
    group: int  # neighbouring input channels that one integer dot product consumes per lane
    staged: str  # dtype the dot product wants its activations in
    dot: str | None  # "vpmaddwd", "vpdpbusd", or None for the scalar description
    flags: tuple[str, ...]  # CPU flags (as in /proc/cpuinfo) without which it must not run
    features: tuple[str, ...]  # LLVM features
    mcpu: str  # LLVM's name of the CPU; empty for the least that the host's architecture has
    tiles: bool = False  # whether a matrix unit multiplies tiles of uint8 and int8 codes, beside the vectors

    @property
    def vector_unit(self) -> "Isa":
        """The same CPU as kernels without tiles see it."""
        return replace(AVX512_VNNI, dot=self.dot) if self.tiles else self

    def described(self) -> "Isa":
        """Give the same layouts and loops with the intrinsic replaced by its scalar description."""
        return replace(self, dot=None, flags=(), features=(), mcpu="")

    @property
    def packs(self) -> bool:
        """Whether two vectors of int32 become one of codes by saturating packs."""
        return self.dot is not None

    def pack_words(self, low: Expr, high: Expr) -> Expr:
        """Saturate two vectors of int32 to one of int16, in the order in which the unit packs."""
        return T.call_llvm_pure_intrin(f"int16x{self.lanes * 2}", _PACKS[self.lanes][0], low, high)

    def pack_bytes(self, words: Expr) -> Expr:
        """Saturate int16 in the order of `pack_words` to uint8 in the order of the channels.

        The unit packs 128 bits at a time, so each four of the first vector are next to four of the second.
        """
        codes = T.call_llvm_pure_intrin(f"int8x{self.lanes * 4}", _PACKS[self.lanes][1], words, words)
        quads = T.reinterpret(f"int32x{self.lanes}", codes)
        order = [half + quad for half in (0, 1) for quad in range(0, self.lanes, 4)]
        ordered = T.Shuffle([quads], [T.int32(i) for i in order])
        return T.reinterpret(f"uint8x{self.lanes * 2}", ordered)


_PACKS = {
    8: ("llvm.x86.avx2.packssdw", "llvm.x86.avx2.packuswb"),
    16: ("llvm.x86.avx512.packssdw.512", "llvm.x86.avx512.packuswb.512"),
}
_AVX2 = ("avx2", "fma", "bmi", "bmi2", "f16c", "lzcnt", "movbe", "popcnt")
_AVX512 = (*_AVX2, "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd")

AVX512_VNNI = Isa(
    "avx512-vnni", 16, 32, 4, "uint8", "vpdpbusd",
    ("avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd", "avx512_vnni"),
    (*_AVX512, "avx512vnni"), "cascadelake",
)  # fmt: skip
AMX = Isa(
    "amx", 16, 32, 4, "uint8", "vpdpbusd",
    (
        *AVX512_VNNI.flags, "avx512vbmi", "avx512_vbmi2", "avx512_bitalg", "avx512_vpopcntdq", "avx512_fp16",
        "gfni", "amx_tile", "amx_int8",
    ),
    (*AVX512_VNNI.features, "amx-tile", "amx-int8"), "sapphirerapids", tiles=True,
)  # fmt: skip
AVX512 = Isa(
    "avx512", 16, 32, 2, "int16", "vpmaddwd",
    ("avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"), _AVX512, "skylake-avx512",
)  # fmt: skip
AVX_VNNI = Isa(
    "avx-vnni", 8, 16, 4, "uint8", "vpdpbusd", ("avx2", "fma", "avx_vnni"), (*_AVX2, "avxvnni"), "alderlake"
)
AVX2 = Isa("avx2", 8, 16, 2, "int16", "vpmaddwd", ("avx2", "fma"), _AVX2, "haswell")
PLAIN = Isa("plain", 4, 16, 1, "uint8", None, (), (), "")

# From the widest to the one that runs anywhere.
ISAS = (AMX, AVX512_VNNI, AVX512, AVX_VNNI, AVX2, PLAIN)

_INTRINSICS = {
    ("vpmaddwd", 8): "llvm.x86.avx2.pmadd.wd",
    ("vpmaddwd", 16): "llvm.x86.avx512.pmaddw.d.512",
    ("vpdpbusd", 8): "llvm.x86.avx512.vpdpbusd.256",
    ("vpdpbusd", 16): "llvm.x86.avx512.vpdpbusd.512",
}


def dot_broadcast(isa: Isa, acc: Expr, x: Expr, x_at: Expr, w: Expr, w_at: Expr) -> Expr:
    """Accumulate ``acc[lane] += sum_j x[x_at + j] * w[w_at + lane * group + j]`` over the group of j."""
    group, lanes = isa.group, isa.lanes
    match isa.dot:
        case "vpmaddwd":
            pair = T.reinterpret("int32", x[T.ramp(x_at, 1, 2)])
            wide = T.reinterpret(f"int16x{lanes * 2}", T.broadcast(pair, lanes))
            return acc + madd(isa, wide, load_int16(w, w_at, lanes * 2))
        case "vpdpbusd":
            four = T.reinterpret("int32", x[T.ramp(x_at, 1, 4)])
            wide = T.reinterpret(f"uint8x{lanes * 4}", T.broadcast(four, lanes))
            weights = w[T.ramp(w_at, 1, lanes * 4)]
            return _intrinsic(isa, "vpdpbusd", acc, wide, weights)
        case _:
            for j in range(group):
                code = T.broadcast(T.cast(x[x_at + j], "int32"), lanes)
                acc = acc + code * T.cast(w[T.ramp(w_at + j, group, lanes)], f"int32x{lanes}")
            return acc


def madd(isa: Isa, x: Expr, w: Expr) -> Expr:
    """Multiply int16 vectors and add neighbouring products to int32."""
    return _intrinsic(isa, "vpmaddwd", x, w)


def load_int16(w: Expr, at: Expr, count: int) -> Expr:
    """Load `count` int8 codes widened to int16."""
    return T.cast(w[T.ramp(at, 1, count)], f"int16x{count}")


def _intrinsic(isa: Isa, name: str, *arguments: Expr) -> Expr:
    return T.call_llvm_pure_intrin(f"int32x{isa.lanes}", _INTRINSICS[name, isa.lanes], *arguments)
