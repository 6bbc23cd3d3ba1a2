"""Lowering: from modules of kernels to what the virtual machine runs, and to an executable.

schedule > Relax's own lowering > code
"""

from collections.abc import Mapping, Sequence
from typing import Any

import tvm
from tvm import relax
from tvm.relax.backend.cpu_generic.pipeline import dataflow_lower_passes

from tersor.ir.elementary import legalizations
from tersor.ir.graph import bind_weights
from tersor.ir.join import join
from tersor.targets.cpu.decode_once import decode_once
from tersor.targets.cpu.host.detect import Host
from tersor.targets.cpu.host.guard import guard
from tersor.targets.cpu.lowering import Lowered
from tersor.targets.cpu.memory import plan_memory
from tersor.targets.cpu.schedule import compact, schedule_module

# Passes of TVM's lowering that take a third of its time for nothing: the first has been done by then to all
# that needs it (see `compact`), the others are for GPUs.
IDLE_PASSES = ("s_tir.CompactBufferAllocation", "s_tir.InjectVirtualThread", "s_tir.InjectPermutedLayout")


def finish(mod: tvm.IRModule, host: Host) -> tvm.IRModule:
    """Lower a module of kernels to what the virtual machine runs; the rest gets a CPU schedule."""
    with host.target:
        passes = [
            tvm.transform.module_pass(lambda m, _: bind_weights(m), opt_level=0, name="tersor.bind_weights"),
            tvm.transform.module_pass(lambda m, _: decode_once(m), opt_level=0, name="tersor.decode_once"),
            relax.transform.DeadCodeElimination(),
            relax.backend.DispatchSortScan(),
            relax.transform.LegalizeOps(legalizations()),
            relax.transform.AnnotateTIROpPattern(),
            relax.transform.FuseOps(),
            relax.transform.FuseTIR(),
            relax.transform.DeadCodeElimination(),
            tvm.transform.module_pass(
                lambda m, _: schedule_module(m, host.isa.lanes), opt_level=0, name="tersor.schedule"
            ),
            *dataflow_lower_passes(host.target),
            *_machine_passes(),
            tvm.transform.module_pass(lambda m, _: guard(m, host.isa), opt_level=0, name="tersor.guard"),
        ]
        return tvm.transform.Sequential(passes)(mod)


def _machine_passes() -> list[Any]:
    """Give the passes from calls of kernels to the virtual machine's instructions.

    TVM's own pipeline releases each tensor by an instruction of its own; here their blocks end with the run.
    """
    return [
        tvm.transform.module_pass(lambda m, _: plan_memory(m), opt_level=0, name="tersor.plan_memory"),
        relax.transform.LowerAllocTensor(),
        relax.transform.LowerRuntimeBuiltin(),
        relax.transform.ComputePrimValue(),
        relax.transform.VMShapeLower(),
        relax.transform.AttachGlobalSymbol(),
    ]


def build(lowered: Lowered | Mapping[str, Lowered], host: Host) -> Any:
    """Compile modules of kernels to one executable with a function for each; of one it is `main`."""
    return generate(finished(lowered, host), host)


def finished(lowered: Lowered | Mapping[str, Lowered], host: Host) -> tvm.IRModule:
    """Join modules of kernels and lower them as far as can be without making code; of one it is `main`."""
    named = {"main": lowered} if isinstance(lowered, Lowered) else lowered
    with _without(IDLE_PASSES):
        return compact(finish(join({name: each.mod for name, each in named.items()}), host))


def generate(mod: tvm.IRModule, host: Host) -> Any:
    """Make an executable of a finished module."""
    with _without(IDLE_PASSES):
        return tvm.compile(mod, host.target, relax_pipeline=None)


def _without(passes: Sequence[str]) -> Any:
    """Give the surrounding context without some passes."""
    context: Any = tvm.transform.PassContext.current()
    return tvm.transform.PassContext(
        opt_level=context.opt_level,
        required_pass=list(context.required_pass),
        disabled_pass=[*context.disabled_pass, *passes],
        instruments=list(context.instruments),
        config=dict(context.config),
    )
