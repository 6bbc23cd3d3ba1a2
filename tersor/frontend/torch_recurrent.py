"""PyTorch's LSTM and GRU in Relax: their layers and directions one by one, by `tersor.frontend.recurrent`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tersor.frontend.recurrent import gru, lstm
from tersor.ir.graph import Expr, shape_of
from tersor.ir.untyped import relax

Builder = Any  # a relax.BlockBuilder inside a dataflow block


@dataclass(frozen=True)
class Stack:
    """The arguments of aten.lstm or aten.gru: x [T, B, I] or [B, T, I], states [L * D, B, H] or None for 0.

    `parameters` are for each of L layers and D directions weight_ih [G * H, I], weight_hh [G * H, H] and,
    with `has_biases`, bias_ih and bias_hh [G * H].
    """

    x: Expr
    states: tuple[Expr | None, ...]
    parameters: Sequence[Expr]
    has_biases: bool
    layers: int
    is_bidirectional: bool
    is_batch_first: bool

    def __post_init__(self) -> None:
        each = 4 if self.has_biases else 2
        if len(self.parameters) != each * self.layers * self.directions:
            raise ValueError("projections of the state (proj_size) are not supported")

    @property
    def directions(self) -> int:
        """One, or two of a bidirectional net."""
        return 2 if self.is_bidirectional else 1

    def part(self, index: int) -> tuple[Expr, Expr, Expr | None, Expr | None]:
        """Give the weights and biases of one layer in one direction."""
        each = 4 if self.has_biases else 2
        weight_ih, weight_hh, *biases = self.parameters[each * index : each * (index + 1)]
        bias_ih, bias_hh = biases if self.has_biases else (None, None)
        return weight_ih, weight_hh, bias_ih, bias_hh


def run_lstm(builder: Builder, stack: Stack) -> tuple[Expr, Expr, Expr]:
    """Emit an LSTM; give y, the last h and the last c."""
    return _run(builder, stack, _lstm)  # pyright: ignore[reportReturnType]


def run_gru(builder: Builder, stack: Stack) -> tuple[Expr, Expr]:
    """Emit a GRU; give y and the last h."""
    return _run(builder, stack, _gru)  # pyright: ignore[reportReturnType]


def _run(builder: Builder, stack: Stack, direction: Any) -> tuple[Expr, ...]:
    x = stack.x
    if stack.is_batch_first:
        x = builder.emit(relax.op.permute_dims(x, [1, 0, 2]))
    last = []
    for layer in range(stack.layers):
        results = []
        for reverse in (False, True)[: stack.directions]:
            index = layer * stack.directions + reverse
            states = [_row(builder, state, index) for state in stack.states]
            results.append(direction(builder, x, *stack.part(index), states, reverse))
        outputs = [y for y, *_ in results]
        x = builder.emit(relax.op.concat(outputs, 2)) if stack.is_bidirectional else outputs[0]
        last.extend(states for _, *states in results)
    if stack.is_batch_first:
        x = builder.emit(relax.op.permute_dims(x, [1, 0, 2]))
    return x, *(builder.emit(relax.op.stack(list(each), axis=0)) for each in zip(*last, strict=True))


def _lstm(
    builder: Builder,
    x: Expr,
    weight_ih: Expr,
    weight_hh: Expr,
    bias_ih: Expr | None,
    bias_hh: Expr | None,
    states: list[Expr | None],
    reverse: bool,
) -> tuple[Expr, ...]:
    bias = None if bias_ih is None else builder.emit(relax.op.add(bias_ih, bias_hh))
    weights = (_transposed(builder, weight_ih), _transposed(builder, weight_hh))
    return lstm(builder, x, *weights, bias, *states, reverse=reverse)


def _gru(
    builder: Builder,
    x: Expr,
    weight_ih: Expr,
    weight_hh: Expr,
    bias_ih: Expr | None,
    bias_hh: Expr | None,
    states: list[Expr | None],
    reverse: bool,
) -> tuple[Expr, ...]:
    hidden = shape_of(weight_hh)[1]
    if bias_ih is None:
        bias, candidate = None, relax.const(np.zeros(hidden, np.float32))
    else:
        # The recurrent bias of the candidate stays inside the reset gate, those of the gates do not.
        outside = relax.const(np.repeat(np.array([1, 1, 0], np.float32), hidden))
        bias = builder.emit(relax.op.add(bias_ih, builder.emit(relax.op.multiply(bias_hh, outside))))
        candidate = builder.emit(relax.op.strided_slice(bias_hh, [0], [2 * hidden], [3 * hidden]))
    weights = (_transposed(builder, weight_ih), _transposed(builder, weight_hh))
    return gru(builder, x, *weights, bias, candidate, *states, reverse=reverse)


def _transposed(builder: Builder, weight: Expr) -> Expr:
    return builder.emit(relax.op.permute_dims(weight, [1, 0]))


def _row(builder: Builder, states: Expr | None, index: int) -> Expr | None:
    """Give one of the stacked first states, [B, H]."""
    if states is None:
        return None
    row = builder.emit(relax.op.strided_slice(states, [0], [index], [index + 1]))
    return builder.emit(relax.op.reshape(row, shape_of(states)[1:]))
