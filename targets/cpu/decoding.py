"""Decoding: weights that are computed from constants get the kernels of weights that are stored as they are.

    conv2d(x, decode(values))  ->  conv2d(x, w)  ->  kernel(x, packed w)  ->  kernel(x, pack(decode(values)))

The layers are lowered as if their weights were dense, and then read what a run decodes and brings to the
kernel's order. Whatever the chain computes, its operators define it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tersor.ir.decoders import read_decoder
from tersor.ir.graph import Array, Builder, Expr, Graph, Module, operands, operator, rebind, shape_of
from tersor.ir.operators import GatherRows, call_arguments, read_operator
from tersor.ir.recurrent import read_cell
from tersor.ir.untyped import relax, tvm
from tersor.targets.cpu.layout.order import Arrangement


@dataclass(frozen=True, eq=False)
class Chain:
    """The bindings that compute a layer's weight, which is the last of them, and the constants they read."""

    layer: str
    bindings: tuple[tuple[Expr, Expr], ...]
    constants: Mapping[Expr, Array]

    def emit(self, builder: Builder, functions: Module) -> Expr:
        """Emit the bindings, whose PrimFuncs are in `functions`, and give the weight."""
        values = {var: builder.weight(var.name, value) for var, value in self.constants.items()}
        for var, value in self.bindings:
            values[var] = builder.emit(_recalled(rebind(value, values), builder, functions), var.name)
        return values[self.bindings[-1][0]]


@dataclass(frozen=True)
class DecodedWeight:
    """What is stored of a layer's weight, by name, and the bytes of it as its kernels read it."""

    stored: tuple[str, ...]
    bytes: int


def find_chains_of_weights(mod: Module) -> dict[str, Chain]:
    """Find the weights of layers and tables that are computed from constants alone, by layer.

    A layer is named by the `.values` that its chain reads, or by the first constant.
    """
    graph = Graph(mod)
    constant: set[Expr] = set()
    for var, value in graph.bindings:
        read = operands(value)
        if read and all(each in graph.weights or each in constant for each in read):
            constant.add(var)
    read_as_weights = [_weight_operand(graph, value) for var, value in graph.bindings if var not in constant]
    heads = dict.fromkeys(var for var in read_as_weights if var in constant)
    chains = [_chain(graph, head) for head in heads]
    return {chain.layer: chain for chain in chains}


def with_dense_weights(mod: Module, chains: Mapping[str, Chain]) -> Module:
    """Give the module with the values of the chains as stored weights, under the names of their layers."""
    if not chains:
        return mod
    graph = Graph(mod)
    heads = {chain.bindings[-1][0]: layer for layer, chain in chains.items()}
    values: dict[Expr, Expr] = {var: var for var in graph.inputs}
    needed = _needed(graph, heads)
    builder = Builder(graph)
    for var, weight in graph.weights.items():
        if var in needed:
            values[var] = builder.weight(var.name, weight)
    for (head, layer), weight in zip(heads.items(), evaluate(mod, list(chains.values())), strict=True):
        values[head] = builder.weight(layer, weight)
    for var, value in graph.bindings:
        if var in needed and var not in heads:
            values[var] = builder.emit(rebind(value, values), var.name)
    return builder.finish([values[output] for output in graph.outputs])


def evaluate(mod: Module, chains: Sequence[Chain]) -> list[Array]:
    """Compute the weights: the steps of `tersor.formats` in numpy, others in plain code for this CPU."""
    found = [_decoded_by_numpy(mod, chain) for chain in chains]
    others = [chain for chain, weight in zip(chains, found, strict=True) if weight is None]
    computed = iter(_run(mod, others) if others else [])
    return [next(computed) if weight is None else weight for weight in found]


def _decoded_by_numpy(mod: Module, chain: Chain) -> Array | None:
    values = dict(chain.constants)
    for var, value in chain.bindings:
        step = read_decoder(mod, value)
        if step is None:
            return None
        values[var] = step.run(*(values[argument] for argument in call_arguments(value)))
    return values[chain.bindings[-1][0]]


