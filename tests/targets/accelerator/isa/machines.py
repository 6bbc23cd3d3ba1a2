"""A machine with names for programs to use."""

from tersor.hardware import Axis, Compute, Datapath, Hardware, Memory

TOY = Hardware(
    "toy",
    1e9,
    (Compute("int8", 8),),
    (
        Memory("dram", 1 << 20, 1e9),
        Memory("sram", 1 << 12, 1e9, double_buffered=True, halo_reuse=True),
        Memory("pad", 64, 1e9),
    ),
    axes=(Axis("rows", 4, "sram", reduces=True), Axis("columns", 2, "sram")),
    datapath=Datapath(),
)
