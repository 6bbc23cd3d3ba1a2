"""Guard: a library looks at the CPU before its first kernel, and refuses in a sentence what it cannot run on.

    def main(x): kernel(x, ...)   ->   def main(x): check_cpu(); kernel(x, ...)

The check is compiled for the least that an x86-64 has, whatever the kernels are compiled for. It also asks
Linux for the matrix unit's registers. After one success it is a load and a branch.
"""

from typing import Any

from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tersor.ir.join import with_external
from tersor.ir.untyped import relax, tvm
from tersor.targets.cpu.host.isa import Isa

Module = Any
NAME = "check_cpu"

# Where CPUID tells of a feature: leaf, subleaf, register (0 to 3: eax to edx), bit (Intel 64 and IA-32
# Architectures Software Developer's Manual, volume 2; AMD64 Architecture Programmer's Manual, volume 3).
FEATURES = {
    "fma": (1, 0, 2, 12),
    "avx2": (7, 0, 1, 5),
    "avx512f": (7, 0, 1, 16),
    "avx512dq": (7, 0, 1, 17),
    "avx512cd": (7, 0, 1, 28),
    "avx512bw": (7, 0, 1, 30),
    "avx512vl": (7, 0, 1, 31),
    "avx512_vnni": (7, 0, 2, 11),
    "avx512vbmi": (7, 0, 2, 1),
    "avx512_vbmi2": (7, 0, 2, 6),
    "avx512_bitalg": (7, 0, 2, 12),
    "avx512_vpopcntdq": (7, 0, 2, 14),
    "gfni": (7, 0, 2, 8),
    "avx512_fp16": (7, 0, 3, 23),
    "amx_tile": (7, 0, 3, 24),
    "amx_int8": (7, 0, 3, 25),
    "avx_vnni": (7, 1, 0, 4),
}
# State that the operating system must save (XCR0): of the 256-bit, the 512-bit and the tile registers.
YMM_STATE, ZMM_STATE, TILE_STATE = 0x6, 0xE6, 0x60000
# arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA): Linux, Documentation/arch/x86/xstate.rst.
TILE_PERMISSION = (158, 0x1023, 18)

# What TIR has no words for. A leaf that the CPU does not know reads as zero; whether the check has succeeded
# is the library's only state, which any thread may set again.
_INSTRUCTIONS = """
@tersor_checked = internal global i32 0, align 4

define hidden i32 @tersor_cpuid(i32 %leaf, i32 %subleaf, i32 %register) {
  %most = call { i32, i32, i32, i32 } asm sideeffect "cpuid",
    "={ax},={bx},={cx},={dx},{ax},{cx}"(i32 0, i32 0)
  %last = extractvalue { i32, i32, i32, i32 } %most, 0
  %unknown = icmp ugt i32 %leaf, %last
  br i1 %unknown, label %absent, label %present
absent:
  ret i32 0
present:
  %all = call { i32, i32, i32, i32 } asm sideeffect "cpuid",
    "={ax},={bx},={cx},={dx},{ax},{cx}"(i32 %leaf, i32 %subleaf)
  %a = extractvalue { i32, i32, i32, i32 } %all, 0
  %b = extractvalue { i32, i32, i32, i32 } %all, 1
  %c = extractvalue { i32, i32, i32, i32 } %all, 2
  %d = extractvalue { i32, i32, i32, i32 } %all, 3
  %is_a = icmp eq i32 %register, 0
  %is_b = icmp eq i32 %register, 1
  %is_c = icmp eq i32 %register, 2
  %cd = select i1 %is_c, i32 %c, i32 %d
  %bcd = select i1 %is_b, i32 %b, i32 %cd
  %value = select i1 %is_a, i32 %a, i32 %bcd
  ret i32 %value
}

define hidden i32 @tersor_saved_state() {
  %leaf1 = call i32 @tersor_cpuid(i32 1, i32 0, i32 2)
  %osxsave = and i32 %leaf1, 134217728
  %off = icmp eq i32 %osxsave, 0
  br i1 %off, label %absent, label %present
absent:
  ret i32 0
present:
  %state = call { i32, i32 } asm sideeffect "xgetbv", "={ax},={dx},{cx}"(i32 0)
  %low = extractvalue { i32, i32 } %state, 0
  ret i32 %low
}

define hidden i32 @tersor_is_checked() {
  %value = load atomic i32, ptr @tersor_checked monotonic, align 4
  ret i32 %value
}

define hidden void @tersor_set_checked() {
  store atomic i32 1, ptr @tersor_checked monotonic, align 4
  ret void
}
"""


