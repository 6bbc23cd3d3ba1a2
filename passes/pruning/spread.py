"""Spread: how the channels of a tensor go through each operator, so that what goes together is tied.

    conv2d, matmul with a weight       new channels come out; its weight's columns go with those that come in
    depthwise conv2d, relu, pools      what comes out are the channels that come in
    add, multiply                      the channels of both sides are tied; constants go with them
    concat, reshape, transpose         the same channels elsewhere, a channel maybe as several columns

What no rule here understands keeps the channels of what it reads.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np

from tersor.ir.graph import Expr, Graph, axes_of, operands, operator, shape_of
from tersor.ir.untyped import relax
from tersor.passes.pruning.ties import Numbers, Ties


@dataclass(frozen=True)
class Along:
    """The channels of a tensor: along `axis`, of each element the number of its channel."""

    axis: int
    numbers: Numbers


@dataclass(frozen=True)
class Kept(Exception):
    """Why the channels that an operator reads must stay."""

    reason: str


class Spread:
    """The channels of every tensor of a network, found in one walk.

    `stored` says how a weight or constant, as operand `i` of the binding of `var`, goes with channels;
    `outputs` and `inputs` have the channels of the layers: one for each row and for each column's channel.
    """

    def __init__(self, graph: Graph, outputs_stay: bool = True) -> None:
        self.graph = graph
        self.ties = Ties()
        self.along: dict[Expr, Along] = {}
        self.stored: dict[tuple[Expr, int], tuple[Along, ...]] = {}
        self.outputs: dict[str, Numbers] = {}
        self.inputs: dict[str, Numbers] = {}
        for var, value in graph.bindings:
            self._pass(var, value)
        if outputs_stay:
            for output in graph.outputs:
                self._fix(output, "they are the network's output")

    def numbers(self, expr: Expr, axis: int) -> Numbers:
        """Give the channels of a tensor along an axis; of one whose channels are not known ones that stay."""
        known = self.along.get(expr)
        extent = shape_of(expr)[axis]
        if known is not None and known.axis == axis:
            return known.numbers
        self._fix(expr, "they meet others along another axis")
        unknown = self.ties.new(extent)
        self.ties.fix(unknown, "they meet a tensor whose channels stay")
        return unknown

    def weight_name(self, var: Expr, value: Expr) -> str:
        """Name the weight of a layer. Raises Kept if it is computed, or has other readers."""
        weight = value.args[1]
        if weight not in self.graph.weights:
            raise Kept("they go into a product of two activations")
        readers = [operator(self.graph.definition(user)) for user in self.graph.users(weight)]
        if set(readers) != {operator(value)}:
            raise Kept("they go into a layer whose weight another operator reads as well")
        return weight.name

    def declare(self, known: dict[str, Numbers], layer: str, numbers: Numbers) -> Numbers:
        """Note the channels of a layer; those of a weight that is used again are tied to what was noted."""
        if layer in known:
            self.ties.tie(known[layer], numbers)
        return known.setdefault(layer, numbers)

    def _pass(self, var: Expr, value: Expr) -> None:
        rule = RULES.get(operator(value))
        try:
            if rule is None:
                raise Kept(f"{operator(value) or 'a tuple'} reads them")
            result = rule(self, var, value)
        except Kept as kept:
            for operand in operands(value):
                self._fix(operand, kept.reason)
            return
        if result is not None:
            self.along[var] = result

    def _fix(self, expr: Expr, reason: str) -> None:
        known = self.along.get(expr)
        if known is not None:
            self.ties.fix(known.numbers, reason)


Rule = Callable[[Spread, Expr, Expr], Along | None]


def _conv2d(spread: Spread, var: Expr, value: Expr) -> Along | None:
    attributes = value.attrs
    if (attributes.data_layout, attributes.kernel_layout) != ("NCHW", "OIHW"):
        raise Kept("a convolution of another layout reads them")
    layer = spread.weight_name(var, value)
    outputs, inputs, *_ = shape_of(value.args[1])
    groups = int(attributes.groups)
    read = spread.along.get(value.args[0])
    if read is not None and read.axis != 1:
        raise Kept("they lie along another axis of a convolution's input")
    if groups > 1 and inputs == 1:
        if read is None:
            return None
        made = spread.declare(spread.outputs, layer, np.repeat(read.numbers, outputs // groups))
        spread.stored[var, 1] = (Along(0, made),)
        return Along(1, made)
    # Every group keeps as many channels as the others: those at the same places.
    fresh = spread.outputs.get(layer)
    made = np.tile(spread.ties.new(outputs // groups), groups) if fresh is None else fresh
    spread.declare(spread.outputs, layer, made)
    cuts = [Along(0, made)]
    if read is not None:
        of_group = read.numbers.reshape(groups, inputs)
        for other in of_group[1:]:
            spread.ties.tie(of_group[0], other)
        cuts.append(Along(1, spread.declare(spread.inputs, layer, of_group[0])))
    spread.stored[var, 1] = tuple(cuts)
    return Along(1, made)


def _matmul(spread: Spread, var: Expr, value: Expr) -> Along | None:
    layer = spread.weight_name(var, value)
    data, weight = value.args
    read, last = spread.along.get(data), len(shape_of(data)) - 1
    if len(shape_of(weight)) != 2 or (read is not None and read.axis != last):
        raise Kept("they lie along another axis of a product's input")
    known = spread.outputs.get(layer)
    made = spread.ties.new(shape_of(weight)[1]) if known is None else known
    spread.declare(spread.outputs, layer, made)
    cuts = [Along(1, made)]
    if read is not None:
        cuts.append(Along(0, spread.declare(spread.inputs, layer, read.numbers)))
    spread.stored[var, 1] = tuple(cuts)
    return Along(last, made)


def _same(spread: Spread, var: Expr, value: Expr) -> Along | None:
    return spread.along.get(value.args[0])


def _pool(spread: Spread, var: Expr, value: Expr) -> Along | None:
    known = spread.along.get(value.args[0])
    if known is not None and (value.attrs.layout != "NCHW" or known.axis != 1):
        raise Kept("a pool of another layout reads them")
    return known


def _elementwise(spread: Spread, var: Expr, value: Expr) -> Along | None:
    """Tie what two tensors have at the same place; a constant goes with the channels that it meets."""
    rank = len(shape_of(var))
    read = [(i, a, spread.along.get(a)) for i, a in enumerate(value.args)]
    # Counted from the last axis, as tensors of different rank are aligned.
    axes = {known.axis - len(shape_of(a)) for _, a, known in read if known is not None}
    if not axes:
        return None
    if len(axes) > 1:
        raise Kept("they meet others along another axis")
    axis = axes.pop()
    extent = shape_of(var)[axis]
    result: Numbers | None = None
    for _, operand, known in read:
        shape = shape_of(operand)
        if -axis > len(shape) or (shape[axis] == 1 and extent > 1):
            if known is not None:
                raise Kept("one channel meets all of another tensor")
            continue
        if spread.graph.value(operand) is None:
            mine = spread.numbers(operand, len(shape) + axis)
            if result is not None:
                spread.ties.tie(result, mine)
            result = mine
    assert result is not None  # one of the operands has the axis
    for i, operand, _ in read:
        shape = shape_of(operand)
        if spread.graph.value(operand) is not None and -axis <= len(shape) and shape[axis] == extent > 1:
            spread.stored[var, i] = (Along(len(shape) + axis, result),)
    return Along(rank + axis, result)


def _reduced(spread: Spread, var: Expr, value: Expr) -> Along | None:
    known = spread.along.get(value.args[0])
    if known is None:
        return None
    rank = len(shape_of(value.args[0]))
    axes = value.attrs.axis
    reduced = set(range(rank)) if axes is None else {int(axis) % rank for axis in axes}
    if known.axis in reduced:
        raise Kept(f"{operator(value)} goes over all of them")
    gone = 0 if value.attrs.keepdims else sum(axis < known.axis for axis in reduced)
    return Along(known.axis - gone, known.numbers)


def _reshaped(spread: Spread, var: Expr, value: Expr) -> Along | None:
    """Follow the channels to the axis that begins with theirs; each is as many columns as joined it."""
    known = spread.along.get(value.args[0])
    if known is None:
        return None
    old, new = shape_of(value.args[0]), shape_of(var)
    channels, before = old[known.axis], prod(old[: known.axis])
    for axis, extent in enumerate(new):
        if prod(new[:axis]) == before and extent % channels == 0 and extent > 0:
            columns = extent // channels
            if channels == 1 and extent == 1:
                continue
            if prod(old[known.axis + 1 :]) % columns == 0:
                return Along(axis, np.repeat(known.numbers, columns))
    raise Kept("a reshape spreads them over several axes")


def _transposed(spread: Spread, var: Expr, value: Expr) -> Along | None:
    known = spread.along.get(value.args[0])
    return None if known is None else Along(axes_of(value).index(known.axis), known.numbers)


def _concatenated(spread: Spread, var: Expr, value: Expr) -> Along | None:
    parts, axis = list(value.args[0].fields), int(value.attrs.axis) % len(shape_of(var))
    tracked = [spread.along[part] for part in parts if part in spread.along]
    if not tracked:
        return None
    if any(known.axis != tracked[0].axis for known in tracked):
        raise Kept("they meet others along another axis")
    channel_axis = tracked[0].axis
    if any(spread.graph.value(part) is not None for part in parts):
        raise Kept("a constant is concatenated to them")
    numbers = [spread.numbers(part, channel_axis) for part in parts]
    if axis == channel_axis:
        return Along(axis, np.concatenate(numbers))
    for other in numbers[1:]:
        spread.ties.tie(numbers[0], other)
    return Along(channel_axis, numbers[0])


def _sliced(spread: Spread, var: Expr, value: Expr) -> Along | None:
    known = spread.along.get(value.args[0])
    if known is None:
        return None
    window = slice_of(value, known.axis)
    if window is None:
        raise Kept("a slice with steps reads them")
    return Along(known.axis, known.numbers[window])


def slice_of(value: Expr, axis: int) -> slice | None:
    """Give what a `strided_slice` takes along an axis, or None if it takes steps there."""
    source = shape_of(value.args[0])
    if not all(isinstance(argument, relax.Tuple) for argument in value.args[1:]):
        return None
    axes, begins, ends, *rest = (
        [int(field.value) for field in argument.fields] for argument in value.args[1:]
    )
    strides = rest[0] if rest else [1] * len(axes)
    for at, begin, end, stride in zip(axes, begins, ends, strides, strict=True):
        if at % len(source) == axis:
            start, stop, _ = slice(begin, end).indices(source[axis])
            return slice(start, stop) if stride == 1 else None
    return slice(0, source[axis])


def _padded(spread: Spread, var: Expr, value: Expr) -> Along | None:
    known = spread.along.get(value.args[0])
    if known is not None and shape_of(var)[known.axis] != shape_of(value.args[0])[known.axis]:
        raise Kept("padding adds channels to them")
    return known


def _resized(spread: Spread, var: Expr, value: Expr) -> Along | None:
    known = spread.along.get(value.args[0])
    if known is not None and (value.attrs.layout != "NCHW" or known.axis != 1):
        raise Kept("a resize of another layout reads them")
    return known


UNARY = (
    "nn.relu",
    "nn.relu6",
    "nn.leakyrelu",
    "nn.gelu",
    "nn.gelu_tanh",
    "nn.silu",
    "clip",
    "sigmoid",
    "tanh",
    "erf",
    "exp",
    "log",
    "sqrt",
    "rsqrt",
    "square",
    "abs",
    "negative",
)
BINARY = ("add", "subtract", "multiply", "divide", "maximum", "minimum", "power")

RULES: dict[str, Rule] = {
    "nn.conv2d": _conv2d,
    "matmul": _matmul,
    **dict.fromkeys(UNARY, _same),
    **dict.fromkeys(BINARY, _elementwise),
    **dict.fromkeys(("nn.max_pool2d", "nn.avg_pool2d", "nn.adaptive_avg_pool2d"), _pool),
    **dict.fromkeys(("mean", "sum", "max", "min"), _reduced),
    **dict.fromkeys(("reshape", "nn.batch_flatten", "flatten", "squeeze", "expand_dims"), _reshaped),
    "permute_dims": _transposed,
    "concat": _concatenated,
    "strided_slice": _sliced,
    "nn.pad": _padded,
    "image.resize2d": _resized,
}
