"""Quantize recurrent layers: the weight becomes codes that the loop over the steps reads.

    call_tir(lstm, (gates, w, h, c))  ->  call_tir(lstm, (gates, codes of w, multiplier, h, c))

With int8 inputs the state meets the weight as the codes of `arithmetic.quantize_state`, whose grid is fixed:
a state lies between -1 and 1. What is carried from step to step stays float32.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tersor.arithmetic import STATE_LIMIT
from tersor.formats.encoded import Encoded
from tersor.ir.graph import Builder, Expr
from tersor.ir.recurrent import Recurrence, call_cell
from tersor.scheme import Scheme


def emit_quantized(
    builder: Builder, recurrence: Recurrence, encoded: Encoded, scheme: Scheme, values: Mapping[Expr, Expr]
) -> Expr:
    """Emit a recurrent layer on the rounded weight [H, gates * H]; give what its call gives.

    The loop reads codes, or the float32 numbers that a format without them stands for.
    """
    cell, weight = recurrence.cell, builder.weight(recurrence.layer, encoded.decode())
    gates, *rest = (values.get(each, each) for each in (recurrence.gates, *recurrence.rest))
    scale = encoded.scale
    if scale is None:
        return call_cell(builder, cell, [gates, weight, *rest])
    if scheme.input is not None:
        scale = (scale / np.float64(STATE_LIMIT)).astype(np.float32)
    cell = replace(cell, weight="int8", state="float32" if scheme.input is None else "int8")
    multiplier = builder.weight(f"{recurrence.layer}.multiplier", scale)
    return call_cell(builder, cell, [gates, weight, multiplier, *rest])
