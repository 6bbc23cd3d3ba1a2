from dataclasses import replace
from itertools import product
from math import ceil, prod
from pathlib import Path
from random import Random

import pytest

from tersor.hardware import Axis, Compute, Datapath, Hardware, Memory
from tersor.layer import DIMS, Layer
from tersor.targets.accelerator.mapper.steps import least_steps

EDGE = Hardware.load(Path(__file__).parents[4] / "targets" / "machines" / "edge.toml")


def machine(axes: tuple[Axis, ...]) -> Hardware:
    units = prod(axis.size for axis in axes)
    return Hardware(
        "array", 1e9, (Compute("int8", units),), (Memory("dram", 1, 1e9),), axes=axes, datapath=Datapath()
    )


def by_trying_all(layer: Layer, axes: tuple[Axis, ...]) -> int:
    """The least over all factors on all axes, none of which is left out."""
    dims = [dim for dim in DIMS if layer.size(dim) > 1]
    of_axis = [
        [
            chosen
            for chosen in product(*(range(1, axis.size + 1 if dim in axis.unrolls else 2) for dim in dims))
            if prod(chosen) <= axis.size
        ]
        for axis in axes
    ]
    return min(
        prod(
            ceil(layer.size(dim) / prod(used))
            for dim, used in zip(dims, zip(*chosen, strict=True), strict=True)
        )
        for chosen in product(*of_axis)
    )


@pytest.mark.parametrize("seed", range(40))
def test_the_fewest_steps_of_all_factors(seed: int) -> None:
    random = Random(seed)
    layer = Layer("any", "conv2d", **{dim: random.randint(2, 11) for dim in random.sample(DIMS, 3)})
    axes = tuple(
        Axis(name, random.randint(2, 9), "dram", tuple(random.sample(DIMS, 5)))
        for name in ("rows", "columns")[: random.randint(1, 2)]
    )
    assert least_steps(layer, machine(axes)) == by_trying_all(layer, axes)


def test_ragged_tiles_are_rounded_up() -> None:
    assert least_steps(Layer("fc", "matmul", K=1000, C=512), EDGE) == 63 * 32, "62.5 times 16 columns"
    first = Layer("first", "conv2d", K=64, C=3, P=4, Q=4, R=7, S=7)
    assert least_steps(first, EDGE) == 64 * 12, "147 taps take no fewer than 12 turns of 16 rows"


def test_of_three_axes_two_are_taken_for_one() -> None:
    axes = tuple(Axis(name, 3, "dram", (dim,)) for name, dim in zip("abc", "KCP", strict=True))
    layer = Layer("any", "conv2d", K=3, C=3, P=4)
    assert 1 <= least_steps(layer, machine(axes)) <= 2


def test_without_axes_each_product_is_a_step() -> None:
    layer = Layer("any", "conv2d", K=3, C=5)
    assert least_steps(layer, replace(machine(()), axes=())) == layer.macs
