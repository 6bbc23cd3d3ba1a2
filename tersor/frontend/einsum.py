"""Einsum of two tensors as one matrix product between transposes.

einsum("bsd,dhe->bhse", x, w)   ->   permute_dims(reshape(matmul(reshape(x), reshape(w))))
"""

from collections.abc import Sequence
from math import prod
from typing import Any

from tersor.ir.graph import shape_of
from tersor.ir.untyped import relax

Expr = Any


def product_of(builder: Any, equation: str, tensors: Sequence[Expr]) -> Expr | None:
    """Give the Relax expression of an equation, or None if it is not a plain product of two tensors.

    Not plain are: another number of tensors, an ellipsis, no axis that is summed, one that a single tensor
    sums or has twice, and axes of size one that stand for larger ones. `builder` emits what comes before.
    """
    terms, _, output = equation.replace(" ", "").partition("->")
    labels = terms.split(",")
    if not output or len(labels) != 2 or "." in equation:
        return None
    (a, b), (x, y) = labels, tensors
    sizes = dict(zip(a, shape_of(x), strict=True)) | dict(zip(b, shape_of(y), strict=True))
    batch = [label for label in output if label in a and label in b]
    summed = [label for label in a if label in b and label not in output]
    rows = [label for label in a if label not in b]
    columns = [label for label in b if label not in a]
    alike = all(sizes[label] == size for label, size in zip(a, shape_of(x), strict=True))
    if sorted([*batch, *rows, *columns]) != sorted(output) or not alike:
        return None
    if len(set(a)) < len(a) or len(set(b)) < len(b) or not summed:
        return None

    def arranged(tensor: Expr, label: str, *groups: list[str]) -> Expr:
        """Bring a tensor's axes into the order of the groups, and each group but the batch into one axis."""
        wanted = [each for group in groups for each in group]
        turned = builder.emit(relax.op.permute_dims(tensor, [label.index(each) for each in wanted]))
        shape = [sizes[each] for each in groups[0]]
        shape += [prod(sizes[each] for each in group) for group in groups[1:]]
        return builder.emit(relax.op.reshape(turned, shape))

    left, right = arranged(x, a, batch, rows, summed), arranged(y, b, batch, summed, columns)
    product = builder.emit(relax.op.matmul(left, right))
    order = [*batch, *rows, *columns]
    spread = builder.emit(relax.op.reshape(product, [sizes[each] for each in order]))
    return relax.op.permute_dims(spread, [order.index(each) for each in output])
