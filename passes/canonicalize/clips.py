"""Clips: every activation that only limits its input becomes one `clip` or `nn.relu`.

minimum(maximum(x, 0), 6), clip(relu(x), 6)   ->   clip(x, 0, 6)
clip(x, 0, inf)                               ->   relu(x)
"""

import math

from tvm import relax

from tersor.ir.graph import Expr, operator
from tersor.passes.canonicalize.walk import Walk

CLIPS = ("nn.relu", "clip", "maximum", "minimum")


def interval(walk: Walk, call: Expr | None) -> tuple[Expr, float, float] | None:
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
    if walk.array(a) is not None:
        a, b = b, a
    bound = walk.array(b)
    if bound is None or bound.size != 1 or bound.ndim > len(a.ty.shape):
        return None
    return (a, bound.item(), math.inf) if operator(call) == "maximum" else (a, -math.inf, bound.item())


def bounds(walk: Walk, call: Expr) -> Expr | None:
    """Join a clip with the one that it alone reads, and write it as `nn.relu` or `clip`."""
    if (own := interval(walk, call)) is None:
        return None
    x, low, high = own
    inner = interval(walk, walk.definition(x, *CLIPS)) if walk.read_once(x) else None
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
