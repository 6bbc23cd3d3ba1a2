"""Spaces small enough to try every mapping, and what is the best of them, found without the mapper."""

from collections.abc import Iterator
from itertools import combinations, permutations, product
from math import ceil, inf
from random import Random

import numpy as np

from tersor.hardware import Axis, Compute, Datapath, Hardware, Memory
from tersor.layer import Dim, Layer, Operand
from tersor.mapping import Keep
from tersor.scheme import INT8
from tersor.targets.accelerator.legality import fits
from tersor.targets.accelerator.model import evaluate
from tersor.targets.accelerator.nest import Nest

OPERANDS: tuple[Operand, ...] = ("weight", "input", "output")


def small_space(seed: int) -> tuple[Layer, Hardware]:
    """A layer of two or three loops, no two of which leave the same operand in place, and a small machine."""
    random = Random(seed)
    groups = random.sample(["NPQ", "K", "CRS", "G"], 2 if seed % 3 else 3)
    sizes = {random.choice(group): random.randint(2, 5 if len(groups) == 2 else 3) for group in groups}
    layer = Layer("small", "conv2d", **sizes, stride=(random.randint(1, 2),) * 2)  # type: ignore[arg-type]
    few = 3 if len(groups) == 2 else 1
    keeps = tuple(sorted(random.sample(OPERANDS, random.randint(1, few)), key=OPERANDS.index))
    halo = random.random() < 0.5
    memories = (
        Memory("dram", 1 << 20, random.choice((1e9, 4e9)), 100.0, "assumed"),
        Memory(
            "buffer",
            random.choice((16, 32, 64, 1024)),
            random.choice((2e9, 8e9)),
            random.choice((1.0, 10.0)),
            "assumed",
            double_buffered=random.random() < 0.5,
            halo_reuse=halo,
            keeps=keeps,
        ),
    )
    axes = tuple(
        Axis(
            name,
            random.randint(2, 4),
            random.choice(("dram", "buffer")),
            multicast=tuple(o for o in OPERANDS[:2] if random.random() < 0.5),
            reduces=random.random() < 0.5,
        )
        for name in ["rows", "columns"][: random.randint(0, 2 if len(groups) == 2 else 1)]
    )
    units = 1
    for axis in axes:
        units *= axis.size
    compute = (Compute("int8", units, energy_per_mac=0.5, source="assumed"),)
    return layer, Hardware("small", 1e9, compute, memories, axes=axes, datapath=Datapath())


def best_of_all(
    layer: Layer, hardware: Hardware, on_chip: tuple[Operand, ...] = ()
) -> tuple[float, float, float]:
    """The least cycles, pJ and their product of all orders, tiles (of any size) and places of operands.

    Those `on_chip` lie whole in the buffer.
    """
    best = [inf, inf, inf]
    dims: list[Dim] = [dim for dim in "NGKCPQRS" if layer.size(dim) > 1]  # type: ignore[misc]
    places = [
        [memory.name, *(axis.name for axis in hardware.axes if axis.inside == memory.name)]
        for memory in hardware.memories
    ]
    inner = [place for each in places for place in each][1:]
    sizes = _all_sizes(layer, hardware, dims, inner)
    for orders in product(permutations(dims), repeat=2):
        loops: list[tuple[Dim, str]] = [
            (dim, place)
            for order, (memory, *axes) in zip(orders, places, strict=True)
            for place in (memory, *axes)
            for dim in (order if place == memory else dims)
        ]
        columns = np.array([sizes[loop] for loop in loops], np.float64)
        for keep in _all_keeps(hardware, len(dims), on_chip):
            nest = Nest(layer, hardware, tuple(loops), keep)
            found = evaluate(nest, columns, INT8)
            fit = fits(nest, found.needed)
            if fit.any():
                figures = (found.cycles, found.energy, found.cycles * found.energy)
                best = [min(a, float(b[fit].min())) for a, b in zip(best, figures, strict=True)]
    return best[0], best[1], best[2]


def _all_sizes(
    layer: Layer, hardware: Hardware, dims: list[Dim], inner: list[str]
) -> dict[tuple[Dim, str], list[int]]:
    most = {axis.name: axis.size for axis in hardware.axes}
    columns: dict[tuple[Dim, str], list[int]] = {(dim, at): [] for dim in dims for at in ["dram", *inner]}
    ranges = [range(1, min(layer.size(dim), most.get(at, 99)) + 1) for dim in dims for at in inner]
    for chosen in product(*ranges):
        sizes = dict(zip(product(dims, inner), chosen, strict=True))
        used = {at: 1 for at in most}
        for (_, at), size in sizes.items():
            if at in used:
                used[at] *= size
        covered = {dim: 1 for dim in dims}
        for (dim, _), size in sizes.items():
            covered[dim] *= size
        enough = all(covered[dim] < 2 * layer.size(dim) for dim in dims)
        if enough and all(used[at] <= most[at] for at in most):
            for place, size in sizes.items():
                columns[place].append(size)
            for dim in dims:
                columns[dim, "dram"].append(ceil(layer.size(dim) / covered[dim]))
    return columns


def _all_keeps(hardware: Hardware, loops: int, on_chip: tuple[Operand, ...]) -> Iterator[tuple[Keep, ...]]:
    buffer: list[Operand] = [operand for operand in hardware.memories[1].keeps if operand not in on_chip]
    outermost = tuple(Keep(operand, "buffer" if operand in on_chip else "dram") for operand in OPERANDS)
    for count in range(len(buffer) + 1):
        for kept in combinations(buffer, count):
            for inside in product(range(loops + 1), repeat=count):
                places = zip(kept, inside, strict=True)
                yield (*outermost, *(Keep(operand, "buffer", place) for operand, place in places))
