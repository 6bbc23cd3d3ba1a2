"""Join: networks become functions of one module; kernels that they share are there once."""

from typing import Any

import numpy as np

from tersor.frontend import import_model
from tersor.ir.join import external_of, join, renamed, with_external
from tersor.ir.untyped import relax, tvm
from tersor.targets.cpu.host.detect import detect
from tersor.targets.cpu.lowering import lower
from tests.models import mlp


def kernels(mod: Any) -> set[str]:
    return {var.name_hint for var, f in mod.functions.items() if not isinstance(f, relax.Function)}


def test_equal_kernels_are_kept_once_and_others_apart() -> None:
    host = detect("plain")
    one, two = (lower(import_model(mlp(batch)), host.isa, 1).mod for batch in (1, 4))
    again = lower(import_model(mlp(1)), host.isa, 1).mod
    assert kernels(join({"main": one, "main_1": again})) == kernels(one)
    joined = join({"main": two, "main_1": one})
    assert len(kernels(joined)) == len(kernels(one)) + len(kernels(two))
    names = {var.name_hint for var in joined.functions}
    assert names == {"main", "main_1"} | kernels(joined)
    assert joined["main_1"].attrs["global_symbol"] == "main_1"


def test_functions_get_other_names_where_they_are_called_too() -> None:
    x = relax.Var("x", relax.TensorType((2,), "float32"))
    block = relax.BlockBuilder()
    with block.function("inner", [x], private=True):
        block.emit_func_output(block.emit(relax.op.exp(x)))
    (inner,) = block.get().get_global_vars()
    y = relax.Var("y", relax.TensorType((2,), "float32"))
    with block.function("main", [y]):
        block.emit_func_output(block.emit(relax.Call(inner, [y])))
    mod = renamed(block.finalize().with_attr("kept", "yes"), {inner: "outer"})
    assert {var.name_hint for var in mod.functions} == {"main", "outer"}
    assert str(mod["outer"].attrs["global_symbol"]) == "outer"
    assert mod.attrs["kept"] == "yes"
    machine = relax.VirtualMachine(tvm.compile(mod, "llvm"), tvm.cpu())
    np.testing.assert_allclose(machine["main"](tvm.runtime.tensor(np.zeros(2, np.float32))).numpy(), 1.0)


def test_what_other_compilers_made_of_all_modules_is_kept() -> None:
    x = relax.Var("x", relax.TensorType((2,), "float32"))
    libraries = [tvm.tirx.build(tvm.IRModule({}), target="llvm") for _ in range(2)]
    mods = {}
    for name, library in zip(("main", "main_2"), libraries, strict=True):
        block = relax.BlockBuilder()
        with block.function("main", [x]):
            block.emit_func_output(block.emit(relax.op.exp(x)))
        mods[name] = with_external(block.finalize(), [library])
    assert [
        each.same_as(library) for each, library in zip(external_of(join(mods)), libraries, strict=True)
    ] == [
        True,
        True,
    ]
