"""Canonicalize: bring the imported network to one form per layer.

    batch_norm(conv2d(x, w), ...)[0]              ->   add(conv2d(x, w'), b')        b' of shape [1, K, 1, 1]
    add(conv2d(x, w), reshape(b, [1, K, 1, 1]))   ->   add(conv2d(x, w), b)
    add(matmul(x, permute_dims(w)), b)            ->   add(matmul(x, w'), b)         w' [C, K], b [K]
    multiply(conv2d(x, w), s), add(s, ...)        ->   s and t go into w' and b'
    conv2d(nn.pad(x, zeros), w)                   ->   conv2d(x, w, padding=...)
    minimum(maximum(x, 0), 6), clip(relu(x), 6)   ->   clip(x, 0, 6);  clip(x, 0, inf) -> relu(x)
    dropout, no-op reshape, cast, transpose, pad  ->   gone
    shape_to_tensor(shape_of(x))                  ->   a constant

What reads weights alone is computed here, in float64, and becomes a weight under the name of the first one it
reads; weights that nothing reads are gone.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax

from tersor.ir.graph import Builder, Graph, operands, operator, rebind, shape_of

Array = NDArray[Any]
Expr = Any  # tvm ships no types: a Relax expression, variable or call


@tvm.transform.module_pass(opt_level=0, name="Canonicalize")
class Canonicalize:
    """Rewrite `main`, a function of one dataflow block, until no rule applies."""

    def transform_module(self, mod: tvm.IRModule, _: tvm.transform.PassContext) -> tvm.IRModule:
        """Return the module in canonical form."""
        source = Graph(mod)
        program = _read(source)
        changed = True
        while changed:
            program, changed = _Round(program).run()
        return _write(program, source)


@dataclass
class _Program:
    """A straight line of bindings, with the values of the weights beside them."""

    inputs: list[Expr]
    weights: dict[Expr, Array]
    bindings: list[tuple[Expr, Expr]]
    outputs: list[Expr]


@dataclass
class _Linear:
    """A convolution or matrix product with a constant weight, and the bias added to it if there is one."""

    call: Expr
    weight: Array
    name: str
    bias: Array | None = None  # [K]
    bias_name: str | None = None

    @property
    def is_conv(self) -> bool:
        return operator(self.call) == "nn.conv2d"

    @property
    def channels(self) -> int:
        return self.weight.shape[0 if self.is_conv else 1]

    def per_channel(self, array: Array) -> NDArray[np.float64] | None:
        """Return `array` as one number per output channel, [K], or None if it varies along another axis."""
        rank = len(self.call.ty.shape)
        axis = 1 if self.is_conv else rank - 1
        if array.ndim > rank:
            return None
        shape = (1,) * (rank - array.ndim) + array.shape
        others = shape[:axis] + shape[axis + 1 :]
        if any(size != 1 for size in others) or shape[axis] not in (1, self.channels):
            return None
        return np.broadcast_to(array.astype(np.float64).ravel(), self.channels)

    def bias_shape(self) -> tuple[int, ...]:
        return (1, self.channels, 1, 1) if self.is_conv else (self.channels,)


@dataclass
class _Round:
    """One walk over the bindings that applies at most one rule to each."""

    old: _Program
    changed: bool = False
    weights: dict[Expr, Array] = field(default_factory=dict)
    bindings: list[tuple[Expr, Expr]] = field(default_factory=list)
    values: dict[Expr, Expr] = field(default_factory=dict)
    definitions: dict[Expr, Expr] = field(default_factory=dict)
    uses: Counter[Expr] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.builder = relax.BlockBuilder()
        self.weights = dict(self.old.weights)
        self.rules: dict[str, Callable[[Expr], Expr | None]] = {
            "nn.conv2d": self.conv2d,
            "matmul": self.matmul,
            "add": self.add,
            "subtract": self.subtract,
            "multiply": self.multiply,
            "divide": self.divide,
            "nn.relu": self.bounds,
            "clip": self.bounds,
            "maximum": self.bounds,
            "minimum": self.bounds,
            "reshape": self.reshape,
            "flatten": self.same_shape,
            "broadcast_to": self.same_shape,
            "nn.pad": self.same_shape,
            "astype": self.astype,
            "permute_dims": self.permute_dims,
            "concat": self.concat,
            "shape_to_tensor": self.shape_to_tensor,
        }

    def run(self) -> tuple[_Program, bool]:
        count = Counter(v for _, value in self.old.bindings for v in operands(value))
        count.update(v for output in self.old.outputs for v in operands(output))
        for var, value in self.old.bindings:
            new = self.rewrite(rebind(value, self.values))
            self.values[var] = new
            if isinstance(new, relax.Var):
                # A var that stands for two old ones has the readers of both, less the alias itself.
                self.uses[new] += count[var] - (1 if new in self.uses else 0)
        outputs = [rebind(output, self.values) for output in self.old.outputs]
        return _pruned(_Program(self.old.inputs, self.weights, self.bindings, outputs)), self.changed

    def rewrite(self, value: Expr) -> Expr:
        if isinstance(value, relax.Var | relax.Tuple | tvm.ir.GenericConst):
            return value
        if isinstance(value, relax.TupleGetItem):
            new = self.tuple_item(value)
        elif operator(value):
            value = self.builder.normalize(value)
            new = self.folded(value)
            if new is None and (rule := self.rules.get(operator(value))):
                new = rule(value)
        else:
            new = None
        if new is None:
            return self.emit(value)
        self.changed = True
        return new if isinstance(new, relax.Var | tvm.ir.GenericConst) else self.emit(new)

    def emit(self, value: Expr) -> Expr:
        value = self.builder.normalize(value)
        var = relax.DataflowVar("lv", value.ty)
        self.bindings.append((var, value))
        self.definitions[var] = value
        return var

    # What the rules ask.

    def array(self, expr: Expr) -> Array | None:
        """Return the value of a weight or constant."""
        if isinstance(expr, tvm.ir.GenericConst):
            tensor: Any = expr
            return tensor.value.numpy()
        return self.weights.get(expr) if isinstance(expr, relax.Var) else None

    def definition(self, expr: Expr, *names: str) -> Expr | None:
        """Return the call of one of these operators that makes `expr`."""
        call: Expr = self.definitions.get(expr) if isinstance(expr, relax.Var) else None
        return call if operator(call) in names else None

    def read_once(self, expr: Expr) -> bool:
        return self.uses[expr] == 1

    def weight(self, array: Array, name: str) -> Expr:
        """Make a weight, or find the one that an equal layer of this round has made under this name."""
        for var, other in self.weights.items():
            if var.name == name and var not in self.old.weights and np.array_equal(other, array):
                return var
        var = relax.Var(name, relax.TensorType(list(array.shape), str(array.dtype)))
        self.weights[var] = array
        return var

    def linear(self, expr: Expr) -> _Linear | None:
        """Return the linear layer that makes `expr` and is read by nothing else."""
        if not self.read_once(expr):
            return None
        if (add := self.definition(expr, "add")) is not None:
            layer = self.linear(add.args[0])
            bias = self.array(add.args[1])
            if layer is None or layer.bias is not None or bias is None:
                return None
            if (per_channel := layer.per_channel(bias)) is None:
                return None
            layer.bias = per_channel
            layer.bias_name = add.args[1].name if isinstance(add.args[1], relax.Var) else None
            return layer
        call = self.definition(expr, "nn.conv2d", "matmul")
        return self.bare_linear(call) if call is not None else None

    def bare_linear(self, call: Expr) -> _Linear | None:
        weight = self.array(call.args[1])
        if weight is None or weight.dtype != np.float32 or call.ty.dtype != "float32":
            return None
        if operator(call) == "nn.conv2d":
            if (call.attrs.data_layout, call.attrs.kernel_layout) != ("NCHW", "OIHW"):
                return None
        elif weight.ndim != 2:
            return None
        name = call.args[1].name if isinstance(call.args[1], relax.Var) else "weight"
        return _Linear(call, weight, name)

    # Constants.

    def folded(self, call: Expr) -> Expr | None:
        """Compute a call that reads nothing but weights and constants."""
        compute = FOLDABLE.get(operator(call))
        tensors = [a for a in call.args if not isinstance(a, relax.ShapeExpr)]
        arrays = [self.array(a) for a in tensors]
        if compute is None or not arrays or any(a is None for a in arrays):
            return None
        dtype = str(call.ty.dtype)
        wide = [a.astype(np.float64) if a.dtype == np.float32 else a for a in arrays if a is not None]
        result = np.asarray(compute(call, *wide)).astype(dtype).reshape(shape_of(call))
        name = next((a.name for a in tensors if isinstance(a, relax.Var)), None)
        return relax.const(result, dtype) if name is None else self.weight(np.ascontiguousarray(result), name)

    # Linear layers.

    def scaled(self, layer: _Linear, scale: Array | float = 1.0, shift: Array | float = 0.0) -> Expr:
        """Return `layer * scale + shift`, both per output channel, as one linear layer."""
        scale = np.broadcast_to(np.asarray(scale, np.float64), layer.channels)
        weight, call = layer.weight, layer.call
        args = list(call.args)
        if not np.all(scale == 1):
            axes = (-1, 1, 1, 1) if layer.is_conv else (1, -1)
            args[1] = self.weight((weight * scale.reshape(axes)).astype(np.float32), layer.name)
        call = relax.Call(call.op, args, call.attrs)
        bias = np.zeros(layer.channels) if layer.bias is None else layer.bias
        bias = bias * scale + shift
        if layer.bias is None and not np.any(bias):
            return call
        linear = self.emit(call)
        self.uses[linear] = 1
        name = layer.bias_name or f"{layer.name.removesuffix('.weight')}.bias"
        return relax.op.add(linear, self.weight(bias.astype(np.float32).reshape(layer.bias_shape()), name))

    def conv2d(self, call: Expr) -> Expr | None:
        unpadded = self.without_pad(call)
        return unpadded if unpadded is not None else self.without_input_scale(call)

    def matmul(self, call: Expr) -> Expr | None:
        return self.without_input_scale(call)

    def without_pad(self, call: Expr) -> Expr | None:
        pad = self.definition(call.args[0], "nn.pad")
        if pad is None or pad.attrs.pad_mode != "constant" or float(pad.attrs.pad_value) != 0:
            return None
        width = [int(n) for n in pad.attrs.pad_width]
        if any(width[:4]) or min(width) < 0 or call.attrs.data_layout != "NCHW":
            return None
        top, bottom, left, right = width[4:]
        attrs = call.attrs
        padding = [int(p) + extra for p, extra in zip(attrs.padding, (top, left, bottom, right), strict=True)]
        return relax.op.nn.conv2d(
            pad.args[0],
            call.args[1],
            strides=attrs.strides,
            padding=tuple(padding),
            dilation=attrs.dilation,
            groups=attrs.groups,
            data_layout=attrs.data_layout,
            kernel_layout=attrs.kernel_layout,
            out_layout=attrs.out_layout,
            out_dtype=attrs.out_dtype,
        )

    def without_input_scale(self, call: Expr) -> Expr | None:
        """Move a scalar factor of the input, as Gemm's alpha, into the weight."""
        product = self.definition(call.args[0], "multiply")
        layer = self.bare_linear(call)
        if product is None or layer is None or not self.read_once(call.args[0]):
            return None
        factor = self.array(product.args[1])
        if factor is None or factor.size != 1 or factor.ndim > len(product.args[0].ty.shape):
            return None
        weight = self.weight((layer.weight * np.float64(factor.item())).astype(np.float32), layer.name)
        return relax.Call(call.op, [product.args[0], weight], call.attrs)

    def add(self, call: Expr) -> Expr | None:
        x, shift = call.args
        if self.array(x) is not None and self.array(shift) is None:
            return relax.op.add(shift, x)
        layer, constant = self.channelwise(call)
        if layer is None:
            return None
        if layer.bias is None and isinstance(shift, relax.Var):
            if self.weights[shift].shape == layer.bias_shape():
                return None
            layer.bias_name = shift.name
        return self.scaled(layer, shift=constant)

    def subtract(self, call: Expr) -> Expr | None:
        layer, constant = self.channelwise(call)
        return None if layer is None else self.scaled(layer, shift=-constant)

    def multiply(self, call: Expr) -> Expr | None:
        x, factor = call.args
        if self.array(x) is not None and self.array(factor) is None:
            return relax.op.multiply(factor, x)
        layer, constant = self.channelwise(call)
        return None if layer is None else self.scaled(layer, scale=constant)

    def divide(self, call: Expr) -> Expr | None:
        layer, constant = self.channelwise(call)
        return None if layer is None or not np.all(constant) else self.scaled(layer, scale=1 / constant)

    def channelwise(self, call: Expr) -> tuple[_Linear | None, NDArray[np.float64]]:
        """Return the linear layer whose channels a call combines with constants, and these, [K]."""
        x, other = call.args
        constant = self.array(other)
        layer = None if constant is None else self.linear(x)
        per_channel = None if layer is None or constant is None else layer.per_channel(constant)
        return (None, np.empty(0)) if per_channel is None else (layer, per_channel)

    def tuple_item(self, item: Expr) -> Expr | None:
        source = item.tuple_value
        if isinstance(source, relax.Tuple):
            return source.fields[item.index]
        if item.index != 0:
            return None
        if (dropout := self.definition(source, "nn.dropout")) is not None:
            return dropout.args[0]
        norm = self.definition(source, "nn.batch_norm")
        return self.batch_norm(norm) if norm is not None and not norm.attrs.training else None

    def batch_norm(self, norm: Expr) -> Expr | None:
        parameters = [self.array(a) for a in norm.args[1:]]
        if any(p is None for p in parameters):
            return None
        gamma, beta, mean, variance = (np.asarray(p, np.float64) for p in parameters)
        attrs = norm.attrs
        scale = (gamma if attrs.scale else 1.0) / np.sqrt(variance + attrs.epsilon)
        shift = (beta if attrs.center else 0.0) - mean * scale
        x = norm.args[0]
        layer = self.linear(x)
        rank = len(x.ty.shape)
        if layer is not None and attrs.axis == (1 if layer.is_conv else rank - 1):
            return self.scaled(layer, scale, shift)
        shape = [1] * rank
        shape[attrs.axis] = -1
        names = [a.name if isinstance(a, relax.Var) else "batch_norm" for a in norm.args[1:3]]
        scaled = self.emit(
            relax.op.multiply(x, self.weight(scale.astype(np.float32).reshape(shape), names[0]))
        )
        self.uses[scaled] = 1
        return relax.op.add(scaled, self.weight(shift.astype(np.float32).reshape(shape), names[1]))

    # Clips.

    def interval(self, call: Expr | None) -> tuple[Expr, float, float] | None:
        """Read a call as clip(x, lo, hi)."""
        if call is None or call.ty.dtype != "float32":
            return None
        x = call.args[0]
        match operator(call):
            case "nn.relu":
                return x, 0.0, math.inf
            case "clip":
                return x, float(call.args[1].value), float(call.args[2].value)
        a, b = call.args
        if self.array(a) is not None:
            a, b = b, a
        bound = self.array(b)
        if bound is None or bound.size != 1 or bound.ndim > len(a.ty.shape):
            return None
        return (a, bound.item(), math.inf) if operator(call) == "maximum" else (a, -math.inf, bound.item())

    def bounds(self, call: Expr) -> Expr | None:
        if (own := self.interval(call)) is None:
            return None
        x, low, high = own
        inner = self.interval(self.definition(x, *CLIPS)) if self.read_once(x) else None
        if inner is not None:
            x, inner_low, inner_high = inner
            low, high = (min(max(bound, low), high) for bound in (inner_low, inner_high))
        if (low, high) == (-math.inf, math.inf):
            return x
        name = "nn.relu" if (low, high) == (0, math.inf) else "clip"
        if inner is None and operator(call) == name:
            return None
        literal: Expr = (low, high)
        return relax.op.nn.relu(x) if name == "nn.relu" else relax.op.clip(x, *literal)

    # Identities.

    def same_shape(self, call: Expr) -> Expr | None:
        return call.args[0] if shape_of(call) == shape_of(call.args[0]) else None

    def reshape(self, call: Expr) -> Expr | None:
        if shape_of(call) == shape_of(call.args[0]):
            return call.args[0]
        first = self.definition(call.args[0], "reshape", "flatten")
        if first is None or not self.read_once(call.args[0]):
            return None
        return relax.op.reshape(first.args[0], call.args[1])

    def astype(self, call: Expr) -> Expr | None:
        return call.args[0] if call.args[0].ty.dtype == call.ty.dtype else None

    def permute_dims(self, call: Expr) -> Expr | None:
        return call.args[0] if _axes(call) == list(range(len(call.ty.shape))) else None

    def concat(self, call: Expr) -> Expr | None:
        parts = call.args[0]
        return parts.fields[0] if isinstance(parts, relax.Tuple) and len(parts.fields) == 1 else None

    def shape_to_tensor(self, call: Expr) -> Expr | None:
        source = self.definition(call.args[0], "shape_of")
        return None if source is None else relax.const(np.array(shape_of(source.args[0]), np.int64), "int64")


