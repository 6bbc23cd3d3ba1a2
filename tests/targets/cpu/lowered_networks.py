"""Networks lowered for this CPU and run, beside what they compute without kernels."""

from typing import Any

import numpy as np
import tvm
from tvm import relax

from tersor.lowering import build
from tersor.passes.integerize import integerize
from tersor.passes.quantization.quantize import quantize
from tersor.scheme import INT8
from tersor.targets.cpu.host.detect import detect
from tersor.targets.cpu.lowering import Lowered, lower
from tests.relax_modules import Net, he, run, schemes_for, statistics_of

HOST = detect(cores=2)


def execute(lowered: Lowered, *inputs: np.ndarray) -> list[np.ndarray]:
    machine = relax.VirtualMachine(build(lowered, HOST), tvm.cpu())
    result = machine["main"](*(tvm.runtime.tensor(each) for each in inputs))
    return [each.numpy() for each in ([result] if isinstance(result, tvm.runtime.Tensor) else result)]


def integer_form(mod: tvm.IRModule, x: list[np.ndarray]) -> tvm.IRModule:
    return integerize(quantize(mod, schemes_for(mod, INT8), statistics_of(mod, x)))


def conv(net: Net, x: Any, name: str, c: int = 4, k: int = 4, **attributes: Any) -> Any:
    rng = np.random.default_rng(len(name) % 3)
    bias = rng.normal(0, 0.1, k).astype(np.float32)
    return net.conv(x, name, he(rng, k, c, 3, 3), bias, padding=[1, 1], **attributes)


def stored(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


def assert_same(mod: tvm.IRModule, *x: np.ndarray) -> Lowered:
    lowered = lower(mod, HOST.isa, 2)
    for ours, plain in zip(execute(lowered, *x), run(mod, *x), strict=True):
        assert ours.shape == plain.shape
        assert np.abs(ours - plain).max() <= 1e-5 * max(np.abs(plain).max(), 1)
    return lowered
