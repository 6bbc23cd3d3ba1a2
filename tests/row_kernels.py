"""Networks with a kernel for each region of rows, and nothing else changed."""

from typing import Any

import numpy as np
import tvm
from tvm import relax

from tersor.ir.graph import Graph, operator
from tersor.lowering import build
from tersor.targets.cpu.fusion import fuse_rows
from tersor.targets.cpu.host.detect import detect
from tersor.targets.cpu.host.isa import AVX512_VNNI, PLAIN, Isa
from tersor.targets.cpu.lowering import Lowered

HOST = detect(cores=2)
ISAS = [HOST.isa, PLAIN, AVX512_VNNI.described()]


def kernels_of(mod: tvm.IRModule, isa: Isa = HOST.isa) -> list[str]:
    """Name the row kernels that a module gets, in order, and the operators that stay."""
    graph = Graph(fuse_rows(mod, isa))
    named = [(value, operator(value)) for _, value in graph.bindings]
    calls = [value.args[0].name_hint if name == "call_tir" else name for value, name in named]
    return [name for name in calls if name]


def fused(mod: tvm.IRModule, isa: Isa, *inputs: np.ndarray) -> list[np.ndarray]:
    device: Any = tvm.cpu()
    machine = relax.VirtualMachine(build(Lowered(fuse_rows(mod, isa)), HOST), device)
    result = machine["main"](*(tvm.runtime.tensor(each) for each in inputs))
    return [each.numpy() for each in ([result] if isinstance(result, tvm.runtime.Tensor) else result)]
