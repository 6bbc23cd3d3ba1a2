"""Gradients: a network with the gradient of its loss at the results of its layers.

y = f(x)   ->   (x_i, y_i, dL/dy_i) of every layer i

L is the cross entropy of the network's own first choice, -log softmax(y)[argmax y]. Gradients of convolutions
are convolutions with the weight's taps in reverse order, so what runs backwards has the kernels of what runs
forwards. Weights of layers get no gradient here: it is a product of x_i and dL/dy_i.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from tersor.error import UserError
from tersor.ir.chains import find_chains
from tersor.ir.graph import Builder, Expr, Graph, Module, operands, operator, pair, rebind, shape_of
from tersor.ir.untyped import relax
from tersor.passes.grams import Window, window_of


@dataclass(frozen=True)
class Use:
    """One use of a layer's weight: where its rows are, and which outputs have its results and gradients."""

    layer: str
    window: Window
    data: int
    result: int  # with the bias, before a residual or an activation
    gradient: int


def with_gradients(mod: Module, layers: Collection[str]) -> tuple[Module, tuple[Use, ...]]:
    """Give the network that computes what `layers` read, give, and the loss's gradient at what they give.

    Its last output are the scores. A layer that no gradient reaches is left out. Raises UserError if the
    network has not one output with the scores of several classes, and for an operator that there is no
    gradient of, by its name.
    """
    graph = Graph(mod)
    chains = [chain for chain in find_chains(graph) if chain.layer in layers]
    backward = _Backward(graph, {chain.variables[0] for chain in chains})
    backward.run()
    outputs: list[Expr] = []
    uses: list[Use] = []
    for chain in chains:
        result = chain.variables[0 if chain.bias is None else 1]
        gradient = backward.gradient(chain.variables[0])
        if gradient is None:
            continue
        first = len(outputs)
        uses.append(Use(chain.layer, window_of(chain, chain.data.name), first, first + 1, first + 2))
        outputs += [backward.output(chain.data), backward.output(result), gradient]
    outputs.append(backward.output(graph.outputs[0]))
    return backward.builder.finish(outputs, as_tuple=True), tuple(uses)


class _Backward:
    """One walk forwards and one back over a network's bindings."""

    def __init__(self, graph: Graph, sources: Collection[Expr]) -> None:
        self.graph = graph
        self.builder = Builder(graph)
        self.values: dict[Expr, Expr] = {var: var for var in graph.inputs}
        self.values |= {var: self.builder.weight(var.name, value) for var, value in graph.weights.items()}
        self._gradients: dict[Expr, list[Expr]] = {}
        self._behind: set[Expr] = set()  # the tensors that depend on a source, and the sources
        for var, value in graph.bindings:
            if var in sources or not self._behind.isdisjoint(operands(value)):
                self._behind.add(var)
            self.values[var] = self.builder.emit(rebind(value, self.values), var.name)

    def run(self) -> None:
        """Go back from the loss to the sources."""
        self._begin()
        for var, value in reversed(self.graph.bindings):
            gradient = self.gradient(var)
            if gradient is None or self._behind.isdisjoint(operands(value)):
                continue
            rule = _RULES.get(operator(value), _as_tvm_does)
            for operand, share in rule(self, var, value, gradient):
                if operand in self._behind:
                    known = share if isinstance(share, relax.Var) else self.builder.emit(share)
                    self._gradients.setdefault(operand, []).append(known)

    def gradient(self, var: Expr) -> Expr | None:
        """Give the gradient at a tensor once all that read it have been visited, or None if nothing did."""
        shares = self._gradients.get(var, [])
        while len(shares) > 1:
            shares[:2] = [self.builder.emit(relax.op.add(shares[0], shares[1]))]
        return shares[0] if shares else None

    def output(self, var: Expr) -> Expr:
        """Give what an output of the new network has of a tensor; of an input it is a copy."""
        if var in self.graph.inputs:
            return self.builder.emit(relax.op.multiply(var, relax.const(1.0, "float32")))
        return self.values[var]

    def _begin(self) -> None:
        """The gradient of the cross entropy at the scores: softmax(y) less one at the largest."""
        graph = self.graph
        (scores, *others) = graph.outputs
        call = graph.definition(scores)
        if operator(call) in ("nn.softmax", "nn.log_softmax"):
            scores = call.args[0]
        shape = shape_of(scores)
        axis = 1 if len(shape) == 4 else len(shape) - 1
        if others or len(shape) < 2 or shape[axis] < 2:
            raise UserError(
                "the criterion taylor needs a network with one output, the scores of several classes: choose "
                "another criterion in the recipe"
            )
        emit, new = self.builder.emit, self.values[scores]
        largest = emit(relax.op.max(new, axis, keepdims=True))
        chosen = emit(relax.op.astype(emit(relax.op.equal(new, largest)), "float32"))
        self._gradients[scores] = [emit(relax.op.subtract(emit(relax.op.nn.softmax(new, axis)), chosen))]


Shares = list[tuple[Expr, Expr]]  # an operand of the network and its share of the gradient


