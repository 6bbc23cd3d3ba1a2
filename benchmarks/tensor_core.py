"""Rows of a tensor core that leaves out two of four weights, beside Sparseloop's case study (MICRO 2022)."""

import json
from pathlib import Path

from rows import Row

from tersor.hardware import Hardware
from tersor.layer import Layer
from tersor.loop_tree import parse_tree
from tersor.scheme import Scheme
from tersor.targets.accelerator.model import evaluate
from tersor.targets.accelerator.nest import Nest

ROOT = Path(__file__).parents[1]


def tensor_core() -> list[Row]:
    """Cycles of a tensor core that leaves out two of four weights, on int8 layers of ResNet-50."""
    golden = json.loads((ROOT / "tests" / "golden" / "sparse_tensor_core.json").read_text())["rows"]
    core = Hardware.load(ROOT / "targets" / "machines" / "sparse_tensor_core.toml")
    rows: list[Row] = []
    for m, k, n, *published in golden:
        layer = Layer("gemm", "matmul", N=n, K=m, C=k)
        lines = ["dram: weight, input, output", f"for N in {n // 128}", "smem: input", f"for K in {m // 64}"]
        lines += ["smem: weight", "for K in 4 on parts", "rf: output", f"for C in {k // 16}"]
        lines += ["for K in 16 on columns", "for C in 16 on rows", "lrf: weight", "for N in 128"]
        tree = "\n".join("  " * depth + line for depth, line in enumerate(lines))
        nest, sizes = Nest.of(parse_tree(tree), layer, core)
        for scheme, cycles in zip(("int8", "int8+2:4"), published, strict=True):
            ours = float(evaluate(nest, sizes, Scheme.parse(scheme)).latency.compute[0])
            error, case = 100 * abs(ours - cycles) / cycles, f"{m}x{k}x{n}"
            rows.append(Row("accelerator", "tensor_core", case, scheme, "cycles", round(ours)))
            rows.append(Row("accelerator", "tensor_core", case, scheme, "error %", error, 1e-9, "<="))
    return rows
