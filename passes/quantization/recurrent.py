"""Quantize recurrent layers: the weight becomes codes that the loop over the steps reads.

    call_tir(lstm, (gates, w, h, c))  ->  call_tir(lstm, (gates, codes of w, multiplier, h, c))

With int8 inputs the state meets the weight as the codes of `arithmetic.quantize_state`, whose grid is fixed:
a state lies between -1 and 1. What is carried from step to step stays float32.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tersor.arithmetic import STATE_LIMIT
from tersor.ir.graph import Array, Builder, Expr
from tersor.ir.recurrent import Recurrence, call_cell
from tersor.passes.quantization.weights import quantize_weight
from tersor.scheme import Scheme


def emit_quantized(
    builder: Builder, recurrence: Recurrence, weight: Array, scheme: Scheme, values: Mapping[Expr, Expr]
) -> Expr:
    """Emit a recurrent layer on codes of its weight, float32 [H, gates * H]; give what its call gives."""
    codes, scale = quantize_weight(weight, axis=1)
    if scheme.input is not None:
        scale = (scale / np.float64(STATE_LIMIT)).astype(np.float32)
    cell = replace(recurrence.cell, weight="int8", state="float32" if scheme.input is None else "int8")
    stored = builder.weight(recurrence.layer, codes)
    multiplier = builder.weight(f"{recurrence.layer}.multiplier", scale)
    gates, *rest = (values.get(each, each) for each in (recurrence.gates, *recurrence.rest))
    return call_cell(builder, cell, [gates, stored, multiplier, *rest])
