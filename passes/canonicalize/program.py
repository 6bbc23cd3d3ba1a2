"""Program: a straight line of bindings and the values of its weights, read from and written to modules."""

from dataclasses import dataclass, field

import tvm

from tersor.ir.graph import Array, Builder, Expr, Graph, operands, rebind
from tersor.naming import unused_name


@dataclass
class Program:
    """A straight line of bindings, with the values of the weights beside them.

    `norm_scales` are the factors [K] of the batch norms that went into weights.
    """

    inputs: list[Expr]
    weights: dict[Expr, Array]
    bindings: list[tuple[Expr, Expr]]
    outputs: list[Expr]
    norm_scales: dict[Expr, Array] = field(default_factory=dict)


def pruned(program: Program) -> Program:
    """Drop the bindings and weights that no output needs, in place, and give the program."""
    live = {v for output in program.outputs for v in operands(output)}
    bindings = []
    for var, value in reversed(program.bindings):
        if var in live:
            live.update(operands(value))
            bindings.append((var, value))
    program.bindings = bindings[::-1]
    program.weights = {var: array for var, array in program.weights.items() if var in live}
    return program


def read(source: Graph) -> Program:
    """Take the function `main` of a module as a program."""
    function = source.mod["main"]
    # Unlike `source.bindings` these hold aliases and tuples, which the first round resolves.
    bindings = [(b.var, b.value) for block in function.body.blocks for b in block.bindings]
    scales = {var: scale for var in source.weights if (scale := source.norm_scales.get(var.name)) is not None}
    return Program(source.inputs, source.weights, bindings, source.outputs, scales)


def write(program: Program, source: Graph) -> tvm.IRModule:
    """Give the program as a module beside the other functions of `source`; no two weights share a name."""
    order = list(dict.fromkeys(v for _, value in program.bindings for v in operands(value)))
    order = [v for v in [*order, *program.outputs] if v in program.weights]
    taken = {var.name for var in program.inputs}
    builder = Builder(source)
    names: dict[Expr, str] = {}
    # A weight that stayed as it was has the first claim on its name.
    for var in sorted(order, key=lambda var: var not in source.weights):
        names[var] = unused_name(var.name, taken)
        taken.add(names[var])
    values: dict[Expr, Expr] = {v: builder.weight(names[v], program.weights[v]) for v in order}
    builder.norm_scales = {names[v]: program.norm_scales[v] for v in order if v in program.norm_scales}
    for var, value in program.bindings:
        values[var] = builder.emit(rebind(value, values))
    return builder.finish([rebind(output, values) for output in program.outputs])
