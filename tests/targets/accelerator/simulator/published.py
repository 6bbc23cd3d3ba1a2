"""Machines whose cycles are published, executed: systolic arrays, and the PE of Eyeriss v2."""

from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tersor.formats.encoded import encode
from tersor.formats.grids import fit
from tersor.formats.matrix import matrix_of
from tersor.hardware import Hardware
from tersor.layer import Layer, Operand
from tersor.loop_tree import parse_tree
from tersor.mapping import Keep, Loop, Mapping
from tersor.scheme import INT8
from tersor.targets.accelerator.simulator.result import Simulated
from tersor.targets.accelerator.simulator.tensors import Tensors
from tests.targets.accelerator.simulator.layer_cases import run, tensors
from tests.targets.accelerator.test_systolic import FLOWS, array

PE = Hardware.load(Path(__file__).parents[4] / "targets" / "machines" / "eyeriss_v2_pe.toml")
Mask = NDArray[np.bool_]


def systolic_run(
    stationary: Operand, rows: int, columns: int, sizes: tuple[int, int, int]
) -> tuple[Simulated, Layer, Tensors]:
    """Multiply random codes [m, k] by [k, n] on a shipped array in another size; its memories never wait."""
    m, n, k = sizes
    layer = Layer("fc", "matmul", N=m, K=n, C=k)
    machine = array(stationary, rows, columns)
    machine = replace(machine, memories=tuple(replace(each, bandwidth=1e30) for each in machine.memories))
    given = tensors(layer, m)
    return run(layer, _systolic_mapping(layer, stationary, rows, columns), machine, given), layer, given


def _systolic_mapping(layer: Layer, stationary: Operand, rows: int, columns: int) -> Mapping:
    on_rows, on_columns, streamed = FLOWS[stationary]
    loops = (
        Loop(on_rows, ceil(layer.size(on_rows) / rows), "dram"),
        Loop(on_columns, ceil(layer.size(on_columns) / columns), "dram"),
        Loop(on_rows, rows, "rows"),
        Loop(on_columns, columns, "columns"),
        Loop(streamed, layer.size(streamed), "register"),
    )
    keep = (*(Keep(o, "dram") for o in ("weight", "input", "output")), Keep(stationary, "register"))
    return Mapping(loops, keep)


def pe_layer(row: dict[str, Any]) -> Layer:
    """The pointwise layer of a row of `eyeriss_v2_pe.json`."""
    return Layer(row["layer"], "conv2d", K=row["K"], C=row["C"], P=row["P"], Q=row["Q"])


def pe_mapping(layer: Layer) -> Mapping:
    """4 x 32 weights are kept while all inputs of their channels go by; sums come and go with each."""
    return parse_tree(f"""\
dram: weight, input, output
  for K in {ceil(layer.K / 32)}
    for C in {ceil(layer.C / 4)}
      for P in {layer.P}
        for Q in {layer.Q}
          iact_spad: input
            weight_spad: weight
              psum_spad: output
                for C in 4
                  for K in 32
""")


def pe_tensors(layer: Layer, weights: Mask, inputs: Mask) -> Tensors:
    """Tensors that are zero where the masks [K, C] and [P, Q, C] are; what else they are changes no cycle."""
    random = np.random.default_rng(0)
    values = matrix_of((weights * random.uniform(1, 2, weights.shape)).astype(np.float32), 0)
    grid = fit(values, INT8.weight, True)
    codes = (inputs * random.integers(1, 256, inputs.shape)).astype(np.uint8).transpose(2, 0, 1)[None]
    weight = encode(grid.nearest(values), grid, None, layer.weight_shape, 0)
    return Tensors(codes, 0, weight, bias=np.zeros(layer.K, np.int32))


def pe_run(layer: Layer, given: Tensors) -> Simulated:
    """Run a layer on the PE as it is shipped, with what its scratchpads wait for."""
    return run(layer, pe_mapping(layer), PE, given)


def at_work(ran: Simulated) -> float:
    """Cycles in which the unit multiplies: those of the ground truth, which has nothing behind the PE."""
    return ran.cycles - sum(ran.stalls.values())
