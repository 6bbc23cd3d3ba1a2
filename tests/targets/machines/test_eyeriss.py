"""Eyeriss as published: the latency and traffic of the chip, and the energies of its study.

Nothing is fitted. What counts of the chip beside the sizes of its array and memories are the widths of two
buses (recalled of JSSC 52(1), 2017): 64 bits for weights and 16 for inputs. Filters come while the units
wait, and a window of inputs must be there before a pass begins. CONV4 and CONV5 have one shape but for the
number of filters, the model gives both the same share of waiting, and the chip's times differ by 7 %: 3.3 %
on each is the least error of any such model.
"""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tersor.hardware import Hardware, Representation
from tersor.hardware.memory import Formats
from tersor.layer import Layer
from tersor.scheme import Scheme
from tersor.targets.accelerator.counts import INPUT, OUTPUT, PARTIAL, WEIGHT
from tersor.targets.accelerator.density import DENSE, Densities
from tersor.targets.accelerator.legality import why_not
from tersor.targets.accelerator.model import Evaluation, evaluate
from tersor.targets.accelerator.nest import Nest
from tersor.targets.accelerator.row_stationary import RowStationary

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden"
W16 = Scheme.parse("w16a16")
CHIP = Hardware.load(ROOT / "targets" / "machines" / "eyeriss.toml")
DRAM, GLB = 0, 1


def golden(name: str) -> dict:
    return json.loads((GOLDEN / name).read_text())


V1 = golden("eyeriss_v1.json")
ISCA16 = golden("eyeriss_isca16.json")


def layer_of(row: dict, images: int) -> Layer:
    shape: dict[str, Any] = {
        key: tuple(size) if isinstance(size, list) else size for key, size in row["shape"].items()
    }
    return Layer(row["layer"], "conv2d", N=images, **shape)


def evaluated(
    layer: Layer, numbers: list[int], machine: Hardware, densities: Densities = DENSE
) -> Evaluation:
    mapping = RowStationary(*numbers).mapping(layer, machine)
    assert why_not(layer, W16, mapping, machine, densities) is None
    return evaluate(*Nest.of(mapping, layer, machine), W16, densities)


def without_waiting_for_dram(machine: Hardware) -> Hardware:
    """What is published as processing latency leaves out waiting for the DRAM."""
    return replace(machine, memories=(replace(machine.memories[0], bandwidth=1e30), *machine.memories[1:]))


@cache
def on_chip(name: str) -> Evaluation:
    row = next(row for row in V1["rows"] if row["layer"] == name)
    return evaluated(layer_of(row, 4), row["row_stationary"], without_waiting_for_dram(CHIP))


def through_the_buffer(found: Evaluation) -> float:
    """MB between buffer and units, both ways, and of the filters."""
    reads, writes = found.traffic.reads[GLB, :, 0], found.traffic.writes[GLB, :, 0]
    return float(reads[[WEIGHT, INPUT, PARTIAL]].sum() + writes[[OUTPUT, PARTIAL]].sum()) / 8e6


def test_the_chip_takes_the_published_time_for_alexnet() -> None:
    errors = []
    for row in V1["rows"]:
        milliseconds = 1e3 * on_chip(row["layer"]).cycles[0] / CHIP.clock
        errors.append(abs(milliseconds / row["milliseconds"] - 1))
    assert np.mean(errors) <= 0.03
    assert max(errors) <= 0.08


@pytest.mark.parametrize("row", V1["rows"], ids=lambda row: row["layer"])
def test_the_mappings_use_the_published_units(row: dict) -> None:
    layer = layer_of(row, 4)
    spread = RowStationary(*row["row_stationary"])
    assert layer.R * spread.e * spread.r * spread.t == row["active"]
    # Ragged tiles leave units out in some steps: in the last rows of CONV1, the last channels of CONV3.
    used = layer.macs / on_chip(row["layer"]).counts.steps[0]
    assert 0.97 * row["active"] <= used <= row["active"]


