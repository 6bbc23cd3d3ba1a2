"""Accelerators: what the model says of published machines; the speed of model, mapper and simulator.

    python benchmarks/accelerator.py [--masks FILE.npz] [--json FILE]

`--masks` are the masks of Sparseloop's artifact for the PE of Eyeriss v2: boolean arrays `L07_weights`
[K, C], `L07_inputs` [P, Q, C], and so on. Without them only what is in `tests/golden` is compared.
"""

import argparse
from os import times
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
from eyeriss import chip, processing_element
from resnet18 import layers
from rows import Row, print_rows, write_rows
from tensor_core import tensor_core

from tersor.formats.encoded import encode as encode_weight
from tersor.formats.grids import fit
from tersor.hardware import Hardware
from tersor.layer import Dim, Layer
from tersor.mapping import Keep, Mapping
from tersor.scheme import INT8
from tersor.targets.accelerator.isa.encoding import encode
from tersor.targets.accelerator.lowering.lower import lower
from tersor.targets.accelerator.mapper.mapper import Mapper, Task
from tersor.targets.accelerator.model import evaluate
from tersor.targets.accelerator.nest import Nest
from tersor.targets.accelerator.simulator.simulation import simulate
from tersor.targets.accelerator.simulator.tensors import Tensors, touched_size

ROOT = Path(__file__).parents[1]
WORKERS = 2  # processes that map a network
TIMES = {"64-64": 4, "128-128": 3, "256-256": 3, "512-512": 3}  # that ResNet-18 has a shape
GOALS = {10_000: 100_000.0}  # evaluations in a second of one core, by how many are evaluated at once


def speed(mappings: int) -> list[Row]:
    """Mappings of a convolution of ResNet-18 on `edge` that one core evaluates in a second."""
    edge = Hardware.load(ROOT / "targets" / "machines" / "edge.toml")
    layer = Layer("conv", "conv2d", K=128, C=128, P=28, Q=28, R=3, S=3, padding=(1, 1, 1, 1))
    loops: tuple[tuple[Dim, str], ...] = (
        *((dim, "dram") for dim in "KCPQ"),
        *((dim, "buffer") for dim in "KCPQRS"),
        ("C", "rows"),
        ("K", "columns"),
        *((dim, "registers") for dim in "PQ"),
    )  # type: ignore[assignment]  # pyright takes letters of a text for any text
    keep = tuple(Keep(each, m.name) for m in edge.memories for each in m.keeps)
    random = np.random.default_rng(0)
    outer = random.choice([1.0, 2.0, 4.0, 8.0], (4, mappings))
    inner = np.ceil(np.array([[8.0], [8.0], [28.0], [28.0]]) / outer)
    window, units = np.full((2, mappings), 3.0), np.full((2, mappings), 16.0)
    registers = random.choice([1.0, 2.0], (2, mappings))
    inner[2:] = np.ceil(inner[2:] / registers)
    nest = Nest(layer, edge, loops, keep)
    sizes = np.vstack([outer, inner, window, units, registers])
    evaluate(nest, sizes, INT8)
    start = process_time()
    evaluate(nest, sizes, INT8)
    seconds = process_time() - start
    rate, case = mappings / seconds, f"{mappings} mappings"
    return [
        Row("accelerator", "speed", case, "edge", "evaluations/s", round(rate), GOALS.get(mappings), ">=")
    ]


