"""Partition: composites become functions that a compiler of their own takes, neighbours in one.

    main: y = requantize(conv2d(x, w) + b, m); z = requantize(conv2d(y, v) + c, n); softmax(z)
        ->  main: z = region(x, w, b, m, v, c, n); softmax(z)
            region: conv2d.0 and conv2d.1, each with what it computes as its body

Merged by TVM's own MergeCompositeFunctions, so a region never needs what is made of its results.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from tersor.document import to_json
from tersor.ir.graph import Builder, Expr, Graph, Module, operands, rebind
from tersor.ir.join import renamed
from tersor.ir.untyped import relax
from tersor.targets.accelerator.offload.composite import Composite
from tersor.targets.accelerator.offload.region import Task

COMPILER = "tersor"
TASK = "tersor.task"


def partition(mod: Module, composites: Sequence[Composite]) -> Module:
    """Move the bindings of composites, whose tasks have programs, into functions, neighbours into one.

    A function's name is made of what it does, so that equal ones of several modules may meet.
    """
    merged: Module = relax.transform.MergeCompositeFunctions()(_with_functions(mod, composites))
    names = {
        var: f"{COMPILER}_{sha256(function.script(show_meta=True).encode()).hexdigest()[:16]}"
        for var, function in merged.functions.items()
        if isinstance(function, relax.Function) and "Codegen" in (function.attrs or {})
    }
    return renamed(merged, names)


def _with_functions(mod: Module, composites: Sequence[Composite]) -> Module:
    graph = Graph(mod)
    builder = Builder(graph)
    found = {composite.result: composite for composite in composites}
    needed = _needed(graph, found)
    values: dict[Expr, Expr] = {var: var for var in graph.inputs}
    for var, weight in graph.weights.items():
        if var in needed:
            values[var] = builder.weight(var.name, weight)
    for var, value in graph.bindings:
        if var not in needed:
            continue
        if var in found:
            composite = found[var]
            function = builder.add_func(_function(composite), f"{COMPILER}_{composite.kind}")
            call = relax.Call(function, [values[each] for each in composite.reads])
            values[var] = builder.emit(call, var.name)
        else:
            values[var] = builder.emit(rebind(value, values), var.name)
    return builder.finish([values[output] for output in graph.outputs])


def _function(composite: Composite) -> Any:
    """Write a composite as a function of what it reads, with its task as an attribute."""
    params = [relax.Var(f"p{i}", read.ty) for i, read in enumerate(composite.reads)]
    values: dict[Expr, Expr] = dict(zip(composite.reads, params, strict=True))
    attrs = {
        "Primitive": True,
        "Composite": f"{COMPILER}.{composite.kind}",
        TASK: to_json(composite.task, Task),
    }
    block = relax.BlockBuilder()
    with block.function("composite", params, attrs=attrs, private=True):
        with block.dataflow():
            for var, value in composite.bindings[:-1]:
                values[var] = block.emit(rebind(value, values))
            result = block.emit_output(rebind(composite.bindings[-1][1], values))
        block.emit_func_output(result)
    (function,) = block.finalize().functions.values()
    return function


def _needed(graph: Graph, found: Mapping[Expr, Composite]) -> set[Expr]:
    """Give what the outputs depend on, composites reading what comes from outside of them."""
    needed = {output for output in graph.outputs if isinstance(output, relax.Var)}
    for var, value in reversed(graph.bindings):
        if var in needed:
            needed.update(found[var].reads if var in found else operands(value))
    return needed
