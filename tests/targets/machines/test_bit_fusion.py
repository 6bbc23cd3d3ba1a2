"""Bit Fusion (Sharma et al., ISCA 2018) against its authors' simulator, layer by layer."""

import json
from collections.abc import Callable
from math import ceil, prod
from pathlib import Path

import pytest

from tersor.hardware import Hardware
from tersor.layer import Dim, Layer
from tersor.mapping import Keep, Loop, Mapping
from tersor.scheme import Scheme
from tersor.targets.accelerator.counts import INPUT, OUTPUT, PARTIAL, WEIGHT
from tersor.targets.accelerator.model import Evaluation, evaluate
from tersor.targets.accelerator.nest import Nest

ROOT = Path(__file__).parents[3]
GOLDEN = json.loads((ROOT / "tests" / "golden" / "bit_fusion.json").read_text())
MACHINE = Hardware.load(ROOT / "targets" / "machines" / "bit_fusion.toml")
ROWS = [row | {"network": net["network"]} for net in GOLDEN["networks"] for row in net["rows"]]
BATCH = 16


def layer_of(row: dict) -> Layer:
    """The layer of a row; of a convolution that im2col goes before, the product that is left."""
    window, output = row["filter"], row["output"]
    name = f"{row['network']} {row['layer']}"
    if row["im2col"]:
        pixels, taps = output * output, window * window
        return Layer(name, "matmul", N=BATCH * pixels, K=row["outputs"], C=row["inputs"] * taps)
    shape = {"P": output, "Q": output, "R": window, "S": window, "stride": (row["stride"],) * 2}
    return Layer(name, "conv2d", N=BATCH, K=row["outputs"], C=row["inputs"], **shape)


def mapping_of(row: dict) -> Mapping:
    """The tiles and their order that the simulator's optimizer chooses; sums are made one after the other."""
    layer = layer_of(row)
    batch, pixels, inputs, outputs = row["tile"]
    tile: dict[Dim, int] = {"N": batch, "P": pixels, "Q": pixels, "C": inputs, "K": outputs}
    if row["im2col"]:
        tile |= {"N": batch * pixels * pixels, "P": 1, "Q": 1, "C": inputs * row["filter"] ** 2}
    loops = [Loop(dim, ceil(layer.size(dim) / tile[dim]), "dram") for dim in row["order"]]
    if row["im2col"]:  # pixels are a part of N, in the place of Q
        parts = {"N": ceil(BATCH / batch), "Q": ceil(row["output"] / pixels) ** 2, "P": 1}
        loops = [
            Loop("N", parts[dim], "dram") if dim in parts else loop
            for dim, loop in zip(row["order"], loops, strict=True)
        ]
    if 2 * layer.weight_count * row["weight_bits"] <= 8 * MACHINE.memory("wbuf").size:  # all stay, then
        last = max(i for i, loop in enumerate(loops) if loop.dim not in "CK")
        loops[last + 1 :] = [Loop(loop.dim, loop.size, "wbuf") for loop in loops[last + 1 :]]
    rows, columns = min(16, tile["C"]), min(32, tile["K"])
    tile |= {"K": ceil(tile["K"] / columns), "C": ceil(tile["C"] / rows), "R": layer.R, "S": layer.S}
    inside: tuple[Dim, ...] = ("K", "N", "P", "Q", "R", "S", "C")
    loops += [Loop(dim, tile[dim], "obuf") for dim in inside]
    loops += [Loop("C", rows, "rows"), Loop("K", columns, "columns")]
    keep = [Keep(operand, "dram") for operand in ("weight", "input", "output")]
    keep += [Keep("weight", "wbuf"), Keep("input", "ibuf"), Keep("output", "obuf")]
    return Mapping(tuple(loops), tuple(keep))


def scheme_of(row: dict) -> Scheme:
    return Scheme.parse(f"w{row['weight_bits']}a{row['input_bits']}")


