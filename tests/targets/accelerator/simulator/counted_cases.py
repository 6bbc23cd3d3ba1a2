"""The random cases of the counter with random bits, words, representations and energies."""

from dataclasses import dataclass, replace
from random import Random

import numpy as np

from tersor.hardware import Compute, Datapath, Hardware, Memory
from tersor.hardware.memory import Formats
from tersor.hardware.representation import Representation
from tersor.layer import Layer
from tersor.scheme import Scheme
from tersor.sparsity import NM
from tersor.targets.accelerator.simulator.tensors import Tensors
from tests.targets.accelerator.simulator.layer_cases import ZERO_POINT, stored, tensors, thinned
from tests.targets.accelerator.tiny_cases import Case, tiny_case, tiny_mapping

SOURCE = "drawn"


@dataclass(frozen=True)
class CountedCase:
    """A layer, a machine and a mapping, and what elements are: weights of 2 to 16 bits, inputs of 4 to 16."""

    case: Case
    scheme: Scheme

    def tensors(self, seed: int) -> Tensors:
        """Numbers none of which is zero but for those that the pattern drops.

        Codes have up to 8 bits, whatever the scheme's elements take.
        """
        layer = self.case.layer
        random = np.random.default_rng(seed)
        given = tensors(layer, seed)
        input = np.where(given.input == ZERO_POINT, ZERO_POINT + 1, given.input)
        if layer.operator == "matmul" and layer.G > 1:
            assert isinstance(given.weight, np.ndarray)
            other = np.where(given.weight == given.weight_zero_point, 0, given.weight)
            return replace(given, input=input, weight=other)
        bits = min(8, self.scheme.weight_bits)
        most = (1 << bits - 1) - 1
        values = random.integers(1, most + 1, layer.weight_shape) * random.choice((-1, 1), layer.weight_shape)
        values[:, 0] = most  # so that each channel's scale is 1
        values = values.astype(np.float32)
        scheme = replace(Scheme.parse(f"w{bits}a8"), sparsity=self.scheme.sparsity)
        if scheme.sparsity is not None:
            values = thinned(values, layer, scheme.sparsity)
        return replace(given, input=input, weight=stored(values, layer, scheme))


def counted_case(seed: int, most_products: int = 600) -> CountedCase:
    """The case of a seed."""
    case = tiny_case(seed, most_products)
    random = Random(-seed)
    weight, input = random.choice((*range(2, 9), 12, 16)), random.choice((4, 8, 16))
    pattern = NM(*random.choice(((2, 4), (1, 4), (3, 4), (1, 2)))) if random.random() < 0.3 else None
    layer = case.layer
    if pattern is not None and not _is_product(layer):
        layer = replace(layer, C=random.choice((4, 8)), K=min(layer.K, 2), P=min(layer.P, 3))
    else:
        pattern = None
    hardware = _machine(random, case.hardware, pattern)
    scheme = replace(Scheme.parse(f"w{weight}a{input}"), sparsity=pattern)
    mapping = case.mapping if layer == case.layer else tiny_mapping(random, layer, hardware)
    return CountedCase(Case(layer, hardware, mapping), scheme)


def _is_product(layer: Layer) -> bool:
    return layer.operator == "matmul" and layer.G > 1


def _machine(random: Random, machine: Hardware, pattern: NM | None) -> Hardware:
    """The same memories and axes, with units and elements of their own."""
    looks = [random.choice(("", "", "gates", "skips")) if pattern is None else "" for _ in range(2)]
    looked = {
        how: tuple(o for o, its in zip(("weight", "input"), looks, strict=True) if its == how)
        for how in ("gates", "skips")
    }
    datapath = Datapath(
        random.choice(("fixed", "packed", "bit_serial", "bit_brick")),
        word=16,
        serial=random.choice(("weight", "input")),
        accumulator=random.choice((20, 24, 32, 48)),
        **looked,  # type: ignore[arg-type]
    )
    skips = (pattern,) if pattern is not None and random.random() < 0.7 else ()
    compute = tuple(
        Compute(
            f"int{bits}", machine.units * datapath.macs(bits, bits), skips, random.uniform(0.1, 2), SOURCE
        )
        for bits in (16, *(bits for bits in (8, 4) if random.random() < 0.5))
    )
    memories = tuple(_memory(random, each, pattern) for each in machine.memories)
    return replace(machine, compute=compute, datapath=datapath, memories=memories)


def _memory(random: Random, memory: Memory, pattern: NM | None) -> Memory:
    forms = [
        Representation.parse(random.choice(("dense", "dense", "bitmask", "rle5", "coordinate7", "csr7/16")))
        for _ in range(3)
    ]
    if pattern is not None:
        forms[0] = random.choice((Representation(), Representation("n:m", pattern=pattern)))
    ports = (
        {"bandwidth": None, "read_ports": random.randint(1, 4), "write_ports": random.randint(1, 4)}
        if random.random() < 0.4
        else {}
    )
    return replace(
        memory,
        **ports,  # type: ignore[arg-type]
        word=random.choice((8, 24, 32, 64)) if ports or random.random() < 0.3 else None,
        size=1 << 24,
        double_buffered=random.random() < 0.5,
        formats=Formats(*forms),
        energy_per_byte=random.uniform(0.1, 100),
        write_energy_per_byte=random.choice((None, random.uniform(0.1, 100))),
        source=SOURCE,
    )
