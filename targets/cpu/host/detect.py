"""Detect: the host CPU as hardware, from its own flags.

LLVM's name for the host is not trusted: on virtual machines it can name a CPU with other features.
"""

import ctypes
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tersor.error import UserError
from tersor.hardware import Compute, Hardware, Memory
from tersor.ir.untyped import tvm
from tersor.targets.cpu.host.isa import ISAS, PLAIN, Isa

# arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA): Linux, Documentation/arch/x86/xstate.rst.
TILE_PERMISSION = (158, 0x1023, 18)


@dataclass(frozen=True)
class Host:
    """A CPU to compile for: its instruction set and how many cores share the work."""

    isa: Isa
    cores: int

    @property
    def target(self) -> Any:
        """TVM's description of it."""
        described: dict[str, object] = {"kind": "llvm", "num-cores": self.cores}
        if self.isa.mcpu:
            described["mcpu"] = self.isa.mcpu
        if self.isa.lanes > PLAIN.lanes:
            # LLVM would keep constants of an epilogue in registers all through the sums before it, and spill
            # a sum in their stead: up to 4 times slower.
            described["cl-opt"] = ["-disable-machine-licm:bool=true"]
        if self.isa.features:
            described["mattr"] = [f"+{feature}" for feature in self.isa.features]
        return tvm.target.Target(described)


def detect(isa: str | None = None, cores: int | None = None) -> Host:
    """Describe the CPU this runs on; `isa` forces a narrower instruction set than the CPU has.

    Raises UserError for an instruction set that is unknown or that the CPU lacks.
    """
    flags = cpu_flags()
    available = [each for each in ISAS if set(each.flags) <= flags]
    chosen = available[0]
    if isa is not None:
        known = {each.name: each for each in ISAS}
        if isa not in known:
            raise UserError(f"unknown instruction set {isa!r}: choose one of {', '.join(known)}")
        chosen = known[isa]
        if chosen not in available:
            names = ", ".join(each.name for each in available)
            raise UserError(f"this CPU cannot run {isa}: choose one of {names}")
    return Host(chosen, cores or _usable_cores())


def _usable_cores() -> int:
    """Give the cores this process may use; not every system lets it ask for fewer than all."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def cpu_flags() -> frozenset[str]:
    """Give the features of this CPU that a process may use; none are known on other systems than Linux."""
    path = Path("/proc/cpuinfo")
    if platform.machine() not in ("x86_64", "AMD64") or not path.exists():
        return frozenset(PLAIN.flags)
    for line in path.read_text().splitlines():
        if line.startswith("flags"):
            flags = frozenset(line.partition(":")[2].split())
            denied = "amx_tile" in flags and not tiles_permitted()
            return frozenset(f for f in flags if not f.startswith("amx")) if denied else flags
    return frozenset()


def tiles_permitted() -> bool:
    """Ask the kernel to let this process use tiles, and tell whether it does; once granted, it stays."""
    syscall = getattr(ctypes.CDLL(None), "syscall", None)
    return syscall is not None and syscall(*map(ctypes.c_long, TILE_PERMISSION)) == 0


# One nominal clock for all: the host's own changes by the second, and a plan must not.
NOMINAL_CLOCK = 2.5e9

# Multiply-accumulates per cycle and core that this project's kernels sustain in their inner loops.
_MACS_PER_CYCLE = {
    "amx": {"fp32": 32.0, "int8": 400.0},
    "avx512-vnni": {"fp32": 32.0, "int8": 128.0},
    "avx512": {"fp32": 32.0, "int8": 48.0},
    "avx-vnni": {"fp32": 16.0, "int8": 64.0},
    "avx2": {"fp32": 16.0, "int8": 28.0},
    "plain": {"fp32": 4.0, "int8": 2.0},
}


def cpu_name() -> str:
    """Give what the kernel calls this CPU, or its architecture where it says nothing."""
    path = Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def macs_per_cycle(isa: Isa, precision: str) -> float:
    """Give the multiply-accumulates that the kernels sustain per cycle and core."""
    return _MACS_PER_CYCLE[isa.name][precision]


def host_of(described: Hardware) -> Host:
    """Give the host that `hardware` described. Raises UserError for hardware that is no CPU."""
    known = {each.name: each for each in ISAS}
    isa = known.get(described.features[0]) if described.features else None
    if isa is None:
        raise UserError(f"{described.name} is not a CPU this can compile for: leave the hardware out")
    return Host(isa, described.cores)


def host_of_target(target: Any) -> Host:
    """Give the widest instruction set that a TVM target allows."""
    features = tvm.target.codegen.llvm_get_cpu_features(target)
    enabled = {str(name) for name in features}
    isa = next(each for each in ISAS if set(each.features) <= enabled)
    cores = int(target.attrs["num-cores"]) if "num-cores" in target.attrs else _usable_cores()
    return Host(isa, cores)


def hardware(host: Host) -> Hardware:
    """Describe the host as the scheduler sees it: rates and bandwidths are nominal, energies unknown."""
    rates = _MACS_PER_CYCLE[host.isa.name]
    return Hardware(
        name=f"cpu-{host.isa.name}",
        clock=NOMINAL_CLOCK,
        compute=tuple(Compute(precision, rate * host.cores) for precision, rate in rates.items()),
        memories=(
            Memory("dram", 1 << 40, 15e9),
            Memory("cache", 1 << 19, 100e9),
        ),
        cores=host.cores,
        features=(host.isa.name, *host.isa.flags),
    )
