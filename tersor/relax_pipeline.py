"""Relax pipeline: compression as the pass for `tvm.compile`, by a plan, a config, a scheme or a contract.

compress > offload > lower > schedule > Relax's own lowering

tvm.compile(mod, target, relax_pipeline=tersor.pipeline(plan, statistics=statistics))
tvm.compile(mod, target, relax_pipeline=tersor.pipeline(Contract(max_drop=0.5), samples=samples))
"""

import warnings
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import numpy.typing as npt
import tvm
from tvm import relax
from tvm_ffi import register_error

from tersor.autoscheduler.driver import search
from tersor.autoscheduler.settings import Settings
from tersor.compression import canonical, compress, named
from tersor.config import Config
from tersor.error import UserError
from tersor.hardware import Hardware
from tersor.lowering import finish
from tersor.model import Model
from tersor.plan import Plan
from tersor.planning import check_edges, plan_for
from tersor.scheduler.contract import Contract
from tersor.statistics import Statistics
from tersor.targets.accelerator.offload.execution import register_executor
from tersor.targets.accelerator.offload.offload import Mappings, is_accelerator, offload, split_mappings
from tersor.targets.accelerator.offload.staying import Edges
from tersor.targets.cpu.host.detect import Host, host_of, host_of_target
from tersor.targets.cpu.lowering import lower
from tersor.targets.cpu.mapping.planned import check_planned

Array = npt.NDArray[Any]


def pipeline(
    request: Plan | Config | Contract | str = "int8",
    hardware: Hardware | None = None,
    statistics: Statistics | None = None,
    *,
    samples: Iterable[Mapping[str, Array]] | None = None,
    labels: Array | None = None,
    settings: Settings | None = None,
) -> Any:
    """Give the pass for `tvm.compile(mod, target, relax_pipeline=...)`.

    `request` is a plan, a config, the text of a scheme for every layer, or a contract; `mod` comes from
    `import_model`. `hardware` is a CPU, or an accelerator, which then gets what it can run of the network.
    The kernels for the CPU are by default for the instruction set of the target that is compiled for.

    Under a contract the pass searches for a plan of the module that it is given, as `tersor.search` does, and
    carries it out: `samples` are arrays by input name that calibrate and decide, with `labels` [samples] if
    there are some. If no plan keeps the contract it warns, and carries out the closest.

    Raises UserError for a contract without samples, samples without a contract and, when run, if the request
    needs activation ranges and `statistics` is missing.
    """
    given: list[Mapping[str, Array]] = []
    if isinstance(request, Contract):
        if samples is None:
            raise UserError("a contract is kept on data: pass samples=..., arrays by input name")
        if statistics is not None:
            raise UserError("a contract calibrates with its samples: leave out statistics=...")
        given = list(samples)
    elif samples is not None or labels is not None or settings is not None:
        raise UserError("samples, labels and settings are for a search: pass a tersor.Contract with them")
    cpu, accelerator = (None, hardware) if is_accelerator(hardware) else (hardware, None)

    @tvm.transform.module_pass(opt_level=0, name="tersor.pipeline")
    def run(mod: tvm.IRModule, _context: Any) -> tvm.IRModule:
        host = _current_host() if cpu is None else host_of(cpu)
        mod = canonical(mod)
        if isinstance(request, Contract):
            model = Model("module", mod, host, accelerator=accelerator)
            wanted, known = _searched(model, request, given, labels, settings)
        else:
            wanted, known = request, statistics
        plan = plan_for(wanted, mod, host, known)
        check_edges(plan, accelerator)
        compressed, mappings = compress(mod, plan, known), plan.mappings
        if accelerator is not None:
            theirs, mappings = split_mappings(mappings, accelerator)
            offloading = partial(_offload, hardware=accelerator, mappings=theirs, edges=plan.edges)
            compressed = named("offload", offloading)(compressed)
        return finish(named("lower", partial(_lower, host=host, mappings=mappings))(compressed), host)

    return run


def _searched(
    model: Model,
    contract: Contract,
    samples: list[Mapping[str, Array]],
    labels: Array | None,
    settings: Settings | None,
) -> tuple[Plan, Statistics]:
    """Search as if nothing was being compiled: the passes of what it compiles are not those of the user."""
    with tvm.transform.PassContext():
        found = search(model, samples, contract, settings, evaluation=samples, labels=labels)
    if not found.report.kept:
        warnings.warn(f"no plan keeps the bound on {found.report.binding}: this is the closest", stacklevel=2)
    return found.plan, found.compiled.statistics


def _offload(mod: tvm.IRModule, hardware: Hardware, mappings: Mappings, edges: Edges) -> tvm.IRModule:
    return offload(mod, hardware, mappings, edges=edges).mod


def _lower(mod: tvm.IRModule, host: Host, mappings: Mappings) -> tvm.IRModule:
    lowered = lower(mod, host.isa, host.cores, mappings=mappings)
    check_planned(mappings, [lowered.mappings])
    return lowered.mod


def _current_host() -> Host:
    target = tvm.target.Target.current()
    if target is None:
        raise UserError("compile within a target, or say which CPU by hardware=...")
    return host_of_target(target)


def _register() -> None:
    relax.pipeline.register_pipeline("tersor")(pipeline)
    # Without these, what a pass raises leaves tvm.compile as a RuntimeError.
    register_error("UserError", UserError)
    register_error("KeyboardInterrupt", KeyboardInterrupt)
    register_executor()


_register()
