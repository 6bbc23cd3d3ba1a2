"""Random layers go the whole way, and the simulator gives the bits of `tersor.arithmetic`.

    integer graph  ->  composite  ->  why_not  ->  mapping  ->  program as bytes in a library  ->  simulator

Layers are convolutions of all strides, paddings, dilations and groups, dense ones and products of two
activations, weights of 1 to 8 bits in all stored forms with and without patterns, inputs of 2 to 8 bits,
a low rank among them.
Machines have one to four memories, and what does not fit stays on the CPU and is not counted.
"""

from collections import Counter
from itertools import count

import numpy as np
import pytest

from tersor.targets.accelerator.isa.epilogue import Sums
from tersor.targets.accelerator.legality import why_not
from tersor.targets.accelerator.lowering.lower import lower as lower_layer
from tersor.targets.accelerator.mapper.mapper import Mapper
from tersor.targets.accelerator.offload.execution import listening
from tersor.targets.accelerator.offload.offload import Offloaded, offload
from tersor.targets.accelerator.simulator.simulation import simulate
from tersor.targets.accelerator.simulator.tensors import Tensors
from tersor.targets.cpu.lowering import lower
from tests.targets.accelerator.offload.random_networks import (
    MACHINES,
    RandomNetwork,
    network_of,
    random_network,
)
from tests.targets.accelerator.simulator.layer_cases import expected_sums
from tests.targets.cpu.lowered_networks import HOST, execute


def assert_bits(network: RandomNetwork) -> Offloaded:
    """Run a network with what its machine can run there; every layer has the bits of arithmetic."""
    mapper = Mapper(network.hardware, effort=100, exhaustive=100)
    offloaded = offload(network.module(), network.hardware, network.mappings, mapper)
    heard: list[str] = []
    with listening(lambda name, _: heard.append(name)):
        results = execute(lower(offloaded.mod, HOST.isa, 2), *network.inputs())
    assert sorted(heard) == sorted(layer.name for layer in offloaded.layers)
    for layer, result, expected in zip(network.layers, results, network.expected(), strict=True):
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(result, expected, f"{layer} on {network.hardware}")
    return offloaded


def assert_bits_of(layers: int, seeds: count) -> Counter[str]:
    """Run random networks until so many layers were offloaded; give how many of each kind were."""
    seen: Counter[str] = Counter()
    while seen.total() < layers:
        offloaded = assert_bits(random_network(next(seeds)))
        assert len(offloaded.layers) + sum(each.macs > 0 for each in offloaded.refusals) >= 8
        seen.update(each.kind for each in offloaded.layers)
    return seen


@pytest.mark.parametrize("part", range(4))
def test_offloaded_layers_have_the_bits_of_arithmetic(part: int) -> None:
    seen = assert_bits_of(30, count(100 * part))
    assert {"conv2d", "matmul"} <= seen.keys()


@pytest.mark.slow
@pytest.mark.parametrize("part", range(20))
def test_six_hundred_offloaded_layers_have_the_bits_of_arithmetic(part: int) -> None:
    assert_bits_of(30, count(1000 + 100 * part))


@pytest.mark.parametrize("machine", sorted(path.stem for path in MACHINES.glob("*.toml")))
def test_every_machine_that_is_shipped_runs_random_layers(machine: str) -> None:
    """On mappings of the mapper; all that it can multiply fits."""
    network = network_of(machine, 0)
    assert len(assert_bits(network).layers) == len(list(network.layers))


@pytest.mark.slow
@pytest.mark.parametrize("machine", sorted(path.stem for path in MACHINES.glob("*.toml")))
@pytest.mark.parametrize("seed", range(1, 4))
def test_every_machine_that_is_shipped_runs_more_of_them(machine: str, seed: int) -> None:
    network = network_of(machine, seed)
    assert len(assert_bits(network).layers) == len(list(network.layers))


@pytest.mark.parametrize("seed", range(2000, 2008))
def test_sums_without_an_epilogue_are_those_of_arithmetic(seed: int) -> None:
    network = random_network(seed)
    ran = 0
    for each in network.layers:
        (mapping,) = network.mappings[each.name]
        if why_not(each.layer, each.scheme, mapping, network.hardware):
            continue
        program = lower_layer(each.layer, each.scheme, mapping, network.hardware, Sums())
        x, *others = each.inputs
        right = others[0] if each.is_product else each.weight
        bias = np.zeros(each.layer.G * each.layer.K, np.int32) if each.is_product else each.constants[0]
        given = Tensors(x, each.zero_point, right, each.right_zero_point, bias)
        ran += 1
        np.testing.assert_array_equal(
            simulate(program, network.hardware, given).output, expected_sums(each.layer, given)
        )
    assert ran
