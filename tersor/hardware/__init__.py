"""Hardware: what a machine computes with, what it remembers in, and what both cost; a TOML file.

The host CPU is flat, compute and memories, and is detected; an accelerator also says how its units are laid
out (`axes`) and how they multiply (`datapath`). `machine.py` shows a file.
"""

from tersor.hardware.axis import Axis
from tersor.hardware.compute import Compute
from tersor.hardware.datapath import Datapath
from tersor.hardware.machine import Hardware
from tersor.hardware.memory import Memory
from tersor.hardware.representation import Representation

__all__ = ["Axis", "Compute", "Datapath", "Hardware", "Memory", "Representation"]
