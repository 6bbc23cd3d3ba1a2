"""Random layers side by side in one network, for a random machine or a shipped one, and their mappings."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from tersor.hardware import Compute, Datapath, Hardware
from tersor.hardware.memory import Formats
from tersor.hardware.representation import Representation
from tersor.ir.graph import Module, shape_of
from tersor.ir.schemes import with_schemes
from tersor.mapping import Mapping
from tersor.sparsity import NM
from tests.relax_modules import Array, Net
from tests.targets.accelerator.offload.random_layers import RandomLayer, draw_chain
from tests.targets.accelerator.tiny_cases import tiny_machine, tiny_mapping

MACHINES = Path(__file__).parents[4] / "targets" / "machines"
CHAINS = 8


@dataclass(frozen=True)
class RandomNetwork:
    """Chains of layers, each on inputs of its own; `mappings` has none where the mapper is to find them."""

    hardware: Hardware
    chains: tuple[tuple[RandomLayer, ...], ...]
    mappings: dict[str, list[Mapping]]

    @property
    def layers(self) -> Iterable[RandomLayer]:
        return (layer for chain in self.chains for layer in chain)

    def module(self) -> Module:
        """The chains as one integer network, whose results are those of all layers, in order."""
        shapes = [each.shape for each in self.inputs()]
        net = Net(shapes[0], "uint8", *shapes[1:])
        rest = list(net.inputs)
        results: list[Any] = []
        for chain in self.chains:
            for place, layer in enumerate(chain):
                given = [results[-1]] if place else []
                while len(given) < len(layer.inputs):
                    given.append(rest.pop(0))
                results.append(layer.emit(net, given))
                assert tuple(shape_of(results[-1])) == layer.output_shape
        schemes = {layer.name: layer.scheme for layer in self.layers if not layer.is_product}
        return with_schemes(net.finish(*results), schemes)

    def inputs(self) -> list[Array]:
        """All that `module` reads: the second layer of a chain reads the first."""
        return [
            each
            for chain in self.chains
            for place, layer in enumerate(chain)
            for each in (layer.inputs[1:] if place else layer.inputs)
        ]

    def expected(self) -> list[Array]:
        """What arithmetic makes of the inputs."""
        results: list[Array] = []
        for chain in self.chains:
            for place, layer in enumerate(chain):
                given = [results[-1], *layer.inputs[1:]] if place else layer.inputs
                results.append(layer.expected(given))
        return results


def random_network(seed: int) -> RandomNetwork:
    """For a machine of one to four memories, some of them too small, with any mappings."""
    random = Random(seed)
    hardware = random_machine(random)
    chains = _chains(random)
    layers = [layer for chain in chains for layer in chain]
    mappings = {each.name: [tiny_mapping(random, each.layer, hardware)] for each in layers}
    return RandomNetwork(hardware, chains, mappings)


def network_of(machine: str, seed: int) -> RandomNetwork:
    """For a machine that is shipped, mapped by the mapper."""
    return RandomNetwork(Hardware.load(MACHINES / f"{machine}.toml"), _chains(Random(seed)), {})


def _chains(random: Random) -> tuple[tuple[RandomLayer, ...], ...]:
    return tuple(tuple(draw_chain(random, f"layer{i}")) for i in range(CHAINS))


def random_machine(random: Random) -> Hardware:
    """Units of any kind; memories with one place or two, that keep weights in any form."""
    machine = tiny_machine(random)
    units = machine.units
    patterns = tuple(NM(n, m) for n, m in ((2, 4), (1, 4), (4, 8)) if random.random() < 0.5)
    looks = {operand: random.choice(("", "", "gates", "skips")) for operand in ("weight", "input")}
    datapath = Datapath(
        random.choice(("fixed", "packed", "bit_serial", "bit_brick")),
        gates=tuple(operand for operand, how in looks.items() if how == "gates"),  # type: ignore[arg-type]
        skips=tuple(operand for operand, how in looks.items() if how == "skips"),  # type: ignore[arg-type]
    )
    widths = (8, 4) if random.random() < 0.5 else (8,)
    compute = tuple(
        Compute(f"int{bits}", units * datapath.macs(bits, bits), skips=patterns) for bits in widths
    )
    memories = []
    for level, memory in enumerate(machine.memories):
        form = Representation.parse(random.choice(("dense", "dense", "bitmask", "rle5", "csr7/16")))
        size = random.choice((64, 1 << 14, 1 << 20)) if level else 1 << 24
        double = level > 0 and random.random() < 0.5
        memories.append(replace(memory, size=size, double_buffered=double, formats=Formats(weight=form)))
    return replace(machine, compute=compute, datapath=datapath, memories=tuple(memories))