@pytest.mark.parametrize("row", V1["rows"], ids=lambda row: row["layer"])
def test_the_mappings_move_what_the_chip_moved_through_its_buffer(row: dict) -> None:
    """We count zeros of the padding as read, the chip does not: up to 2.4 % more; without any, 0.8 % less."""
    assert through_the_buffer(on_chip(row["layer"])) == pytest.approx(row["buffer_mb"], rel=0.025)


def test_conv3_as_recalled_would_move_more_than_the_chip_did() -> None:
    row = V1["rows"][2]
    found = evaluated(layer_of(row, 4), V1["conv3_recalled"], without_waiting_for_dram(CHIP))
    assert through_the_buffer(found) > 1.3 * row["buffer_mb"]


def test_what_waiting_is_made_of() -> None:
    """Each pass of CONV1 has 32 filters of 11x11 at 4 words a cycle, and a window of 35x11 inputs at one."""
    found = on_chip("CONV1")
    passes = 3 * 3 * 8 * 4
    levels = {memory.name: level for level, memory in enumerate(CHIP.memories)}
    assert found.latency.added[levels["filter"], 0] == pytest.approx(passes * 32 * 121 / 4)
    # The last of the eight strips of rows is shorter.
    assert found.latency.added[levels["ifmap"], 0] == pytest.approx(passes * 11 * 35, rel=0.02)
    assert found.latency.compute[0] == passes * (16 * 11 * 55 + 11)


@pytest.mark.parametrize("name", ["conv3", "conv4", "conv5"])
def test_dram_is_read_as_often_as_in_sparseloops_eyeriss(name: str) -> None:
    """Its CONV1 and CONV2 have larger outputs than AlexNet's, and other mappings."""
    _, _, _, weights, inputs, outputs, _ = next(
        r for r in golden("eyeriss_dram_compression.json")["rows"] if r[0] == name
    )
    counts = on_chip(name.upper()).counts
    assert list(counts.reads[DRAM, [WEIGHT, INPUT], 0]) == [weights, inputs]
    assert counts.writes[DRAM, OUTPUT, 0] == outputs


def test_runs_of_zeros_compress_the_traffic_of_dram_as_published() -> None:
    formats = CHIP.memories[DRAM].formats
    for name, input, output, weights, inputs, outputs, ratio in golden("eyeriss_dram_compression.json")[
        "rows"
    ]:
        compressed = weights + outputs * formats.output.bits(16, output) / 16
        compressed += inputs if name == "conv1" else inputs * formats.input.bits(16, input) / 16
        assert round((weights + inputs + outputs) / compressed, 1) == ratio


def machine_of_isca16() -> Hardware:
    """The chip with 16x16 units, 512 bytes of registers, 128 KB; filling registers is counted as network."""
    dram, buffer, filters, inputs, sums = CHIP.memories
    return replace(
        CHIP,
        compute=(replace(CHIP.compute[0], macs_per_cycle=256),),
        axes=tuple(replace(axis, size=16) for axis in CHIP.axes),
        memories=(
            replace(dram, formats=Formats()),
            replace(buffer, size=128 << 10),
            replace(filters, size=416, write_energy_per_byte=0.0),
            replace(inputs, size=48, write_energy_per_byte=0.0),
            sums,
        ),
    )


@pytest.mark.parametrize("row", ISCA16["rows"], ids=lambda row: row["layer"])
def test_the_energies_of_the_study_are_met(row: dict) -> None:
    """Multiplications, DRAM and registers to 0.1e9, by mappings of the row-stationary rule."""
    found = evaluated(layer_of(row, 16), row["row_stationary"], machine_of_isca16())
    by_memory = found.memory_energy[..., 0].sum(axis=1) / 1e9
    assert found.compute_energy[0] / 1e9 == pytest.approx(row["alu"], abs=0.1)
    assert by_memory[DRAM] == pytest.approx(row["dram"], abs=0.1)
    assert by_memory[GLB + 1 :].sum() == pytest.approx(row["rf"], abs=0.1)


def test_row_stationary_needs_numbers_from_one() -> None:
    with pytest.raises(ValueError, match="at least 1, got"):
        RowStationary(64, 4, 13, 16, 0, 2, 2)


def test_rle5_is_what_the_chip_writes_to_dram() -> None:
    assert CHIP.memories[DRAM].formats.input == Representation.parse("rle5")