def mapped() -> list[Row]:
    """ResNet-18 mapped to `edge`, each shape of a convolution once.

    The rate is that of one core, by the processor time of all workers; other work on the machine slows down
    the wall clock alone.
    """
    edge = Hardware.load(ROOT / "targets" / "machines" / "edge.toml")
    mapper = Mapper(edge)
    start, worked = perf_counter(), _processor_seconds()
    mapper.search([Task(layer) for layer in layers()], workers=WORKERS)
    seconds, worked = perf_counter() - start, _processor_seconds() - worked
    found = {layer.name: mapper.map(layer) for layer in layers()}
    rate = sum(each.evaluated for each in found.values()) / worked
    case = f"edge, {WORKERS} cores"
    rows = [
        Row("accelerator", "mapper", "resnet18", case, "wall s", round(seconds, 2), 10.0, "<="),
        Row("accelerator", "mapper", "resnet18", case, "CPU s", round(worked, 2)),
        Row("accelerator", "mapper", "resnet18", "edge, 1 core", "mappings/s", round(rate), 100_000.0, ">="),
    ]
    for name, each in found.items():
        for what, gap in (("cycles", each.latency_gap), ("energy", each.energy_gap), ("EDP", each.edp_gap)):
            rows.append(Row("accelerator", "mapper", name, what, "gap %", round(100 * gap, 1)))
    mappings = {name: each.least_edp.mapping for name, each in found.items()}
    return [*rows, *lowered(mappings, edge), *simulated(mappings, mapper)]


def _processor_seconds() -> float:
    """Of this process and of the workers that have ended."""
    spent = times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def lowered(mappings: dict[str, Mapping], hardware: Hardware) -> list[Row]:
    """The programs of ResNet-18's 21 layers, those of a repeated shape as often as it is there."""
    network = [layer for layer in layers() for _ in range(TIMES.get(layer.name, 1))]
    start = process_time()
    programs = [lower(layer, INT8, mappings[layer.name], hardware) for layer in network]
    seconds = process_time() - start
    size = sum(len(encode(program)) for program in programs)
    case = f"{len(network)} layers"
    return [
        Row("accelerator", "lowering", "resnet18", case, "s", round(seconds, 2), 1.0, "<="),
        Row("accelerator", "lowering", "resnet18", case, "bytes", size),
    ]


def simulated(mappings: dict[str, Mapping], mapper: Mapper) -> list[Row]:
    """A product and ResNet-18's layers in the simulator, which is compiled before."""
    gemm = Layer("gemm", "matmul", N=512, K=512, C=512)
    product = mapper.map(gemm).least_edp.mapping
    _seconds(gemm, product, mapper.hardware)
    rate = gemm.macs / _seconds(gemm, product, mapper.hardware) / 1e6
    seconds = sum(
        TIMES.get(layer.name, 1) * _seconds(layer, mappings[layer.name], mapper.hardware)
        for layer in layers()
    )
    case = f"{mapper.hardware.name}, one core"
    return [
        Row("accelerator", "simulator", "512 x 512 x 512", case, "MMAC/s", round(rate, 1), 50.0, ">="),
        Row("accelerator", "simulator", "resnet18", case, "s", round(seconds, 1), 60.0, "<="),
    ]


def _seconds(layer: Layer, mapping: Mapping, hardware: Hardware) -> float:
    """Seconds of one core in which a layer runs on random tensors."""
    random = np.random.default_rng(0)
    matrix = random.integers(-127, 128, (layer.G * layer.K, layer.C * layer.R * layer.S)).astype(np.float32)
    axis = 0 if layer.operator == "conv2d" else 1
    grid = fit(matrix, INT8.weight, True)
    weight = encode_weight(grid.nearest(matrix), grid, None, layer.weight_shape, axis)
    top, left, bottom, right = layer.padding
    rows, columns = touched_size(layer)
    image = (layer.N, layer.G * layer.C, rows - top - bottom, columns - left - right)
    shape = (layer.N, layer.C) if layer.operator == "matmul" else image
    tensors = Tensors(random.integers(0, 256, shape).astype(np.uint8), 128, weight)
    program = lower(layer, INT8, mapping, hardware)
    start = process_time()
    simulate(program, hardware, tensors)
    return process_time() - start


def main() -> None:
    """Print all rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--masks", type=Path, help="masks of the PE of Eyeriss v2, .npz")
    parser.add_argument("--json", type=Path, help="write the rows here, too")
    arguments = parser.parse_args()
    rows = [*chip(), *processing_element(arguments.masks), *tensor_core()]
    for mappings in (100, *GOALS):
        rows += speed(mappings)
    rows += mapped()
    print_rows("accelerators", rows)
    if arguments.json:
        write_rows(arguments.json, rows)


if __name__ == "__main__":
    main()
