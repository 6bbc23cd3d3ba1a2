"""Bit Fusion (Sharma et al., ISCA 2018) against its authors' simulator, layer by layer."""

import json
from math import ceil, prod
from pathlib import Path

import numpy as np
import pytest

from tersor.hardware import Hardware
from tersor.layer import Dim, Layer
from tersor.mapping import Keep, Loop, Mapping
from tersor.scheme import Scheme
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
    order: list[Dim] = list(row["order"])
    loops = [Loop(dim, ceil(layer.size(dim) / tile[dim]), "dram") for dim in order]
    rows, columns = min(16, tile["C"]), min(32, tile["K"])
    inside: list[tuple[Dim, int]] = [("K", ceil(tile["K"] / columns)), ("N", tile["N"])]
    inside += [("P", tile["P"]), ("Q", tile["Q"]), ("R", layer.R), ("S", layer.S)]
    loops += [Loop(dim, size, "obuf") for dim, size in (*inside, ("C", ceil(tile["C"] / rows)))]
    loops += [Loop("C", rows, "rows"), Loop("K", columns, "columns")]
    keep = [Keep(operand, "dram") for operand in ("weight", "input", "output")]
    keep += [Keep("weight", "wbuf"), Keep("input", "ibuf"), Keep("output", "obuf")]
    return Mapping(tuple(loops), tuple(keep))


def scheme_of(row: dict) -> Scheme:
    return Scheme.parse(f"w{row['weight_bits']}a{row['input_bits']}")


def evaluated(row: dict) -> Evaluation:
    nest, sizes = Nest.of(mapping_of(row), layer_of(row), MACHINE)
    return evaluate(nest, sizes, scheme_of(row))
