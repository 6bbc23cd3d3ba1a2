"""Lowering: the pipeline from a canonical float module and a plan to kernels, for `tvm.compile`.

compress > offload > lower > schedule > Relax's own lowering

tvm.compile(mod, target, relax_pipeline=tersor.pipeline(plan, statistics=statistics))
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import tvm
from tvm import relax
from tvm.relax.backend.cpu_generic.pipeline import dataflow_lower_passes
from tvm_ffi import register_error

from tersor.compression import canonical, compress, named
from tersor.config import Config
from tersor.error import UserError
from tersor.hardware import Hardware
from tersor.ir.elementary import legalizations
from tersor.ir.graph import bind_weights
from tersor.ir.join import join
from tersor.plan import Plan
from tersor.planning import plan_for
from tersor.statistics import Statistics
from tersor.targets.accelerator.offload.offload import Mappings, is_accelerator, offload, split_mappings
from tersor.targets.cpu.decode_once import decode_once
from tersor.targets.cpu.host.detect import Host, host_of, host_of_target
from tersor.targets.cpu.host.guard import guard
from tersor.targets.cpu.lowering import Lowered, lower
from tersor.targets.cpu.mapping.planned import check_planned
from tersor.targets.cpu.memory import plan_memory
from tersor.targets.cpu.schedule import compact, schedule_module

# Passes of TVM's lowering that take a third of its time for nothing: the first has been done by then to all
# that needs it (see `compact`), the others are for GPUs.
IDLE_PASSES = ("s_tir.CompactBufferAllocation", "s_tir.InjectVirtualThread", "s_tir.InjectPermutedLayout")


def pipeline(
    request: Plan | Config | str = "int8",
    hardware: Hardware | None = None,
    statistics: Statistics | None = None,
) -> Any:
    """Give the pass for `tvm.compile(mod, target, relax_pipeline=...)`.

    `request` is a plan, a config, or the text of a scheme for every layer; `mod` comes from `import_model`.
    `hardware` is a CPU, or an accelerator, which then gets what it can run of the network. The kernels for
    the CPU are by default for the instruction set of the target that is compiled for. Raises UserError, when
    run, if the request needs activation ranges and `statistics` is missing.
    """
    cpu, accelerator = (None, hardware) if is_accelerator(hardware) else (hardware, None)

    @tvm.transform.module_pass(opt_level=0, name="tersor.pipeline")
    def run(mod: tvm.IRModule, _context: Any) -> tvm.IRModule:
        host = _current_host() if cpu is None else host_of(cpu)
        mod = canonical(mod)
        plan = plan_for(request, mod, host, statistics)
        compressed, mappings = compress(mod, plan, statistics), plan.mappings
        if accelerator is not None:
            theirs, mappings = split_mappings(mappings, accelerator)
            compressed = named("offload", partial(_offload, hardware=accelerator, mappings=theirs))(
                compressed
            )
        return finish(named("lower", partial(_lower, host=host, mappings=mappings))(compressed), host)

    return run


def _offload(mod: tvm.IRModule, hardware: Hardware, mappings: Mappings) -> tvm.IRModule:
    return offload(mod, hardware, mappings).mod


def _lower(mod: tvm.IRModule, host: Host, mappings: Mappings) -> tvm.IRModule:
    lowered = lower(mod, host.isa, host.cores, mappings=mappings)
    check_planned(mappings, [lowered.mappings])
    return lowered.mod


def _register() -> None:
    @relax.pipeline.register_pipeline("tersor")
    def _by_name(
        request: Plan | Config | str = "int8",
        hardware: Hardware | None = None,
        statistics: Statistics | None = None,
    ) -> Any:
        return pipeline(request, hardware, statistics)

    # Without these, what a pass raises leaves tvm.compile as a RuntimeError.
    register_error("UserError", UserError)
    register_error("KeyboardInterrupt", KeyboardInterrupt)


_register()


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


def _current_host() -> Host:
    target = tvm.target.Target.current()
    if target is None:
        raise UserError("compile within a target, or say which CPU by hardware=...")
    return host_of_target(target)
