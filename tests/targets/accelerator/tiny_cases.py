"""Random tiny layers, machines and mappings, ragged tiles and bypassed memories among them."""

from dataclasses import dataclass, replace
from math import ceil, prod
from random import Random
from typing import TypeVar

from tersor.hardware import Axis, Compute, Datapath, Hardware, Memory
from tersor.layer import DIMS, Dim, Layer, Operand
from tersor.mapping import Keep, Loop, Mapping

OPERANDS: tuple[Operand, ...] = ("weight", "input", "output")
AnyCase = TypeVar("AnyCase", bound="Case")


@dataclass(frozen=True)
class Case:
    """One thing to count."""

    layer: Layer
    hardware: Hardware
    mapping: Mapping


def tiny_case(seed: int, most_products: int = 600) -> Case:
    """The case of a seed."""
    random = Random(seed)
    layer = _layer(random, most_products)
    hardware = tiny_machine(random)
    return Case(layer, hardware, tiny_mapping(random, layer, hardware))


def _layer(random: Random, most_products: int) -> Layer:
    while True:
        if random.random() < 0.25:
            sizes = [random.choice((1, 2, 3, 5, 7)) for _ in range(4)]
            layer = Layer("fc", "matmul", N=sizes[0], G=random.choice((1, 1, 2)), K=sizes[1], C=sizes[2])
        else:
            windows = random.random() < 0.5  # of those, mostly loops over the window
            n, g, k, c = (1 if windows else random.choice((1, 1, 2, 3)) for _ in range(4))
            p, q = (random.choice((1, 2, 3, 4, 5, 8)) for _ in range(2))
            r, s = (random.choice((1, 2, 3, 4) if windows else (1, 1, 2, 3)) for _ in range(2))
            c = random.randint(1, 2) if windows else c
            stride = (random.randint(1, 3), random.randint(1, 3))
            dilation = (random.randint(1, 3), random.randint(1, 3))
            layer = Layer("conv", "conv2d", n, g, k, c, p, q, r, s, stride, dilation=dilation)
        if layer.macs <= most_products:
            return layer


def tiny_machine(random: Random) -> Hardware:
    """One to four memories that keep any operands, and up to three axes."""
    names = ["dram", "buffer", "spad", "latch"][: random.randint(1, 4)]
    memories = [Memory(names[0], 1 << 20, 1e9)]
    for name in names[1:]:
        keeps: tuple[Operand, ...] = tuple(o for o in OPERANDS if random.random() < 0.8) or OPERANDS
        memories.append(Memory(name, 1 << 20, 1e9, keeps=keeps, halo_reuse=random.random() < 0.5))
    axes: list[Axis] = []
    for name in ["rows", "columns", "lanes"][: random.randint(0, 3)]:
        multicast = tuple(o for o in ("weight", "input") if random.random() < 0.5)
        axes.append(
            Axis(
                name,
                16,
                random.choice(names),
                multicast=multicast,  # type: ignore[arg-type]
                shares_halo="input" in multicast and random.random() < 0.6,
                reduces=random.random() < 0.5,
            )
        )
    units = prod(axis.size for axis in axes)
    return Hardware(
        "toy", 1e9, (Compute("int8", units),), tuple(memories), axes=tuple(axes), datapath=Datapath()
    )


def tiny_mapping(random: Random, layer: Layer, hardware: Hardware) -> Mapping:
    """Any loops that cover the layer, ragged or not, and tiles anywhere."""
    dims: list[Dim] = [dim for dim in DIMS if layer.size(dim) > 1]
    left = {dim: layer.size(dim) for dim in DIMS}
    loops: list[Loop] = []
    for level in reversed(range(len(hardware.memories))):  # from the innermost, to know what is left
        memory = hardware.memories[level]
        here: list[Loop] = []
        for axis in hardware.axes:
            if axis.inside == memory.name:
                units = axis.size
                for dim in random.sample(dims, min(len(dims), random.randint(0, 2))):
                    size = random.randint(1, min(units, left[dim], 3))
                    here.append(Loop(dim, size, axis.name))
                    left[dim], units = ceil(left[dim] / size), units // size
        in_time: list[Loop] = []
        for dim in random.choices(dims, k=random.randint(0, 4)) if dims else []:
            size = random.randint(1, min(left[dim], 3))
            in_time.append(Loop(dim, size, memory.name))
            left[dim] = ceil(left[dim] / size)
        if level == 0:
            in_time += [Loop(dim, left[dim], memory.name) for dim in random.sample(dims, len(dims))]
        random.shuffle(in_time)
        loops = [*in_time, *here, *loops]
    keep = [Keep(operand, "dram") for operand in OPERANDS]
    for memory in hardware.memories[1:]:
        most = sum(loop.at == memory.name for loop in loops)
        for operand in memory.keeps:
            if random.random() < 0.8:
                keep.append(Keep(operand, memory.name, random.choice((0, 0, random.randint(0, most)))))
    return Mapping(tuple(loops), tuple(keep))


def with_homes(case: AnyCase, random: Random, operands: tuple[Operand, ...] = OPERANDS) -> AnyCase:
    """The case with some of the operands in another memory from the beginning, where one can have them."""
    mapping = case.mapping
    shared = [each.name for each in case.hardware.memories[1:] if case.hardware.instances(each) == 1]
    for operand in operands:
        kept = [name for name in shared if any((k.operand, k.at) == (operand, name) for k in mapping.keep)]
        if kept and random.random() < 0.8:
            mapping = at_home(mapping, case.hardware, operand, random.choice(kept))
    return replace(case, mapping=mapping)


def at_home(mapping: Mapping, hardware: Hardware, operand: Operand, home: str) -> Mapping:
    """The mapping with an operand in its home from the beginning."""
    names = [memory.name for memory in hardware.memories]
    inside = names[names.index(home) + 1 :]
    keep = [k for k in mapping.keep if k.operand != operand or k.at in inside]
    return replace(mapping, keep=(*keep, Keep(operand, home)))