CLIPS = ("nn.relu", "clip", "maximum", "minimum")
FOLDABLE: dict[str, Callable[..., Array]] = {
    "permute_dims": lambda call, a: np.transpose(a, _axes(call)),
    "reshape": lambda call, a: a,  # the result takes the call's shape
    "expand_dims": lambda call, a: a,
    "squeeze": lambda call, a: a,
    "flatten": lambda call, a: a,
    "astype": lambda call, a: a,
    "take": lambda call, a, i: np.take(a, i, call.attrs.axis),
    "broadcast_to": lambda call, a: np.broadcast_to(a, shape_of(call)),
    "add": lambda call, a, b: a + b,
    "subtract": lambda call, a, b: a - b,
    "multiply": lambda call, a, b: a * b,
    "divide": lambda call, a, b: a / b if a.dtype.kind == "f" else a // b,
    "negative": lambda call, a: -a,
    "sqrt": lambda call, a: np.sqrt(a),
}


def _axes(call: Expr) -> list[int]:
    rank = len(call.ty.shape)
    return [int(a) % rank for a in call.attrs.axes] if call.attrs.axes else list(range(rank))[::-1]


def _pruned(program: _Program) -> _Program:
    live = {v for output in program.outputs for v in operands(output)}
    bindings = []
    for var, value in reversed(program.bindings):
        if var in live:
            live.update(operands(value))
            bindings.append((var, value))
    program.bindings = bindings[::-1]
    program.weights = {var: array for var, array in program.weights.items() if var in live}
    return program


def _read(source: Graph) -> _Program:
    function = source.mod["main"]
    # Unlike `source.bindings` these hold aliases and tuples, which the first round resolves.
    bindings = [(b.var, b.value) for block in function.body.blocks for b in block.bindings]
    return _Program(source.inputs, source.weights, bindings, source.outputs)


def _write(program: _Program, source: Graph) -> tvm.IRModule:
    order = list(dict.fromkeys(v for _, value in program.bindings for v in operands(value)))
    order = [v for v in [*order, *program.outputs] if v in program.weights]
    taken = {var.name for var in program.inputs}
    builder = Builder(source)
    names: dict[Expr, str] = {}
    # A weight that stayed as it was has the first claim on its name.
    for var in sorted(order, key=lambda var: var not in source.weights):
        names[var] = _unused(var.name, taken)
        taken.add(names[var])
    values: dict[Expr, Expr] = {v: builder.weight(names[v], program.weights[v]) for v in order}
    for var, value in program.bindings:
        values[var] = builder.emit(rebind(value, values))
    return builder.finish([rebind(output, values) for output in program.outputs])


def _unused(name: str, taken: set[str]) -> str:
    unique, n = name, 0
    while unique in taken:
        n += 1
        unique = f"{name}.{n}"
    return unique
