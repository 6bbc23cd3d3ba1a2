"""DecodeOnce: what is computed from constants alone gets a function of its own, which a runner calls once.

    def main(x): kernel(x, decode(values))

        ->  def decode_weights(): return (decode(values),)
            def main_decoded(x, w): kernel(x, w)
            def main(x): main_decoded(x, *decode_weights())

So `main` can be called as before, and who calls it often calls the other two instead. The networks of several
shapes share what is decoded.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from tvm_ffi import structural_equal, structural_hash

from tersor.ir.graph import Expr, Module, bindings_of, operands, rebind
from tersor.ir.untyped import relax, tvm

DECODE = "decode_weights"


def decoded_entry(entry: str) -> str:
    """Name the function that takes the decoded weights behind the inputs of `entry`."""
    return f"{entry}_decoded"


def decode_once(mod: Module) -> Module:
    """Split the networks of a module whose weights are constants; one that decodes nothing stays as it is."""
    networks = {var: f for var, f in mod.functions.items() if isinstance(f, relax.Function)}
    split = {var.name_hint: _Split(mod, var.name_hint) for var in networks}
    if not any(each.heads for each in split.values()):
        return mod
    others = {var: f for var, f in mod.functions.items() if var not in networks}
    builder = relax.BlockBuilder(tvm.IRModule(others, attrs=mod.attrs))
    weights, decode = _emit_decode(builder, list(split.values()))
    for name, each in split.items():
        inner = _emit_network(builder, decoded_entry(name), each, weights)
        params = [relax.Var(param.name, param.ty) for param in each.params]
        with builder.function(name, params, attrs={"global_symbol": name}):
            given = builder.emit(relax.Call(decode, []))
            decoded = [builder.emit(relax.TupleGetItem(given, i)) for i in range(len(weights.types))]
            builder.emit_func_output(builder.emit(relax.Call(inner, [*params, *decoded])))
    return builder.finalize()


class _Split:
    """The bindings of a network: those that read constants only, and the others."""

    def __init__(self, mod: Module, name: str) -> None:
        self.function = mod[name]
        self.params: list[Expr] = list(self.function.params)
        bindings = bindings_of(mod, name)
        self.decoding: dict[Expr, Expr] = {}
        for var, value in bindings:
            if _reads_constants(value) and all(each in self.decoding for each in operands(value)):
                self.decoding[var] = value
        self.rest = [(var, value) for var, value in bindings if var not in self.decoding]
        read = [each for _, value in self.rest for each in operands(value)]
        read += operands(self.function.body.body)
        self.heads: list[Expr] = list(dict.fromkeys(var for var in read if var in self.decoding))


class _Weights:
    """The distinct decoded weights of all networks: their types, and where each network's own are."""

    def __init__(self) -> None:
        self.types: list[Expr] = []
        self.places: dict[Expr, int] = {}


def _emit_decode(builder: Any, networks: Sequence[_Split]) -> tuple[_Weights, Expr]:
    weights, results = _Weights(), []
    emitted = _Emitted(builder)
    with builder.function(DECODE, [], attrs={"global_symbol": DECODE}):
        with builder.dataflow():
            for network in networks:
                values: dict[Expr, Expr] = {}
                for var, value in network.decoding.items():
                    values[var] = emitted.emit(rebind(value, values))
                for head in network.heads:
                    if values[head] not in results:
                        results.append(values[head])
                        weights.types.append(head.ty)
                    weights.places[head] = results.index(values[head])
            result = builder.emit_output(relax.Tuple(results))
        decode = builder.emit_func_output(result)
    return weights, decode


class _Emitted:
    """Emits each expression once: what networks of several shapes decode is the same."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder
        self.known: dict[int, list[tuple[Expr, Expr]]] = {}

    def emit(self, value: Expr) -> Expr:
        """Emit an expression, or give the variable of an equal one."""
        value = self.builder.normalize(value)  # infers types, by which equal expressions would differ
        alike = self.known.setdefault(structural_hash(value), [])
        for other, var in alike:
            if structural_equal(other, value):
                return var
        var = self.builder.emit(value)
        alike.append((value, var))
        return var


def _emit_network(builder: Any, name: str, network: _Split, weights: _Weights) -> Expr:
    """Emit a network with the decoded weights as further parameters, all of them whatever it reads."""
    decoded = [relax.Var(f"weight{i}", each) for i, each in enumerate(weights.types)]
    inputs = {param: relax.Var(param.name, param.ty) for param in network.params}
    values = {**inputs, **{head: decoded[weights.places[head]] for head in network.heads}}
    with builder.function(name, [*inputs.values(), *decoded], attrs={"global_symbol": name}):
        with builder.dataflow():
            for var, value in network.rest:
                values[var] = builder.emit(rebind(value, values), var.name)
            result = builder.emit_output(rebind(network.function.body.body, values))
        return builder.emit_func_output(result)


def _reads_constants(value: Expr) -> bool:
    """Whether an expression calls something, on constants at most beside variables."""
    return isinstance(value, relax.Call) and bool(operands(value) or _constants(value.args))


def _constants(arguments: Iterable[Expr]) -> bool:
    """Whether there is a tensor among constant arguments."""
    return any(
        _constants(each.fields) if isinstance(each, relax.Tuple) else isinstance(each, tvm.ir.GenericConst)
        for each in arguments
    )
