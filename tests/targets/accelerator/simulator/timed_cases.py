"""Random layers of some size, machines that are about as fast as the layer needs, and mappings on them."""

from dataclasses import replace
from math import prod
from random import Random

import numpy as np

from tersor.hardware import Axis, Compute, Datapath, Hardware, Memory
from tersor.layer import DIMS, Dim, Layer, Operand
from tersor.mapping import Keep, Loop, Mapping
from tersor.scheme import INT8
from tersor.targets.accelerator.model import evaluate
from tersor.targets.accelerator.nest import Nest
from tests.targets.accelerator.tiny_cases import OPERANDS, Case

_SIZES = (4, 6, 8, 12, 14, 16, 24, 28, 32, 48, 56, 64, 96, 128)


def timed_case(seed: int, least: int = 10_000, most: int = 1_000_000, busiest: float = 2.0) -> Case:
    """The case of a seed: two to four memories, each with one place for a tile or two, up to three axes.

    The ports of each memory are busy for between an eighth of `busiest` and `busiest` times the cycles that
    the array takes.
    """
    random = Random(seed)
    layer = _layer(random, least, most)
    machine = _machine(random)
    mapping = _mapping(random, layer, machine)
    return Case(layer, _balanced(random, layer, machine, mapping, busiest), mapping)


def _layer(random: Random, least: int, most: int) -> Layer:
    while True:
        if random.random() < 0.4:
            sizes = [random.choice(_SIZES) for _ in range(3)]
            layer = Layer("fc", "matmul", N=sizes[0], K=sizes[1], C=sizes[2])
        else:
            g = random.choice((1, 1, 1, 16))
            k, c = (random.choice(_SIZES) for _ in range(2)) if g == 1 else (1, 1)
            p, q = random.choice(_SIZES), random.choice(_SIZES)
            r = random.choice((1, 3, 3, 5))
            stride = random.choice((1, 1, 2))
            layer = Layer("conv", "conv2d", 1, g, k, c, p, q, r, r, (stride, stride))
        if least <= layer.macs <= most:
            return layer


def _machine(random: Random) -> Hardware:
    names = ["dram", "buffer", "spad", "latch"][: random.randint(2, 4)]
    memories = [Memory(names[0], 1 << 30, 1e9)]
    for name in names[1:]:
        keeps: tuple[Operand, ...] = tuple(o for o in OPERANDS if random.random() < 0.85) or OPERANDS
        double = random.random() < 0.6
        memories.append(
            Memory(name, 1 << 30, 1e9, keeps=keeps, double_buffered=double, halo_reuse=random.random() < 0.3)
        )
    axes: list[Axis] = []
    for name in ["rows", "columns", "lanes"][: random.randint(0, 3)]:
        multicast = tuple(o for o in ("weight", "input") if random.random() < 0.7)
        axes.append(
            Axis(name, 8, random.choice(names[1:]), multicast=multicast, reduces=random.random() < 0.5)  # type: ignore[arg-type]
        )
    units = prod(axis.size for axis in axes)
    return Hardware(
        "toy", 1e9, (Compute("int8", units),), tuple(memories), axes=tuple(axes), datapath=Datapath()
    )


def _mapping(random: Random, layer: Layer, hardware: Hardware) -> Mapping:
    dims: list[Dim] = [dim for dim in DIMS if layer.size(dim) > 1]
    left = {dim: layer.size(dim) for dim in DIMS}
    loops: list[Loop] = []
    for level in reversed(range(len(hardware.memories))):  # from the innermost, to know what is left
        memory = hardware.memories[level]
        here: list[Loop] = []
        for axis in hardware.axes:
            if axis.inside == memory.name:
                dim = random.choice(dims)
                size = random.choice(_divisors(left[dim], axis.size)[-2:])
                here.append(Loop(dim, size, axis.name))
                left[dim] //= size
        in_time: list[Loop] = []
        for dim in random.sample(dims, len(dims)):
            size = left[dim] if level == 0 else random.choice(_divisors(left[dim], 16))
            in_time.append(Loop(dim, size, memory.name))
            left[dim] //= size
        loops = [*in_time, *here, *loops]
    keep = [Keep(operand, "dram") for operand in OPERANDS]
    for memory in hardware.memories[1:]:
        most = sum(loop.at == memory.name for loop in loops)
        for operand in memory.keeps:
            if random.random() < 0.9:
                keep.append(Keep(operand, memory.name, random.choice((0, 0, random.randint(0, most)))))
    return Mapping(tuple(loops), tuple(keep))


def _divisors(size: int, most: int) -> list[int]:
    return [each for each in range(1, most + 1) if size % each == 0]


def _balanced(random: Random, layer: Layer, hardware: Hardware, mapping: Mapping, busiest: float) -> Hardware:
    found = evaluate(*Nest.of(mapping, layer, hardware), INT8)
    bits = found.traffic.busiest_reads.sum(axis=1) + found.traffic.busiest_writes.sum(axis=1)
    busy = bits[:, 0] / found.latency.compute[0]
    share = [busiest * 2 ** random.uniform(-3, 0) for _ in hardware.memories]
    bandwidths = np.maximum(busy / share, 1.0) * hardware.clock / 8
    memories = tuple(
        replace(memory, bandwidth=float(bandwidth))
        for memory, bandwidth in zip(hardware.memories, bandwidths, strict=True)
    )
    return replace(hardware, memories=memories)
