"""Random layers of some size, machines that are about as fast as the layer needs, and mappings on them."""

from dataclasses import dataclass, replace
from math import ceil, prod
from random import Random

from tersor.hardware import Axis, Compute, Datapath, Hardware, Memory
from tersor.hardware.memory import Buses
from tersor.layer import DIMS, Dim, Layer, Operand
from tersor.mapping import Keep, Loop, Mapping
from tersor.scheme import Scheme
from tersor.targets.accelerator.model import evaluate
from tersor.targets.accelerator.nest import Nest
from tests.targets.accelerator.tiny_cases import OPERANDS, Case

_SIZES = (4, 6, 8, 12, 14, 16, 24, 28, 32, 48, 56, 64, 96, 128)


SCHEMES = tuple(
    Scheme.parse(f"w{weight}a{input}") for weight, input in ((2, 8), (4, 8), (8, 8), (4, 4), (8, 16))
)


@dataclass(frozen=True)
class TimedCase(Case):
    """A case, and in what bits it is computed."""

    scheme: Scheme


def timed_case(seed: int, least: int = 10_000, most: int = 1_000_000, busiest: float = 2.0) -> TimedCase:
    """The case of a seed: two to four memories, each with one place for a tile or two, up to three axes.

    The ports of each memory are busy for between an eighth of `busiest` and `busiest` times the cycles that
    the array takes; a memory has one for all, or one for reads and one for writes. So are the buses that a
    third of the memories have. Half of the mappings have loops that do not divide the layer.
    """
    random = Random(seed)
    layer = _layer(random, least, most)
    machine = _machine(random)
    mapping = _mapping(random, layer, machine, ragged=0.3 if random.random() < 0.5 else 0.0)
    scheme = random.choice(SCHEMES)
    return TimedCase(layer, _balanced(random, layer, machine, mapping, scheme, busiest), mapping, scheme)


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
            Axis(
                name,
                8,
                random.choice(names[1:]),
                multicast=multicast,  # type: ignore[arg-type]
                shares_halo="input" in multicast and random.random() < 0.3,
                reduces=random.random() < 0.5,
            )
        )
    units = prod(axis.size for axis in axes)
    return Hardware(
        "toy", 1e9, (Compute("int16", units),), tuple(memories), axes=tuple(axes), datapath=Datapath(word=16)
    )


def _mapping(random: Random, layer: Layer, hardware: Hardware, ragged: float) -> Mapping:
    dims: list[Dim] = [dim for dim in DIMS if layer.size(dim) > 1]
    left = {dim: layer.size(dim) for dim in DIMS}
    loops: list[Loop] = []
    for level in reversed(range(len(hardware.memories))):  # from the innermost, to know what is left
        memory = hardware.memories[level]
        here: list[Loop] = []
        for axis in hardware.axes:
            if axis.inside == memory.name:
                dim = random.choice(dims)
                size = _size(random, left[dim], axis.size, _divisors(left[dim], axis.size)[-2:], ragged)
                here.append(Loop(dim, size, axis.name))
                left[dim] = ceil(left[dim] / size)
        in_time: list[Loop] = []
        for dim in random.sample(dims, len(dims)):
            choices = [left[dim]] if level == 0 else _divisors(left[dim], 16)
            size = _size(random, left[dim], 16, choices, ragged if level else 0.0)
            in_time.append(Loop(dim, size, memory.name))
            left[dim] = ceil(left[dim] / size)
        loops = [*in_time, *here, *loops]
    keep = [Keep(operand, "dram") for operand in OPERANDS]
    for memory in hardware.memories[1:]:
        most = sum(loop.at == memory.name for loop in loops)
        for operand in memory.keeps:
            if random.random() < 0.9:
                keep.append(Keep(operand, memory.name, random.choice((0, 0, random.randint(0, most)))))
    return Mapping(tuple(loops), tuple(keep))


def _size(random: Random, left: int, most: int, choices: list[int], ragged: float) -> int:
    """One of the choices, or any size that is possible where tiles are `ragged`, which they are so often."""
    return random.randint(1, min(left, most)) if random.random() < ragged else random.choice(choices)


def _divisors(size: int, most: int) -> list[int]:
    return [each for each in range(1, most + 1) if size % each == 0]


def _balanced(
    random: Random, layer: Layer, hardware: Hardware, mapping: Mapping, scheme: Scheme, busiest: float
) -> Hardware:
    found = evaluate(*Nest.of(mapping, layer, hardware), scheme)
    moved = found.traffic.busiest_reads[..., 0] / found.latency.compute[0]
    reads, writes = (
        moved.sum(axis=1),
        found.traffic.busiest_writes.sum(axis=(1, 2)) / found.latency.compute[0],
    )
    memories: list[Memory] = []
    for memory, read, written in zip(hardware.memories, reads, writes, strict=True):
        share = busiest * 2 ** random.uniform(-3, 0)
        if random.random() < 0.7:
            bandwidth = max((read + written) / share, 1.0) * hardware.clock / 8
            memories.append(replace(memory, bandwidth=float(bandwidth)))
        else:
            ports = {"read_ports": max(read / share, 0.125), "write_ports": max(written / share, 0.125)}
            memories.append(replace(memory, bandwidth=None, word=1, **ports))
    for level, memory in enumerate(memories):
        if random.random() < 1 / 3:
            memories[level] = replace(memory, buses=_buses(random, moved[level].tolist(), busiest))
    return replace(hardware, memories=tuple(memories))


def _buses(random: Random, moved: list[float], busiest: float) -> Buses:
    """Buses of some operands, as busy as ports are with what they move in a cycle of the array."""
    widths: dict[Operand, float] = {
        operand: max(bits / (busiest * 2 ** random.uniform(-3, 0)), 0.125)
        for operand, bits in zip(OPERANDS, (*moved[:2], moved[2] + moved[3]), strict=True)
        if random.random() < 0.6
    }
    return Buses(**widths)
