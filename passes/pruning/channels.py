"""Channels: drop whole channels of layers, and what belongs to them everywhere else.

    conv2d(relu(conv2d(x, w) + b), v)   ->   conv2d(relu(conv2d(x, w[S]) + b[S]), v'[:, S])

First the network is masked (`masking.py`), which says what is computed; then the zeros are cut out. Both are
the same function, but for the order of float additions.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tersor.gram import Gram
from tersor.ir.graph import Builder, Expr, Graph, Module, operator, pair, rebind, shape_of
from tersor.ir.untyped import relax
from tersor.passes.extract import tensor_names
from tersor.passes.pruning.dependency import Dependencies
from tersor.passes.pruning.masking import masked
from tersor.passes.pruning.spread import Along, slice_of
from tersor.plan import GroupPlan
from tersor.statistics import Statistics

Indices = NDArray[np.int64]


def drop_channels(
    mod: Module, groups: Sequence[GroupPlan], statistics: Statistics | None, repair: bool
) -> Module:
    """Carry out a plan's groups; with `repair` the readers of what is dropped are fitted anew.

    Raises UserError for groups that the network does not have, and if `repair` lacks a Gram matrix.
    """
    if not groups:
        return mod
    return narrowed(masked(mod, groups, statistics, repair), groups)


def narrowed(mod: Module, groups: Sequence[GroupPlan]) -> Module:
    """Cut the dropped channels out of every weight, constant and shape. Raises UserError as `masked` does."""
    return _Narrowing(mod, groups).run()


def kept_channels(mod: Module, groups: Sequence[GroupPlan]) -> dict[str, tuple[int, Indices]]:
    """Give the axis and the channels that are left of the tensors that lose some, by name."""
    if not groups:
        return {}
    dependencies = Dependencies(Graph(mod), outputs_stay=False)
    dropped = dependencies.dropped(groups)
    left = {}
    for var, name in tensor_names(mod).items():
        along = dependencies.along.get(var)
        kept = None if along is None else dependencies.kept_mask(along.numbers, dropped)
        if along is not None and kept is not None and not kept.all():
            left[name] = along.axis, np.flatnonzero(kept)
    return left


def narrowed_statistics(mod: Module, groups: Sequence[GroupPlan], statistics: Statistics) -> Statistics:
    """Leave the dropped channels of a dense network out of its Gram matrices."""
    if not groups or not statistics.grams:
        return statistics
    dependencies = Dependencies(Graph(mod), outputs_stay=False)
    dropped = dependencies.dropped(groups)
    grams = dict(statistics.grams)
    for layer, classes in dependencies.inputs.items():
        if layer in grams:
            gram = grams[layer]
            kept = dependencies.kept_mask(classes, dropped)
            left = np.flatnonzero(np.tile(kept, gram.columns // len(kept)))
            moments = gram.second_moment[:, left[:, None], left]
            grams[layer] = Gram(np.ascontiguousarray(moments), gram.mean[:, left], gram.rows)
    return replace(statistics, grams=grams)


class _Narrowing:
    """One rewriting of a network without its dropped channels."""

    def __init__(self, mod: Module, groups: Sequence[GroupPlan]) -> None:
        self.graph = Graph(mod)
        self.dependencies = Dependencies(self.graph, outputs_stay=False)
        self.dropped = self.dependencies.dropped(groups)
        self.builder = Builder(self.graph)
        self.values: dict[Expr, Expr] = {var: var for var in self.graph.inputs}

    def run(self) -> Module:
        """Write the network anew."""
        # In the order of the parameters, so that what is not cut keeps its place.
        uses = {
            self.graph.definition(var).args[i]: cuts for (var, i), cuts in self.dependencies.stored.items()
        }
        for var, weight in self.graph.weights.items():
            self.values[var] = self.builder.weight(var.name, self._cut(weight, uses.get(var, ())))
        for var, value in self.graph.bindings:
            self.values[var] = self.builder.emit(self._rewritten(var, value), var.name)
        return self.builder.finish([self.values[output] for output in self.graph.outputs])

    def _kept(self, along: Along) -> NDArray[np.bool_]:
        return self.dependencies.kept_mask(along.numbers, self.dropped)

    def _cut(self, array: NDArray, cuts: Sequence[Along]) -> NDArray:
        for cut in cuts:
            array = np.compress(self._kept(cut), array, axis=cut.axis)
        return np.ascontiguousarray(array)

    def _rewritten(self, var: Expr, value: Expr) -> Expr:
        if not isinstance(value, relax.Call):
            return rebind(value, self.values)
        arguments = [self._argument(var, i, argument) for i, argument in enumerate(value.args)]
        match operator(value):
            case "nn.conv2d":
                return _convolved(value, arguments)
            case "reshape" | "flatten" | "nn.batch_flatten" | "squeeze" | "expand_dims":
                along = self.dependencies.along.get(var)
                if along is not None:
                    shape = list(shape_of(var))
                    shape[along.axis] = int(self._kept(along).sum())
                    return relax.op.reshape(arguments[0], tuple(shape))
            case "strided_slice":
                return self._sliced(value, arguments)
        return relax.Call(value.op, arguments, value.attrs, value.ty_args)

    def _argument(self, var: Expr, place: int, argument: Expr) -> Expr:
        """Give an operand; a weight that one operator alone cuts has been cut where it was declared."""
        cuts = self.dependencies.stored.get((var, place))
        if cuts is None:
            stays = argument in self.graph.weights
            return (
                self.builder.weight(argument.name, self.graph.weights[argument])
                if stays
                else rebind(argument, self.values)
            )
        value = self.graph.value(argument)
        assert value is not None  # only weights and constants are stored
        if argument in self.graph.weights:
            return self.builder.weight(argument.name, self._cut(value, cuts))
        return relax.const(self._cut(value, cuts), str(value.dtype))

    def _sliced(self, value: Expr, arguments: list[Expr]) -> Expr:
        """Take a slice of the channels that are left: it begins after those that are left before it."""
        along = self.dependencies.along.get(value.args[0])
        window = None if along is None else slice_of(value, along.axis)
        if along is None or window is None:
            return relax.Call(value.op, arguments, value.attrs, value.ty_args)
        kept = self._kept(along)
        axes, begins, ends, *rest = (
            [int(field.value) for field in argument.fields] for argument in value.args[1:]
        )
        rank = len(shape_of(value.args[0]))
        for place, axis in enumerate(axes):
            if axis % rank == along.axis:
                begins[place] = int(kept[: window.start].sum())
                ends[place] = int(kept[: window.stop].sum())
        return relax.op.strided_slice(arguments[0], axes, begins, ends, *rest)


def _convolved(value: Expr, arguments: list[Expr]) -> Expr:
    """Convolve with as many groups as are left, of a depthwise one as many as channels come in."""
    attributes = value.attrs
    depthwise = int(attributes.groups) > 1 and shape_of(value.args[1])[1] == 1
    return relax.op.nn.conv2d(
        *arguments,
        strides=pair(attributes.strides),
        padding=[int(each) for each in attributes.padding],
        dilation=pair(attributes.dilation),
        groups=shape_of(arguments[0])[1] if depthwise else int(attributes.groups),
        data_layout=attributes.data_layout,
        kernel_layout=attributes.kernel_layout,
        out_layout=attributes.out_layout,
        out_dtype=attributes.out_dtype or None,
    )
