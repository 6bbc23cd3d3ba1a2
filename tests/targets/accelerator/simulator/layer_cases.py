"""Random tensors of a layer, and what `tersor.arithmetic` makes of them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tersor import arithmetic
from tersor.formats.encoded import Encoded, encode
from tersor.formats.grids import fit
from tersor.formats.matrix import matrix_of, weight_of
from tersor.hardware import Hardware
from tersor.layer import Layer
from tersor.mapping import Mapping
from tersor.scheme import INT8, Scheme
from tersor.sparsity import NM, Block, Sparsity, Unstructured
from tersor.targets.accelerator.isa.epilogue import Epilogue, Sums
from tersor.targets.accelerator.lowering.lower import lower
from tersor.targets.accelerator.simulator.result import Simulated
from tersor.targets.accelerator.simulator.simulation import simulate
from tersor.targets.accelerator.simulator.tensors import Tensors

ZERO_POINT = 7


def stored(values: NDArray[np.float32], layer: Layer, scheme: Scheme) -> Encoded:
    """A weight of a layer, zeros included, as the scheme stores it."""
    axis = 0 if layer.operator == "conv2d" else 1
    matrix = matrix_of(values, axis)
    grid = fit(matrix, scheme.weight, True)
    return encode(grid.nearest(matrix), grid, scheme.sparsity, layer.weight_shape, axis)


def tensors(layer: Layer, seed: int, scheme: Scheme = INT8, zeros: float = 0.0) -> Tensors:
    """Random codes, a part of them zero, weights with the zeros of the scheme's pattern, and a bias."""
    random = np.random.default_rng(seed)
    values = random.normal(size=layer.weight_shape).astype(np.float32)
    input = random.integers(0, 256, input_shape(layer)).astype(np.uint8)
    input[random.random(input.shape) < zeros] = ZERO_POINT
    bias = random.integers(-1000, 1000, layer.G * layer.K).astype(np.int32)
    if layer.operator == "matmul" and layer.G > 1:
        right = random.integers(0, 256, layer.weight_shape).astype(np.uint8)
        return Tensors(input, ZERO_POINT, right, 3, np.zeros_like(bias))
    if scheme.sparsity is not None:
        values = thinned(values, layer, scheme.sparsity)
    return Tensors(input, ZERO_POINT, stored(values, layer, scheme), bias=bias)


def thinned(values: NDArray[np.float32], layer: Layer, sparsity: Sparsity) -> NDArray[np.float32]:
    """Set weights to zero as the pattern says: the smallest of a group, or any."""
    axis = 0 if layer.operator == "conv2d" else 1
    matrix = matrix_of(values, axis).copy()
    if isinstance(sparsity, NM):
        groups = matrix.reshape(-1, sparsity.m)
        smallest = np.argsort(np.abs(groups), axis=1)[:, : sparsity.m - sparsity.n]
        np.put_along_axis(groups, smallest, 0.0, axis=1)
    elif isinstance(sparsity, Block):
        blocks = matrix.reshape(len(matrix) // sparsity.outputs, sparsity.outputs, -1, sparsity.inputs)
        dropped = np.random.default_rng(0).random((blocks.shape[0], blocks.shape[2])) > sparsity.density
        blocks *= np.logical_not(dropped)[:, None, :, None]
    else:
        assert isinstance(sparsity, Unstructured)
        matrix *= np.random.default_rng(0).random(matrix.shape) < sparsity.density
    return weight_of(matrix, layer.weight_shape, axis)


def input_shape(layer: Layer) -> tuple[int, ...]:
    """The shape of the input before it is padded."""
    if layer.operator == "matmul":
        return (layer.N, layer.C) if layer.G == 1 else (layer.G, layer.N, layer.C)
    top, left, bottom, right = layer.padding
    height = (layer.P - 1) * layer.stride[0] + (layer.R - 1) * layer.dilation[0] + 1 - top - bottom
    width = (layer.Q - 1) * layer.stride[1] + (layer.S - 1) * layer.dilation[1] + 1 - left - right
    return layer.N, layer.G * layer.C, height, width


def expected_sums(layer: Layer, given: Tensors) -> NDArray[Any]:
    """The int32 sums with their bias."""
    if not isinstance(given.weight, Encoded):
        return arithmetic.product(given.input, given.zero_point, given.weight, given.weight_zero_point)
    weight, bias = given.weight.decode(), given.bias
    assert bias is not None
    if layer.operator == "matmul":
        return arithmetic.matmul(given.input, weight, bias, given.zero_point)
    return arithmetic.conv2d(
        given.input, weight, bias, given.zero_point, layer.stride, layer.padding, layer.dilation, layer.G
    )


def run(
    layer: Layer,
    mapping: Mapping,
    hardware: Hardware,
    given: Tensors,
    scheme: Scheme = INT8,
    epilogue: Epilogue = Sums(),  # noqa: B008
) -> Simulated:
    """Lower a mapped layer and simulate it."""
    return simulate(lower(layer, scheme, mapping, hardware, epilogue), hardware, given)