def _convolution(backward: _Backward, var: Expr, call: Expr, gradient: Expr) -> Shares:
    """Convolve the gradient, zeros between its pixels for strides, with the taps in reverse order.

    x [N, G C, H, W], w [G K, C, R, S], gradient [N, G K, P, Q]
    """
    data, weight = call.args
    attrs, emit = call.attrs, backward.builder.emit
    array = backward.graph.value(weight)
    if array is None or (attrs.data_layout, attrs.kernel_layout) != ("NCHW", "OIHW"):
        raise _unknown("nn.conv2d without a constant weight in the layout OIHW")
    groups, (*_, height, width) = int(attrs.groups), shape_of(data)
    k, c, r, s = array.shape
    turned = array.reshape(groups, k // groups, c, r, s).swapaxes(1, 2)[..., ::-1, ::-1]
    back = backward.builder.weight(
        f"{weight.name}|back", np.ascontiguousarray(turned.reshape(-1, k // groups, r, s))
    )
    strides, dilation = pair(attrs.strides), pair(attrs.dilation)
    spread = _spread(backward, gradient, strides)
    before = [int(each) for each in attrs.padding][:2]
    edges: list[tuple[int, int]] = []
    for extent, held, taps, step, pad in zip(
        (height, width), shape_of(spread)[2:], (r, s), dilation, before, strict=True
    ):
        edges.append(((taps - 1) * step - pad, extent - held + pad))
    # What is padded by less than nothing is cut: the pixels there meet nothing but padding.
    begin = [max(0, -first) for first, _ in edges]
    end = [held + min(0, last) for held, (_, last) in zip(shape_of(spread)[2:], edges, strict=True)]
    if begin != [0, 0] or tuple(end) != shape_of(spread)[2:]:
        spread = emit(relax.op.strided_slice(spread, [2, 3], begin, end))
    (top, bottom), (left, right) = (tuple(max(0, each) for each in edge) for edge in edges)
    share = relax.op.nn.conv2d(
        spread, back, padding=(top, left, bottom, right), dilation=dilation, groups=groups
    )
    return [(data, share)]


def _spread(backward: _Backward, gradient: Expr, strides: tuple[int, int]) -> Expr:
    """Put zeros behind each pixel: [N, K, P, Q] -> [N, K, P * stride, Q * stride]."""
    if strides == (1, 1):
        return gradient
    emit = backward.builder.emit
    n, k, p, q = shape_of(gradient)
    (down, across) = strides
    apart = emit(relax.op.reshape(gradient, (n, k, p, 1, q, 1)))
    padded = emit(relax.op.nn.pad(apart, [0] * 7 + [down - 1] + [0] * 3 + [across - 1]))
    return emit(relax.op.reshape(padded, (n, k, p * down, q * across)))


def _product(backward: _Backward, var: Expr, call: Expr, gradient: Expr) -> Shares:
    """Multiply with the transposed weight; products of two activations are as TVM has them."""
    data, weight = call.args
    array = backward.graph.value(weight)
    if array is None or array.ndim != 2 or not isinstance(weight, relax.Var):
        return _as_tvm_does(backward, var, call, gradient)
    back = backward.builder.weight(f"{weight.name}|back", np.ascontiguousarray(array.T))
    return [(data, relax.op.matmul(gradient, back))]


def _clip(backward: _Backward, var: Expr, call: Expr, gradient: Expr) -> Shares:
    """Let through what is within the limits."""
    low, high = (float(each.value) for each in call.args[1:])
    x, zero, emit = backward.values[call.args[0]], relax.const(0.0, "float32"), backward.builder.emit
    above = emit(relax.op.greater(x, relax.const(low, "float32")))
    below = emit(relax.op.less(x, relax.const(high, "float32")))
    inside = emit(relax.op.logical_and(above, below))
    return [(call.args[0], relax.op.where(inside, gradient, zero))]


def _join(backward: _Backward, var: Expr, call: Expr, gradient: Expr) -> Shares:
    """Give each tensor that is joined its part."""
    axis, start, shares = int(call.attrs.axis) % len(shape_of(var)), 0, []
    for field in call.args[0].fields:
        end = start + shape_of(field)[axis]
        shares.append((field, relax.op.strided_slice(gradient, [axis], [start], [end])))
        start = end
    return shares


def _shape(backward: _Backward, var: Expr, call: Expr, gradient: Expr) -> Shares:
    """Bring the gradient into the shape that the tensor had."""
    return [(call.args[0], relax.op.reshape(gradient, shape_of(call.args[0])))]


def _as_tvm_does(backward: _Backward, var: Expr, call: Expr, gradient: Expr) -> Shares:
    """Take the gradient that TVM has registered for an operator."""
    rule = call.op.get_attr("FPrimalGradient") if operator(call) else None
    if rule is None:
        raise _unknown(operator(call) or "what is no operator of Relax")
    new = rebind(call, backward.values)
    shares = rule(backward.values[var], new, gradient, backward.builder.block)
    return list(zip(call.args, shares, strict=False))


def _unknown(name: str) -> UserError:
    return UserError(
        f"the criterion taylor needs gradients, and there is none of {name}: choose another criterion "
        "in the recipe"
    )


_RULES: dict[str, Callable[[_Backward, Expr, Expr, Expr], Shares]] = {
    "nn.conv2d": _convolution,
    "matmul": _product,
    "clip": _clip,
    "concat": _join,
    **dict.fromkeys(("expand_dims", "flatten", "reshape", "squeeze"), _shape),
}
