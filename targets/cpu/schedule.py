"""A CPU schedule for all that has no kernel of its own: elementwise chains, layouts, pools, reductions.

Spatial loops are fused and run in parallel, the innermost is vectorised; a reduction keeps its loops between
the two. TVM's own CPU pipeline leaves all of these as serial scalar loops.
"""

from typing import Any

from tvm_ffi import structural_walk

from tersor.ir.graph import Module
from tersor.ir.untyped import s_tir, tirx, tvm
from tersor.targets.cpu.host.isa import KERNEL
from tersor.targets.cpu.host.threads import worth_sharing_elements

# Elements that a task of an elementwise function computes.
TASK_ELEMENTS = 4096


def schedule_module(mod: Module, lanes: int) -> Module:
    """Schedule every PrimFunc that is not scheduled yet."""
    scheduled = tvm.IRModule(dict(mod.functions.items()), attrs=mod.attrs)
    for name, function in mod.functions.items():
        if not isinstance(function, tirx.PrimFunc) or _is_scheduled(function):
            continue
        scheduled.update_func(name, schedule_function(function, lanes))
    return scheduled


def compact(mod: Module) -> Module:
    """Shrink the buffers of all that is no kernel to what is used of them at a time.

    TVM's own lowering does it to all functions. Where loops are unrolled, as in kernels, this takes a third
    of the time of all its passes, and finds no more than a few bytes at the end of their scratch.
    """
    compacted = tvm.IRModule(dict(mod.functions.items()), attrs=mod.attrs)
    others = {
        name: function
        for name, function in mod.functions.items()
        if isinstance(function, tirx.PrimFunc) and not (function.attrs and KERNEL in function.attrs)
    }
    small = tvm.IRModule(others)
    for name in ("LowerInitBlock", "PlanAndUpdateBufferAllocationLocation", "ConvertBlocksToOpaque"):
        small = getattr(s_tir.transform, name)()(small)
    small = s_tir.transform.CompactBufferAllocation()(small)
    for name in others:
        compacted.update_func(name, small[name.name_hint])
    return compacted


def schedule_function(function: Any, lanes: int) -> Any:
    """Schedule one PrimFunc; what does not fit the pattern stays as it is."""
    if not _has_root(function):
        return function
    schedule = s_tir.Schedule(function)
    blocks = [block for block in _compute_blocks(schedule)]
    for block in blocks[:-1]:
        _inline(schedule, block)
    for block in _compute_blocks(schedule):
        _schedule_block(schedule, block, lanes)
    return schedule.mod["main"].with_attr("tirx.is_scheduled", True)


def _is_scheduled(function: Any) -> bool:
    return function.attrs is not None and "tirx.is_scheduled" in function.attrs


def _has_root(function: Any) -> bool:
    """Whether the loops stand in a root block; a call of TVM's runtime, as sorting is one, has none."""
    return isinstance(function.body, s_tir.SBlockRealize) and function.body.block.name_hint == "root"


def _compute_blocks(schedule: Any) -> list[Any]:
    root = schedule.get_sblock("root")
    return list(schedule.get_child_blocks(root))


def _inline(schedule: Any, block: Any) -> None:
    """Inline an elementwise producer; a reduction cannot be, and stays."""
    try:
        schedule.compute_inline(block)
    except s_tir.ScheduleError:
        return


def _schedule_block(schedule: Any, block: Any, lanes: int) -> None:
    loops = schedule.get_loops(block)
    kinds = [iterator.iter_type for iterator in schedule.get(block).iter_vars]
    if len(kinds) != len(loops) or not loops:
        return
    spatial = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == tirx.IterVar.DataPar]
    reduction = [loop for loop, kind in zip(loops, kinds, strict=True) if kind != tirx.IterVar.DataPar]
    if not spatial:
        return
    extents = [int(schedule.get(loop).extent) for loop in spatial]
    size = 1
    for extent in extents:
        size *= extent
    if reduction:
        _schedule_reduction(schedule, block, spatial, reduction, size, lanes)
        return
    fused = schedule.fuse(*spatial)
    width = lanes * 4
    if size % width or size <= width:
        width = next((w for w in (lanes * 2, lanes, 4) if size % w == 0 and size > w), 1)
    if width == 1:
        return
    outer, inner = schedule.split(fused, [None, width])
    schedule.vectorize(inner)
    if worth_sharing_elements(lanes, size, _operations(schedule, block)):
        outer, _ = schedule.split(outer, [None, max(1, TASK_ELEMENTS // width)])
        schedule.parallel(outer)


def _operations(schedule: Any, block: Any) -> int:
    """Count the arithmetic of one iteration of a block."""
    arithmetic = (tirx.expr.BinaryOpExpr, tirx.Select, tirx.Cast, tvm.ir.Call)
    nodes: list[bool] = []
    # TVM's own count of operations knows no `Let`, which elementary functions are written with.
    structural_walk(schedule.get(block).body, lambda node: nodes.append(isinstance(node, arithmetic)))
    return sum(nodes)


def _schedule_reduction(
    schedule: Any, block: Any, spatial: list[Any], reduction: list[Any], size: int, lanes: int
) -> None:
    """Order the loops outer spatial, reduction, vector; the last spatial axis is taken to be contiguous."""
    extent = int(schedule.get(spatial[-1]).extent)
    width = next((w for w in (lanes * 4, lanes * 2, lanes) if extent % w == 0), 0)
    work = size
    for loop in reduction:
        work *= int(schedule.get(loop).extent)
    shared = worth_sharing_elements(lanes if width else 1, work, _operations(schedule, block))
    if width:
        outer, inner = schedule.split(spatial[-1], [None, width])
        spatial = [*spatial[:-1], outer]
        schedule.reorder(*spatial, *reduction, inner)
        schedule.vectorize(inner)
    else:
        schedule.reorder(*spatial, *reduction)
    if shared and int(schedule.get(spatial[0]).extent) * len(spatial) > 1:
        fused = schedule.fuse(*spatial)
        schedule.parallel(fused)
    else:
        fused = spatial[0]
    schedule.decompose_reduction(block, reduction[0])