def _run(mod: Module, chains: Sequence[Chain]) -> list[Array]:
    builder = relax.BlockBuilder()
    with builder.function("main", []):
        with builder.dataflow():
            results = []
            for chain in chains:
                values = {var: relax.const(value) for var, value in chain.constants.items()}
                for var, value in chain.bindings:
                    values[var] = builder.emit(_recalled(rebind(value, values), builder, mod))
                results.append(values[chain.bindings[-1][0]])
            result = builder.emit_output(relax.Tuple(results))
        builder.emit_func_output(result)
    executable = tvm.compile(builder.finalize(), tvm.target.Target({"kind": "llvm"}))
    return [tensor.numpy() for tensor in relax.VirtualMachine(executable, tvm.cpu())["main"]()]


def decode_at_run_time(
    lowered: Module,
    source: Module,
    chains: Mapping[str, Chain],
    packed: Mapping[str, tuple[str, Arrangement]],
) -> tuple[Module, dict[str, DecodedWeight]]:
    """Let a module of kernels compute the constants that were packed from dense weights.

    `packed` gives layer and arrangement of constants of `lowered`; `source` has the chains' PrimFuncs.
    """
    graph = Graph(lowered)
    builder = Builder(graph)
    values: dict[Expr, Expr] = {var: var for var in graph.inputs}
    dense: dict[str, Expr] = {}
    found: dict[str, DecodedWeight] = {}
    for var, weight in graph.weights.items():
        layer, arrangement = packed.get(var.name, ("", None))
        if arrangement is None or layer not in chains:
            values[var] = builder.weight(var.name, weight)
            continue
        chain = chains[layer]
        if layer not in dense:
            dense[layer] = chain.emit(builder, source)
        values[var] = _emit_packed(builder, dense[layer], arrangement)
        names = tuple(each.name for each in chain.constants)
        more = found[layer].bytes if layer in found else 0
        found[layer] = DecodedWeight(names, weight.nbytes + more)
    for var, value in graph.bindings:
        values[var] = builder.emit(rebind(value, values), var.name)
    return builder.finish([values[output] for output in graph.outputs]), found


def _emit_packed(builder: Builder, dense: Expr, arrangement: Arrangement) -> Expr:
    shape, dtype = shape_of(dense), str(dense.ty.dtype)
    function = arrangement.function(shape, dtype)
    result = tuple(int(extent) for extent in function.params[-1].shape)
    return dense if result == shape else builder.call(function, "pack_weight", [dense], result, dtype)


def _weight_operand(graph: Graph, value: Expr) -> Expr | None:
    """Give the operand that is a weight where it is stored."""
    match operator(value):
        case "nn.conv2d" | "matmul":
            return value.args[1]
        case "take":
            return value.args[0]
        case "call_tir" if isinstance(read_operator(graph.mod, value), GatherRows):
            return call_arguments(value)[0]
        case "call_tir" if read_cell(graph.mod, value) is not None:
            return call_arguments(value)[1]
        case _:
            return None


def _chain(graph: Graph, head: Expr) -> Chain:
    reached: set[Expr] = {head}
    bindings = []
    for var, value in reversed(graph.bindings):
        if var in reached:
            bindings.append((var, value))
            reached.update(operands(value))
    bindings.reverse()
    read = [operand for _, value in bindings for operand in operands(value)]
    constants = {var: graph.weights[var] for var in dict.fromkeys(read) if var in graph.weights}
    names = [var.name for var in constants]
    values = next((name for name in names if ".values" in name), names[0])
    layer = values.partition(".values")[0]
    return Chain(layer, tuple(bindings), constants)


def _needed(graph: Graph, heads: Iterable[Expr]) -> set[Expr]:
    """Give what the outputs depend on, up to the heads."""
    heads = set(heads)
    needed = {output for output in graph.outputs if isinstance(output, relax.Var)}
    for var, value in reversed(graph.bindings):
        if var in needed and var not in heads:
            needed.update(operands(value))
    return needed


def _recalled(value: Expr, builder: Any, functions: Module) -> Expr:
    """Give a call with its PrimFunc taken over from `functions`."""
    if operator(value) != "call_tir":
        return value
    target = builder.add_func(functions[value.args[0]], value.args[0].name_hint)
    return relax.Call(value.op, [target, *value.args[1:]], value.attrs, value.ty_args)
