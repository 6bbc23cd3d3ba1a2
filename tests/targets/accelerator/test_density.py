from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tersor.factor import input_size
from tersor.layer import Layer
from tersor.targets.accelerator.density import Densities
from tersor.targets.accelerator.products import Met, products_of

BOTH = ("weight", "input")
small = st.integers(1, 3)
pairs = st.tuples(small, small)


@st.composite
def convolutions(draw: st.DrawFn) -> Layer:
    """Small ones of all strides, dilations, paddings and groups, some of which are mostly padding."""
    sizes: dict[str, Any] = {dim: draw(small) for dim in "NGKCPQRS"}
    padding = (draw(st.integers(0, 2)), draw(st.integers(0, 2)), draw(st.integers(0, 2)), 0)
    layer = Layer("conv", "conv2d", **sizes, stride=draw(pairs), dilation=draw(pairs), padding=padding)
    height, width = least(layer)
    return layer if height > 0 and width > 0 else Layer("conv", "conv2d", **sizes)


def least(layer: Layer) -> tuple[int, int]:
    rows = (layer.P - 1) * layer.stride[0] + (layer.R - 1) * layer.dilation[0] + 1
    columns = (layer.Q - 1) * layer.stride[1] + (layer.S - 1) * layer.dilation[1] + 1
    return rows - layer.padding[0] - layer.padding[2], columns - layer.padding[1] - layer.padding[3]


def masks(layer: Layer, seed: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Of a weight and an input whose channels are of different density; the input has rows to spare."""
    random = np.random.default_rng(seed)
    height, width = input_size(layer)
    height += int(random.integers(layer.stride[0]))
    width += int(random.integers(layer.stride[1]))
    channels = random.random(layer.G * layer.C)
    inputs = random.random((layer.N, layer.G * layer.C, height, width)) < channels[:, None, None]
    return random.random(layer.weight_shape) < random.random(), inputs


def one_by_one(layer: Layer, weights: NDArray[np.bool_], inputs: NDArray[np.bool_]) -> Met:
    """The products, each looked at."""
    met = both = 0
    for n, g, k, c, p, q, r, s in product(*(range(layer.size(dim)) for dim in "NGKCPQRS")):
        row = p * layer.stride[0] + r * layer.dilation[0] - layer.padding[0]
        column = q * layer.stride[1] + s * layer.dilation[1] - layer.padding[1]
        inside = 0 <= row < inputs.shape[2] and 0 <= column < inputs.shape[3]
        if inside and inputs[n, g * layer.C + c, row, column]:
            met += 1
            both += int(weights[g * layer.K + k, c, r, s])
    return Met(met, both)


@given(convolutions(), st.integers(0, 10**6))
@settings(deadline=None, max_examples=150)
def test_products_of_a_convolutions_masks_are_those_counted_one_by_one(layer: Layer, seed: int) -> None:
    weights, inputs = masks(layer, seed)
    expected = one_by_one(layer, weights, inputs)
    assert products_of(layer, weights, inputs) == expected
    densities = Densities.of(layer, weights, inputs)
    assert layer.macs * densities.products(BOTH) == pytest.approx(expected.both)
    assert layer.macs * densities.products(["input"]) == pytest.approx(expected.input)
    assert layer.macs * densities.products(["weight"]) == pytest.approx(weights.mean() * layer.macs)
    assert densities.input == inputs.mean(), "what lies in a memory is the tensor, not what products meet"


@given(small, small, small, small, st.integers(0, 10**6))
@settings(deadline=None)
def test_products_of_a_matrix_products_masks_are_those_of_the_matrices(
    n: int, g: int, k: int, c: int, seed: int
) -> None:
    layer = Layer("fc", "matmul", N=n, G=g, K=k, C=c)
    random = np.random.default_rng(seed)
    left, right = random.random((g, n, c)) < 0.5, random.random((g, c, k)) < 0.5
    met = products_of(layer, right if g > 1 else right[0], left if g > 1 else left[0])
    assert met == Met(k * int(left.sum()), int((left.astype(int) @ right.astype(int)).sum()))


def test_densities_are_fractions() -> None:
    with pytest.raises(ValueError, match=r"between 0 and 1, got 1\.5 of the input"):
        Densities(input=1.5)
    with pytest.raises(ValueError, match="a correlation of densities is not negative, got -1"):
        Densities(correlation=-1)


@pytest.mark.parametrize(
    ("layer", "weights", "inputs", "sentence"),
    [
        (Layer("a", "matmul", K=2, C=3), (3, 3), (1, 3), r"the weight of a is \[3, 2\], got \[3, 3\]"),
        (Layer("a", "matmul", K=2, C=3), (3, 2), (1, 4), r"the input of a is \[1, 3\], got \[1, 4\]"),
        (
            Layer("a", "conv2d", C=2, P=4, Q=4, R=3, S=3, padding=(1, 1, 1, 1)),
            (1, 2, 3, 3),
            (1, 2, 6, 6),
            r"the input of a is \[1, 2, 4, 4\], got \[1, 2, 6, 6\]",
        ),
        (Layer("a", "gather", K=2, C=3), (3, 2), (1,), "looks rows up and multiplies nothing"),
    ],
)
def test_masks_are_of_the_layers_shapes(
    layer: Layer, weights: tuple[int, ...], inputs: tuple[int, ...], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        Densities.of(layer, np.ones(weights, np.bool_), np.ones(inputs, np.bool_))