def evaluated(row: dict) -> Evaluation:
    nest, sizes = Nest.of(mapping_of(row), layer_of(row), MACHINE)
    return evaluate(nest, sizes, scheme_of(row))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['network']}-{row['layer']}")
def test_the_array_takes_the_simulators_cycles(row: dict) -> None:
    """Exactly, but for the LSTM: the simulator takes the last of its 29 tiles of outputs for a full one."""
    compute = evaluated(row).latency.compute[0]
    if row["network"] == "LSTM":
        assert compute == pytest.approx(BATCH * ceil(3600 / 64) * ceil(3600 / 32))
        assert row["cycles"] - row["waiting"] == BATCH * 57 * 29 * 4
    else:
        assert compute == pytest.approx(row["cycles"] - row["waiting"], rel=1e-12)


def total(network: dict, cycles: Callable[[dict], float]) -> float:
    return sum(row["uses"] * cycles(row | {"network": network["network"]}) for row in network["rows"])


def speed_up(cycles: Callable[[dict], float]) -> float:
    """How much faster than Eyeriss with 16 bits the four networks are, in the geometric mean."""
    return prod(net["eyeriss_cycles"] / total(net, cycles) for net in GOLDEN["networks"]) ** 0.25


def with_wide_outputs(row: dict) -> float:
    """Cycles if outputs pass the memory interface with 32 bits, once inwards and once outwards, at best."""
    found = evaluated(row)
    reads, writes = found.counts.reads[0, :, 0], found.counts.writes[0, :, 0]
    bits = reads[WEIGHT] * row["weight_bits"] + reads[INPUT] * row["input_bits"]
    bits += 2 * 32 * (writes[OUTPUT] + writes[PARTIAL])
    return max(float(found.latency.compute[0]), float(bits) / 192)


@pytest.mark.parametrize("network", GOLDEN["networks"], ids=lambda network: network["network"])
def test_with_wide_outputs_networks_take_the_simulators_time(network: dict) -> None:
    assert total(network, with_wide_outputs) == pytest.approx(network["cycles"], rel=0.1)


def test_it_is_as_much_faster_than_eyeriss_as_published() -> None:
    """3.12 times on these four of the paper's eight, whose mean is 3.9; narrow outputs make it more here."""
    assert speed_up(lambda row: row["cycles"]) == pytest.approx(3.12, abs=0.005)
    assert speed_up(with_wide_outputs) == pytest.approx(3.12, rel=0.03)
    assert 4.2 < speed_up(lambda row: float(evaluated(row).cycles[0])) < 4.8


def test_six_bits_buy_no_speed_where_bricks_have_two() -> None:
    """As in APQ's measured table: W6A6 is 1.05 times as fast as W8A8, W4A4 2.1 and W4A8 1.6 times."""
    row = next(row for row in ROWS if row["layer"] == "conv3")

    def cycles(weight: int, input: int) -> float:
        return float(evaluated(row | {"weight_bits": weight, "input_bits": input}).latency.compute[0])

    assert cycles(6, 6) == cycles(8, 8) == cycles(5, 8)
    assert cycles(4, 8) == cycles(8, 4) == cycles(8, 8) / 2
    assert cycles(4, 4) == cycles(3, 3) == cycles(8, 8) / 4
    assert cycles(2, 2) == cycles(8, 8) / 8, "128 of 256 input channels: half of the bricks have none"


def test_bits_never_add_to_the_time_that_fewer_take() -> None:
    """Latency falls with the bits of either factor, as in HAQ's table of MobileNet-V2 on bit-bricks."""
    row = next(row for row in ROWS if row["network"] == "VGG-7" and row["layer"] == "conv2")
    times = {
        (weight, input): float(evaluated(row | {"weight_bits": weight, "input_bits": input}).cycles[0])
        for weight in range(2, 9)
        for input in range(2, 9)
    }
    for (weight, input), cycles in times.items():
        assert cycles <= times[min(weight + 1, 8), input] * (1 + 1e-12)
        assert cycles <= times[weight, min(input + 1, 8)] * (1 + 1e-12)
