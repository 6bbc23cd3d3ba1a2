"""Constants: what reads weights alone is computed, in float64, and is a weight from then on."""

from collections.abc import Callable

import numpy as np
from tvm import relax

from tersor.ir.graph import Array, Expr, axes_of, operator, shape_of
from tersor.passes.canonicalize.walk import Walk

FOLDABLE: dict[str, Callable[..., Array]] = {
    "permute_dims": lambda call, a: np.transpose(a, axes_of(call)),
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


def folded(walk: Walk, call: Expr) -> Expr | None:
    """Compute a call that reads nothing but weights and constants."""
    compute = FOLDABLE.get(operator(call))
    tensors = [a for a in call.args if not isinstance(a, relax.ShapeExpr)]
    arrays = [walk.array(a) for a in tensors]
    if compute is None or not arrays or any(a is None for a in arrays):
        return None
    dtype = str(call.ty.dtype)
    wide = [a.astype(np.float64) if a.dtype == np.float32 else a for a in arrays if a is not None]
    result = np.asarray(compute(call, *wide)).astype(dtype).reshape(shape_of(call))
    name = next((a.name for a in tensors if isinstance(a, relax.Var)), None)
    return relax.const(result, dtype) if name is None else walk.weight(np.ascontiguousarray(result), name)


def shape_to_tensor(walk: Walk, call: Expr) -> Expr | None:
    """Compute the shape of a tensor."""
    source = walk.definition(call.args[0], "shape_of")
    return None if source is None else relax.const(np.array(shape_of(source.args[0]), np.int64), "int64")
