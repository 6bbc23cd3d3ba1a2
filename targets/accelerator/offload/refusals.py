"""Refusals: why an operator of the integer graph stays on the CPU."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from tersor.hardware import Hardware
from tersor.ir.graph import Expr, Graph, operands, operator, shape_of
from tersor.ir.operators import call_arguments, read_marker, read_operator
from tersor.ir.recurrent import read_cell
from tersor.targets.accelerator.legality import why_no_layer
from tersor.targets.accelerator.lowering.vector import why_no_vector
from tersor.targets.accelerator.offload.composite import ArrayWork, Composite

MOVERS = ("reshape", "permute_dims", "concat", "strided_slice", "split", "squeeze", "expand_dims", "flatten")
INTERIOR = ("nn.pad", "nn.conv2d", "matmul", "product", "add")  # of a layer, before its requantization
BETWEEN = ("quantize", "dequantize", "row_scale", "quantize_rows")


@dataclass(frozen=True)
class Refusal:
    """An operator, or a layer of that name, that stays on the CPU; `macs` are its products."""

    name: str
    reason: str
    macs: int = 0


def why_not(composite: Composite, hardware: Hardware) -> str | None:
    """Say why `hardware` cannot run a composite, or None if it can."""
    match composite.work:
        case ArrayWork(layer, scheme, _):
            return why_no_layer(layer, scheme, hardware)
        case work:
            return why_no_vector(work.name, work.operator, work.shape, hardware)


def find_refusals(
    graph: Graph, taken: Sequence[Composite], refused: Mapping[Expr, Refusal], hardware: Hardware
) -> tuple[Refusal, ...]:
    """Give the reason of each operator that is in none of the composites that were taken, in order.

    Of composites that were `refused`, by their results, the reason is known. What is computed of constants
    alone is done when the library is loaded, and is left out.
    """
    inside = {var for composite in taken for var, _ in composite.bindings}
    constant: set[Expr] = set(graph.weights)
    seen: Counter[str] = Counter()
    found: list[Refusal] = []
    for var, value in graph.bindings:
        read = operands(value)
        if read and all(each in constant for each in read):
            constant.add(var)
        elif var in refused:
            found.append(refused[var])
        elif var not in inside and not _leads_to(graph, var, refused):
            name = _name(graph, value)
            seen[name] += 1
            reason = _reason(graph, value, name, hardware)
            found.append(Refusal(f"{name}.{seen[name]}", reason, _macs(graph, var, value)))
    return tuple(found)


def _leads_to(graph: Graph, var: Expr, refused: Mapping[Expr, Refusal]) -> bool:
    """Whether a binding is a part of a composite that was refused."""
    while (user := graph.only_user(var)) is not None and _name(graph, graph.definition(var)) in INTERIOR:
        if user in refused:
            return True
        var = user
    return False


def _name(graph: Graph, value: Expr) -> str:
    name = operator(value)
    return str(read_marker(graph.mod, value).get("operator", name)) if name == "call_tir" else name


def _reason(graph: Graph, value: Expr, name: str, hardware: Hardware) -> str:
    if name in BETWEEN:
        return f"goes between floating-point numbers and codes; {hardware.name} has only the codes"
    if read_cell(graph.mod, value) is not None:
        return "its steps need one another's results, and gates between them are floating point"
    if name == "gather_rows" or name == "take":
        return "looks rows up and multiplies nothing"
    if name in MOVERS or name == "nn.pad":
        return "moves data and computes nothing"
    if all(str(operand.ty.dtype).startswith("float") for operand in operands(value)):
        return f"computes in floating point, {hardware.name}'s programs in integers"
    if read_operator(graph.mod, value) is not None or name in ("nn.conv2d", "matmul", "add"):
        return "is not part of a layer with one requantization at its end"
    return f"no instruction of {hardware.name} does it"


def _macs(graph: Graph, var: Expr, value: Expr) -> int:
    """Products of an operator that multiplies."""
    match _name(graph, value):
        case "nn.conv2d":
            return prod(shape_of(var)) * prod(shape_of(value.args[1])[1:])
        case "matmul":
            return prod(shape_of(var)) * shape_of(value.args[0])[-1]
        case "product":
            return prod(shape_of(var)) * shape_of(call_arguments(value)[0])[-1]
        case _:
            return 0
