"""Borrow: kernels that an executable has are called there; all else a module keeps."""

from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax, tirx

from tersor.frontend import import_model
from tersor.ir.borrow import borrow
from tersor.ir.graph import Graph, expose
from tersor.lowering import finished, generate
from tersor.targets.cpu.host.detect import detect
from tersor.targets.cpu.lowering import lower
from tests.models import conv_net, mlp, random_inputs
from tests.relax_modules import Net, he, samples

HOST = detect(cores=1)


def lowered(mod: Any) -> tvm.IRModule:
    return finished(lower(mod, HOST.isa, 1), HOST)


def kernels(mod: tvm.IRModule) -> set[str]:
    return {var.name_hint for var, f in mod.functions.items() if isinstance(f, tirx.PrimFunc)}


def outputs(executable: Any, x: np.ndarray) -> list[np.ndarray]:
    result = relax.VirtualMachine(executable, tvm.cpu())["main"](tvm.runtime.tensor(x))
    return [each.numpy() for each in ([result] if isinstance(result, tvm.runtime.Tensor) else result)]


def dense(channels: int) -> tvm.IRModule:
    """[2, channels] times a weight [channels, 128]: kernels of one name, whatever the channels."""
    net = Net((2, channels))
    return net.finish(net.dense(net.inputs[0], "fc", he(np.random.default_rng(0), channels, 128)))


def inside(mod: Any) -> list[Any]:
    """Give the results of the layers before the last."""
    return [var for var, value in Graph(mod).bindings if isinstance(value, relax.Call)][:-1]


@pytest.mark.parametrize("source", [mlp(), conv_net()], ids=["mlp", "conv_net"])
def test_a_module_with_borrowed_kernels_computes_the_same(source: Any) -> None:
    network = import_model(source)
    (x,) = random_inputs(source, 0).values()
    lender = lowered(network)
    library = generate(lender, HOST)
    exposed = lowered(expose(network, inside(network)))
    borrowing = borrow(exposed, lender, library)
    assert len(kernels(borrowing)) < len(kernels(exposed))
    ours, plain = outputs(generate(borrowing, HOST), x), outputs(generate(exposed, HOST), x)
    assert [each.tobytes() for each in ours] == [each.tobytes() for each in plain]


def test_of_what_is_the_same_one_kernel_is_left() -> None:
    lender = lowered(import_model(mlp()))
    library = generate(lender, HOST)
    again = borrow(lowered(import_model(mlp())), lender, library)
    assert len(kernels(again)) == 1 < len(kernels(lender))
    (x,) = random_inputs(mlp(), 0).values()
    assert outputs(generate(again, HOST), x)[0].tobytes() == outputs(library, x)[0].tobytes()


def test_another_kernel_of_the_same_name_is_not_mistaken() -> None:
    lender, other = lowered(dense(64)), lowered(dense(96))
    assert kernels(lender) == kernels(other)
    borrowing = borrow(other, lender, generate(lender, HOST))
    assert not kernels(lender) & kernels(borrowing)
    (x,) = samples(2, 96, count=1)
    ours, plain = outputs(generate(borrowing, HOST), x), outputs(generate(other, HOST), x)
    assert ours[0].tobytes() == plain[0].tobytes()
