"""Join: networks become functions of one module; kernels that they share are there once."""

from typing import Any

from tvm import relax

from tersor.frontend import import_model
from tersor.ir.join import join
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
