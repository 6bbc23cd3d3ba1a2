"""Decoding: weights that are computed from constants get the kernels of weights that are stored as they are.

    conv2d(x, decode(values))  ->  conv2d(x, w)  ->  kernel(x, packed w)  ->  kernel(x, pack(decode(values)))

The layers are lowered as if their weights were dense, and then read what a run decodes and brings to the
kernel's order. Whatever the chain computes, its operators define it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tersor.ir.decoders import read_decoder
from tersor.ir.graph import Array, Builder, Expr, Graph, Module, operands, rebind, shape_of
from tersor.ir.operators import call_arguments
from tersor.ir.untyped import relax, tvm
from tersor.ir.weight_chains import WeightChain, recalled
from tersor.targets.cpu.layout.order import Arrangement


@dataclass(frozen=True)
class DecodedWeight:
    """What is stored of a layer's weight, by name, and the bytes of it as its kernels read it."""

    stored: tuple[str, ...]
    bytes: int


def with_dense_weights(mod: Module, chains: Mapping[str, WeightChain]) -> Module:
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


def evaluate(mod: Module, chains: Sequence[WeightChain]) -> list[Array]:
    """Compute the weights: the steps of `tersor.formats` in numpy, others in plain code for this CPU."""
    found = [_decoded_by_numpy(mod, chain) for chain in chains]
    others = [chain for chain, weight in zip(chains, found, strict=True) if weight is None]
    computed = iter(_run(mod, others) if others else [])
    return [next(computed) if weight is None else weight for weight in found]


def _decoded_by_numpy(mod: Module, chain: WeightChain) -> Array | None:
    values = dict(chain.constants)
    for var, value in chain.bindings:
        step = read_decoder(mod, value)
        if step is None:
            return None
        values[var] = step.run(*(values[argument] for argument in call_arguments(value)))
    return values[chain.bindings[-1][0]]


def _run(mod: Module, chains: Sequence[WeightChain]) -> list[Array]:
    builder = relax.BlockBuilder()
    with builder.function("main", []):
        with builder.dataflow():
            results = []
            for chain in chains:
                values = {var: relax.const(value) for var, value in chain.constants.items()}
                for var, value in chain.bindings:
                    values[var] = builder.emit(recalled(rebind(value, values), builder, mod))
                results.append(values[chain.bindings[-1][0]])
            result = builder.emit_output(relax.Tuple(results))
        builder.emit_func_output(result)
    executable = tvm.compile(builder.finalize(), tvm.target.Target({"kind": "llvm"}))
    return [tensor.numpy() for tensor in relax.VirtualMachine(executable, tvm.cpu())["main"]()]


def decode_at_run_time(
    lowered: Module,
    source: Module,
    chains: Mapping[str, WeightChain],
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


def _needed(graph: Graph, heads: Iterable[Expr]) -> set[Expr]:
    """Give what the outputs depend on, up to the heads."""
    heads = set(heads)
    needed = {output for output in graph.outputs if isinstance(output, relax.Var)}
    for var, value in reversed(graph.bindings):
        if var in needed and var not in heads:
            needed.update(operands(value))
    return needed
