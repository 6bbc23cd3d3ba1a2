"""A machine without loops: what a program makes, by `tersor.arithmetic`, in the place of the simulator."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from tersor import arithmetic
from tersor.formats.encoded import Encoded
from tersor.hardware import Hardware
from tersor.targets.accelerator.isa import vector
from tersor.targets.accelerator.isa.epilogue import Requantize, Rescale
from tersor.targets.accelerator.isa.program import Program, VectorProgram

Array = np.ndarray


def run(program: Program | VectorProgram, hardware: Hardware, tensors: Any) -> Any:
    """Give the output; its cycles are the layer's products."""
    made = _applied(program, tensors) if isinstance(program, VectorProgram) else _multiplied(program, tensors)
    return SimpleNamespace(output=made, cycles=float(program.layer.macs))


def _applied(program: VectorProgram, tensors: Any) -> Array:
    x = tensors.input
    match program.operator:
        case vector.Add(a, a_zero, b, b_zero, zero_point, bounds):
            return arithmetic.add(x, a, a_zero, tensors.weight, b, b_zero, zero_point, bounds)
        case vector.Recode(multiplier, in_zero_point, zero_point, bounds):
            return arithmetic.rescale(x, multiplier, in_zero_point, zero_point, bounds)
        case vector.AveragePool(multiplier, in_zero_point, zero_point, kernel, stride, bounds):
            return arithmetic.average_pool(x, multiplier, in_zero_point, zero_point, kernel, stride, bounds)
        case vector.MaxPool(kernel, stride, padding):
            return arithmetic.max_pool(x, kernel, stride, padding)


def _multiplied(program: Program, tensors: Any) -> Array:
    sums, layer, epilogue = _sums(program, tensors), program.layer, program.epilogue
    axis = 1 if layer.operator == "conv2d" else sums.ndim - 1
    multiplier = tensors.multiplier[: sums.shape[axis]]
    match epilogue:
        case Requantize(zero_point, bounds, None):
            return arithmetic.requantize(sums, multiplier, zero_point, bounds, axis)
        case Requantize(zero_point, bounds, residual, _):
            assert residual is not None
            other, scale = tensors.residual.reshape(sums.shape), residual.multiplier
            return arithmetic.requantize_add(
                sums, multiplier, other, scale, residual.zero_point, zero_point, bounds, axis
            )
        case Rescale():
            return arithmetic.rescale_accumulator(sums, multiplier, axis)
        case _:
            return sums


def _sums(program: Program, tensors: Any) -> Array:
    layer, x = program.layer, tensors.input
    if not isinstance(tensors.weight, Encoded):
        left = x.reshape(layer.G, layer.N, layer.C)
        right = tensors.weight.reshape(layer.G, layer.C, layer.K)
        return arithmetic.product(left, tensors.zero_point, right, tensors.weight_zero_point)
    weight = tensors.weight.decode()
    assert weight.shape == layer.weight_shape
    if layer.operator == "matmul":
        return arithmetic.matmul(x.reshape(layer.N, layer.C), weight, tensors.bias, tensors.zero_point)
    return arithmetic.conv2d(
        x, weight, tensors.bias, tensors.zero_point, layer.stride, layer.padding, layer.dilation, layer.G
    )
