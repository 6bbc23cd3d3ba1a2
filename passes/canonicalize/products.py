"""Products: where a product has one weight, the weight stands on the right and is a matrix.

matmul(w, x)   ->   permute_dims(matmul(permute_dims(x), permute_dims(w)))      w [M, C], x [..., C, N]
matmul(x, v)   ->   reshape(matmul(x, reshape(v, [C, 1])))                      v [C]
"""

from tersor.ir.graph import Expr, shape_of
from tersor.ir.untyped import relax
from tersor.passes.canonicalize.walk import Walk


def weight_on_the_right(walk: Walk, call: Expr) -> Expr | None:
    """Transpose a product whose left operand is a weight."""
    weight, x = call.args
    array = walk.array(weight)
    if array is None or walk.array(x) is not None or array.ndim != 2 or len(shape_of(x)) < 2:
        return None
    turned = walk.emit_inner(relax.op.permute_dims(x, _swapped(x)))
    right = walk.emit_inner(relax.op.permute_dims(weight))
    product = walk.emit_inner(relax.op.matmul(turned, right))
    return relax.op.permute_dims(product, _swapped(product))


def vector_as_matrix(walk: Walk, call: Expr) -> Expr | None:
    """Make a vector on the right, which is a weight, a matrix of one column."""
    x, vector = call.args
    array = walk.array(vector)
    if array is None or array.ndim != 1 or walk.array(x) is not None or len(shape_of(x)) < 2:
        return None
    column = walk.emit_inner(relax.op.reshape(vector, (array.size, 1)))
    return relax.op.reshape(walk.emit_inner(relax.op.matmul(x, column)), shape_of(call))


def _swapped(expr: Expr) -> list[int]:
    """Give the axes with the last two exchanged."""
    rank = len(shape_of(expr))
    return [*range(rank - 2), rank - 1, rank - 2]
