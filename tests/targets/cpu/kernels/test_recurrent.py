import numpy as np
import pytest
import tvm

from tersor.ir.recurrent import Gru, Lstm, cell_function
from tersor.targets.cpu.host.detect import detect
from tersor.targets.cpu.host.isa import AVX2, AVX512_VNNI, PLAIN
from tersor.targets.cpu.kernels.recurrent import (
    RecurrentOrder,
    has_kernel,
    kernel_name,
    recurrent_kernel,
)
from tests.ir.test_recurrent import BATCH, CELLS, STEPS, arguments

HOST = detect()


def run(function, cell, given, target):
    """Compile a PrimFunc and run it on arrays; give its results."""
    built = tvm.compile(tvm.IRModule({"main": function.with_attr("global_symbol", "main")}), target)
    results = [np.zeros((STEPS, BATCH, cell.hidden), np.float32)]
    if isinstance(cell, Lstm):
        results.append(np.zeros((BATCH, cell.hidden), np.float32))
    tensors = [tvm.runtime.tensor(each) for each in [*given.values(), *results]]
    built["main"](*tensors)
    return [tensor.numpy() for tensor in tensors[len(given) :]]


@pytest.mark.parametrize(
    "isa", [AVX2.described(), AVX512_VNNI.described(), HOST.isa], ids=lambda isa: isa.name
)
@pytest.mark.parametrize("kind", CELLS)
def test_a_kernel_computes_what_the_definition_computes(kind, isa):
    cell = kind(48, reverse=True, weight="int8", state="int8")
    assert has_kernel(isa, cell)
    given = arguments(cell)
    packed = given | {"weight": RecurrentOrder(isa)(given["weight"])}
    target = HOST.target if isa is HOST.isa else tvm.target.Target({"kind": "llvm"})
    got = run(recurrent_kernel(isa, cell, STEPS, BATCH), cell, packed, target)
    expected = run(cell_function(cell, STEPS, BATCH), cell, given, target)
    for result, definition in zip(got, expected, strict=True):
        np.testing.assert_array_equal(result, definition)


def test_what_has_no_kernel_runs_its_definition():
    assert not has_kernel(PLAIN, Lstm(48, weight="int8", state="int8"))
    assert not has_kernel(AVX2, Lstm(20, weight="int8", state="int8"))
    assert not has_kernel(AVX2, Lstm(48, weight="int8"))
    assert kernel_name(AVX2, Lstm(48)) == "lstm fp32 vectorised"
    assert kernel_name(AVX2, Gru(48, weight="int8")) == "gru w8a32 vectorised"
    assert kernel_name(AVX2, Gru(48, weight="int8", state="int8")) == "gru int8 avx2"