def guard(mod: Module, isa: Isa) -> Module:
    """Let every Relax function of a lowered module begin with the check, if `isa` is more than the least."""
    if not isa.flags:
        return mod
    guarded = tvm.IRModule(dict(mod.functions), attrs=mod.attrs)
    for name, function in mod.functions.items():
        if isinstance(function, relax.Function):
            call = relax.Call(relax.ExternFunc(NAME), [], ty_args=[relax.TupleType([])])
            first = relax.BindingBlock([relax.VarBinding(relax.Var("_", relax.TupleType([])), call)])
            body = relax.SeqExpr([first, *function.body.blocks], function.body.body)
            guarded[name] = relax.Function(
                function.params, body, function.ret_ty, function.is_pure, function.attrs
            )
    return with_external(guarded, [build_check(isa)])


def build_check(isa: Isa) -> Any:
    """Compile the check. TVM compiles all host functions of a module alike, so it has a module of its own."""
    least = tvm.target.Target({"kind": "llvm", "mcpu": "x86-64"})
    return tvm.tirx.build(tvm.IRModule({NAME: check_cpu(isa).with_attr("global_symbol", NAME)}), target=least)


def refusal(isa: str) -> str:
    """Say what to do with a library for an instruction set that the CPU lacks."""
    needs = f"CPUs with {isa}, which this one lacks"
    return f"this library was compiled for {needs}: compile the model again on this machine"


def check_cpu(isa: Isa) -> Any:
    """Build the PrimFunc ``() -> ()`` that raises a RuntimeError on a CPU, or a system, without `isa`."""
    with IRBuilder() as builder, T.prim_func(s_tir=True, private=True):
        T.func_name(NAME)
        T.func_attr({"tirx.is_scheduled": True})
        with (
            T.sblock("root"),
            T.attr(T.int32(0), "pragma_import_llvm", _INSTRUCTIONS),
            T.If(T.call_extern("int32", "tersor_is_checked") == 0),
            T.Then(),
        ):
            _emit_checks(isa)
            T.evaluate(T.call_extern("void", "tersor_set_checked"))
    return builder.get()


def _emit_checks(isa: Isa) -> None:
    masks: dict[tuple[int, int, int], int] = {}
    for flag in isa.flags:
        *place, bit = FEATURES[flag]
        leaf, subleaf, register = place
        masks[leaf, subleaf, register] = masks.get((leaf, subleaf, register), 0) | 1 << bit
    present = [_has(T.call_extern("int32", "tersor_cpuid", *place), mask) for place, mask in masks.items()]
    state = ZMM_STATE if isa.lanes == 16 else YMM_STATE
    needed = state | (TILE_STATE if isa.tiles else 0)
    present.append(_has(T.call_extern("int32", "tersor_saved_state"), needed))
    for condition in present:
        _require(condition, refusal(isa.name))
    if isa.tiles:
        number, *arguments = (T.int64(value) for value in TILE_PERMISSION)
        granted = T.bind(T.call_extern("int64", "syscall", number, *arguments))
        reason = "this system does not let a process use the CPU's tile registers (AMX)"
        _require(granted == 0, f"{reason}: compile the model again with --isa {isa.vector_unit.name}")


def _has(register: Any, mask: int) -> Any:
    signed = mask - (1 << 32) if mask >> 31 else mask
    return T.bind(T.bitwise_and(register, T.int32(signed))) == T.int32(signed)


def _require(condition: Any, message: str) -> None:
    with T.Assert(condition, message):
        T.evaluate(T.int32(0))
