"""A machine that is searched in no time: 16 units, two number formats, one buffer."""

from tersor.hardware import Axis, Compute, Datapath, Hardware, Memory
from tersor.sparsity import NM

TOY = Hardware(
    "toy",
    1e9,
    (
        Compute("int8", 16, (NM(2, 4),), 1.0, "assumed"),
        Compute("int4", 32, (NM(2, 4),), 0.5, "assumed"),
        Compute("fp32", 1, (), 20.0, "assumed"),
    ),
    (
        Memory("dram", 1 << 30, 2e9, 100.0, "assumed"),
        Memory("buffer", 4 << 10, 64e9, 5.0, "assumed", double_buffered=True),
    ),
    axes=(
        Axis("rows", 4, "buffer", ("C",), reduces=True),
        Axis("columns", 4, "buffer", ("K",), multicast=("input",)),
    ),
    datapath=Datapath(mode="packed"),
)
