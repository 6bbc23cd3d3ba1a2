"""Recurrent layers in Relax: one product for the inputs of all steps, then one operator for the steps.

    lstm(x, ...)   ->   gates = x @ weight_ih + bias;   y, c = call_tir(lstm, (gates, weight_hh, h, c))

The product is an ordinary dense layer. Directions are layers of their own, each with its own weights.
"""

from typing import Any

import numpy as np

from tersor.ir.graph import Expr, shape_of
from tersor.ir.recurrent import Gru, Lstm, call_cell
from tersor.ir.untyped import relax

Builder = Any  # a relax.BlockBuilder inside a dataflow block


def lstm(
    builder: Builder,
    x: Expr,
    weight_ih: Expr,
    weight_hh: Expr,
    bias: Expr | None,
    h: Expr | None = None,
    c: Expr | None = None,
    reverse: bool = False,
) -> tuple[Expr, Expr, Expr]:
    """Emit one direction of an LSTM; give y [T, B, H] and the last h and c, [B, H], all float32.

    x is [T, B, I], `weight_ih` [I, 4 * H], `weight_hh` [H, 4 * H] and `bias` [4 * H] the sum of both biases;
    the gates are in the order input, forget, cell, output, as in torch. `h` and `c` [B, H] start at zero
    unless given. With `reverse` the last step is the first one in time.
    """
    hidden = shape_of(weight_hh)[0]
    start = [_state(x, hidden) if state is None else state for state in (h, c)]
    gates = _input_product(builder, x, weight_ih, bias)
    both = call_cell(builder, Lstm(hidden, reverse), [gates, weight_hh, *start])
    y = builder.emit(relax.TupleGetItem(both, 0))
    return y, _last(builder, y, reverse), builder.emit(relax.TupleGetItem(both, 1))


def gru(
    builder: Builder,
    x: Expr,
    weight_ih: Expr,
    weight_hh: Expr,
    bias: Expr | None,
    candidate_bias: Expr | None,
    h: Expr | None = None,
    reverse: bool = False,
) -> tuple[Expr, Expr]:
    """Emit one direction of a GRU; give y [T, B, H] and the last h, [B, H], both float32.

    x is [T, B, I], `weight_ih` [I, 3 * H], `weight_hh` [H, 3 * H]; the gates are in the order reset, update,
    candidate, as in torch. With `candidate_bias` [H] the reset gate multiplies the recurrent product of the
    candidate and that bias (torch, ONNX with linear_before_reset), and `bias` [3 * H] has the other ones;
    without it the reset gate multiplies the state. `h` and `reverse` are those of `lstm`.
    """
    hidden = shape_of(weight_hh)[0]
    gates = _input_product(builder, x, weight_ih, bias)
    cell = Gru(hidden, reverse, reset_after=candidate_bias is not None)
    inner = [] if candidate_bias is None else [candidate_bias]
    y = call_cell(builder, cell, [gates, weight_hh, *inner, _state(x, hidden) if h is None else h])
    return y, _last(builder, y, reverse)


def _input_product(builder: Builder, x: Expr, weight: Expr, bias: Expr | None) -> Expr:
    product = builder.emit(relax.op.matmul(x, weight))
    return product if bias is None else builder.emit(relax.op.add(product, bias))


def _state(x: Expr, hidden: int) -> Expr:
    return relax.const(np.zeros((shape_of(x)[1], hidden), np.float32))


def _last(builder: Builder, y: Expr, reverse: bool) -> Expr:
    """Give the state after the last step that was run."""
    steps, batch, hidden = shape_of(y)
    at = 0 if reverse else steps - 1
    step = builder.emit(relax.op.strided_slice(y, [0], [at], [at + 1]))
    return builder.emit(relax.op.reshape(step, (batch, hidden)))
