"""Reading and rebuilding the one Relax function of a network: straight bindings, weights by name."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tersor.error import UserError
from tersor.ir.untyped import relax, tvm

Array = npt.NDArray[Any]
Expr = Any  # a Relax expression
Module = Any  # a tvm.IRModule


NORM_SCALES = "norm_scales"
"""The attribute of `main` that keeps `Graph.norm_scales`."""


class Graph:
    """The function `main` of a module, read once: inputs, weights, bindings, users, outputs.

    `norm_scales` are by layer of those that a batch norm was folded into: its factor gamma for each output
    channel [K], which says how far the channel spread in training.
    """

    def __init__(self, mod: Module) -> None:
        function = mod["main"]
        if function.attrs is None or "num_input" not in function.attrs:
            raise UserError("the module does not say which parameters are weights: make it by import_model")
        count = int(function.attrs["num_input"])
        stored = function.attrs.get("params", [])
        self.mod = mod
        self.inputs: list[Expr] = list(function.params[:count])
        self.weights: dict[Expr, Array] = {
            var: tensor.numpy() for var, tensor in zip(function.params[count:], stored, strict=True)
        }
        scales = function.attrs.get(NORM_SCALES, {})
        self.norm_scales: dict[str, Array] = {str(name): each.numpy() for name, each in scales.items()}
        bindings = bindings_of(mod, "main")
        # The builder ends a function with `gv = lv` for each output: another name for the same value.
        aliases = {var: value for var, value in bindings if isinstance(value, relax.Var)}
        result = aliases.get(function.body.body, function.body.body)
        returned = dict(bindings).get(result, result)
        self.returns_tuple = isinstance(returned, relax.Tuple)
        outputs = list(returned.fields) if self.returns_tuple else [result]
        self.outputs: list[Expr] = [aliases.get(output, output) for output in outputs]
        self.bindings: list[tuple[Expr, Expr]] = [
            (var, value)
            for var, value in bindings
            if var not in aliases and not isinstance(value, relax.Tuple)
        ]
        self._tuples = {var: value for var, value in bindings if isinstance(value, relax.Tuple)}
        self._definitions = dict(self.bindings)
        self._users: dict[Expr, list[Expr]] = {}
        for var, value in self.bindings:
            for used in operands(value):
                self._users.setdefault(used, []).append(var)

    def definition(self, var: Expr) -> Any:
        """Give the expression bound to `var`, or None for a parameter or a constant."""
        return self._definitions.get(var) if isinstance(var, relax.Var) else None

    def users(self, var: Expr) -> list[Expr]:
        """Give the variables whose expressions use `var`, in order."""
        return self._users.get(var, [])

    def is_output(self, var: Expr) -> bool:
        """Whether the function returns `var`."""
        return any(var.same_as(output) for output in self.outputs)

    def only_user(self, var: Expr) -> Expr | None:
        """Give the single user of `var`, or None if it has several or is returned."""
        users = self.users(var)
        return users[0] if len(users) == 1 and not self.is_output(var) else None

    def value(self, expr: Expr) -> Array | None:
        """Give the value of a weight or a constant, or None for what is computed."""
        if isinstance(expr, tvm.ir.GenericConst):
            return expr.value.numpy()
        return self.weights.get(expr)


class Builder:
    """Writes a module: inputs stay, weights are declared as they come, the rest is emitted in order."""

    def __init__(self, source: Graph) -> None:
        functions = {name: f for name, f in source.mod.functions.items() if name.name_hint != "main"}
        self._block = relax.BlockBuilder(tvm.IRModule(functions, attrs=source.mod.attrs))
        self._inputs = source.inputs
        self._returns_tuple = source.returns_tuple
        self.norm_scales = source.norm_scales
        self._weights: dict[str, tuple[Expr, Array]] = {}
        self._function = self._block.function("main")
        self._dataflow = self._block.dataflow()
        self._function.__enter__()
        self._dataflow.__enter__()

    @property
    def block(self) -> Any:
        """The builder of Relax that this one writes with."""
        return self._block

    def emit(self, expr: Expr, name: str = "") -> Expr:
        """Bind an expression and give its variable."""
        return self._block.emit(expr, name)

    def weight(self, name: str, value: Array) -> Expr:
        """Declare a weight, or give the variable of an equal one declared before under the same name."""
        known = self._weights.get(name)
        if known is not None and not _same(known[1], value):
            return self.weight(f"{name}'", value)
        if known is None:
            var = relax.Var(name, relax.TensorType(value.shape, str(value.dtype)))
            self._weights[name] = known = (var, value)
        return known[0]

    def add_func(self, function: Any, name: str) -> Any:
        """Add a PrimFunc, or find the equal one that is there, and give its global variable."""
        return self._block.add_func(function, name)

    def call(
        self, function: Any, name: str, arguments: Sequence[Expr], shape: Sequence[int], dtype: str
    ) -> Expr:
        """Emit a call of a PrimFunc (equal functions are kept once) and give its result."""
        target = self.add_func(function, name)
        return self.emit(relax.call_tir(target, list(arguments), relax.TensorType(tuple(shape), dtype)))

    def call_several(
        self,
        function: Any,
        name: str,
        arguments: Sequence[Expr],
        types: Sequence[tuple[tuple[int, ...], str]],
    ) -> list[Expr]:
        """Emit a call of a PrimFunc with one or more results of given shapes and dtypes, and give them."""
        if len(types) == 1:
            return [self.call(function, name, arguments, *types[0])]
        target = self.add_func(function, name)
        described = [relax.TensorType(shape, dtype) for shape, dtype in types]
        results = self.emit(relax.call_tir(target, list(arguments), described))
        return [self.emit(relax.TupleGetItem(results, i)) for i in range(len(types))]

    def finish(self, outputs: Sequence[Expr], as_tuple: bool = False) -> Module:
        """Close the function; it returns a tuple if its source did, if `as_tuple`, or of several outputs."""
        as_tuple = as_tuple or self._returns_tuple or len(outputs) > 1
        result = relax.Tuple(list(outputs)) if as_tuple else outputs[0]
        output = self._block.emit_output(result)
        self._dataflow.__exit__(None, None, None)
        self._block.emit_func_output(output, [*self._inputs, *(var for var, _ in self._weights.values())])
        self._function.__exit__(None, None, None)
        mod = self._block.finalize()
        mod = _attach(mod, len(self._inputs), {var.name: value for var, value in self._weights.values()})
        return _with_norm_scales(mod, self.norm_scales)


def bindings_of(mod: Module, name: str) -> list[tuple[Expr, Expr]]:
    """Give all bindings of a function as they are written: variable and expression."""
    blocks = mod[name].body.blocks
    return [(binding.var, binding.value) for block in blocks for binding in block.bindings]


def function_calls(mod: Module, name: str) -> list[tuple[Expr, Expr]]:
    """Give the bindings of a function that call PrimFuncs, in order."""
    return [each for each in bindings_of(mod, name) if operator(each[1]) == "call_tir"]


def operands(expr: Expr) -> list[Expr]:
    """Give the tensors an expression reads, in order, each as often as it is read."""
    match expr:
        case relax.Var():
            return [expr]
        case relax.Tuple():
            return [operand for field in expr.fields for operand in operands(field)]
        case relax.TupleGetItem():
            return operands(expr.tuple_value)
        case relax.Call():
            return [operand for argument in expr.args for operand in operands(argument)]
        case _:
            return []


def rebind(expr: Expr, values: dict[Expr, Expr]) -> Expr:
    """Give `expr` with the variables in `values` replaced; the builder infers its type anew."""
    match expr:
        case relax.Var():
            return values.get(expr, expr)
        case relax.Tuple():
            return relax.Tuple([rebind(field, values) for field in expr.fields])
        case relax.TupleGetItem():
            return relax.TupleGetItem(rebind(expr.tuple_value, values), expr.index)
        case relax.Call():
            arguments = [rebind(argument, values) for argument in expr.args]
            return relax.Call(expr.op, arguments, expr.attrs, expr.ty_args)
        case _:
            return expr


def operator(expr: Expr) -> str:
    """Give the name of the Relax operator an expression calls (`nn.conv2d`), or an empty string."""
    is_call = isinstance(expr, relax.Call) and isinstance(expr.op, tvm.ir.Op)
    return expr.op.name.removeprefix("relax.") if is_call else ""


def shape_of(expr: Expr) -> tuple[int, ...]:
    """Give the static shape of a tensor expression."""
    return tuple(int(extent) for extent in expr.ty.shape)


def axes_of(transpose: Expr) -> list[int]:
    """Give the order into which a `permute_dims` brings the axes, none negative; by default the reverse."""
    rank, axes = len(transpose.args[0].ty.shape), transpose.attrs.axes
    return [int(axis) % rank for axis in axes] if axes is not None else list(range(rank))[::-1]


def pair(values: Any) -> tuple[int, int]:
    """Give the two numbers of an attribute, as strides and dilations are."""
    first, second = (int(value) for value in values)
    return first, second


def weights_of(mod: Module) -> dict[str, Array]:
    """Give the weights of a module by name."""
    return {var.name: value for var, value in Graph(mod).weights.items()}


def replace_weights(mod: Module, values: dict[str, Array]) -> Module:
    """Give the module with other values for some of its weights, of the same shape and dtype."""
    graph = Graph(mod)
    weights = {var.name: values.get(var.name, value) for var, value in graph.weights.items()}
    return _attach(mod, len(graph.inputs), weights)


def expose(mod: Module, variables: Sequence[Expr]) -> Module:
    """Give the module with other outputs: a tuple of the given variables, in order."""
    graph = Graph(mod)
    builder = Builder(graph)
    values: dict[Expr, Expr] = {var: var for var in graph.inputs}
    values.update({var: builder.weight(var.name, weight) for var, weight in graph.weights.items()})
    for var, value in graph.bindings:
        values[var] = builder.emit(rebind(value, values), var.name)
    return builder.finish([values[var] for var in variables], as_tuple=True)


def bind_weights(mod: Module) -> Module:
    """Turn the named weights of all functions into constants: the last step before lowering."""
    detached, params = relax.frontend.detach_params(_with_norm_scales(mod, {}))
    # TVM forgets the module's own attributes there.
    mod = tvm.IRModule(dict(detached.functions.items()), attrs=mod.attrs)
    for name, values in params.items():
        bound = dict(zip(_weight_names(mod, name), values, strict=True))
        mod = relax.transform.BindParams(name, bound)(mod)
    return mod


def _weight_names(mod: Module, name: str) -> list[str]:
    function = mod[name]
    return [var.name for var in function.params[int(function.attrs["num_input"]) :]]


def _same(a: Array, b: Array) -> bool:
    return a is b or (a.dtype == b.dtype and np.array_equal(a, b))


def _attach(mod: Module, inputs: int, weights: dict[str, Array]) -> Module:
    tensors = [tvm.runtime.tensor(np.ascontiguousarray(value)) for value in weights.values()]
    function = mod["main"].with_attr("num_input", inputs).with_attr("params", tensors)
    mod = tvm.IRModule(dict(mod.functions.items()), attrs=mod.attrs)
    mod.update_func(mod.get_global_var("main"), function)
    return mod


def _with_norm_scales(mod: Module, scales: dict[str, Array]) -> Module:
    if "main" not in {name.name_hint for name in mod.functions}:
        return mod
    function = mod["main"].without_attr(NORM_SCALES)
    if scales:
        tensors = {name: tvm.runtime.tensor(np.ascontiguousarray(scales[name])) for name in sorted(scales)}
        function = function.with_attr(NORM_SCALES, tensors)
    mod = tvm.IRModule(dict(mod.functions.items()), attrs=mod.attrs)
    mod.update_func(mod.get_global_var("main"), function)
    return mod
