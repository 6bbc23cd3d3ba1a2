"""A whole integer network in numpy, from its inputs to its outputs, beside what compiled kernels make of it.

Whatever computes with integers is what `tersor.arithmetic` says, from numpy's own results. A float operator
in between (softmax, a norm, GELU, a float sum) has no bits of its own: how its sums are ordered and its
exponential is written out is the kernel's. Its result is taken from there; what it read has been compared.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tersor.ir.decoders import read_decoder
from tersor.ir.graph import Expr, Graph, expose, operator
from tersor.ir.operators import read_operator
from tersor.model import Build, Model
from tests.numpy_semantics import Meaning

Array = NDArray[Any]
# Operators whose results only one kernel sees, and the types of such results.
INSIDE, INSIDE_TYPES = ("nn.pad", "dequantize"), ("int32", "int8", "bool")
# Float results that are the same bits wherever they are made: copies, and single products of a code.
EXACT = ("reshape", "permute_dims", "expand_dims", "squeeze", "concat", "dequantize", "take")


@dataclass(frozen=True)
class NumpyRun:
    """What numpy made of a network, and by name the tensors in which the kernels differ from it.

    `compared` counts tensors that kernels give on; `taken` names the float ones that were the kernels'. The
    outputs are `exact` if none of them is what a float operator made: those are rounded as they are fused.
    """

    outputs: tuple[Array, ...]
    compared: int
    different: tuple[str, ...]
    taken: tuple[str, ...]
    exact: bool


def run_in_numpy(
    model: Model, mod: Any, sample: Mapping[str, Array], lender: Build | None = None
) -> NumpyRun:
    """Compute the integer network `mod` of `model`, with every tensor that kernels give one another."""
    graph = Graph(mod)
    seen = [var for var, value in graph.bindings if is_given_on(graph, var, value)]
    kernels = model.runner(*model.lowered_alike([expose(mod, seen)]), lender=lender)
    measured = dict(zip(seen, kernels.uncropped(sample), strict=True))
    taken = {var: array for var, array in measured.items() if not _is_exact(graph, var)}
    meaning = Meaning(mod, taken | {var: sample[var.name] for var in graph.inputs})
    compared = [var for var in seen if var not in taken]
    different = [var.name for var in compared if not np.array_equal(meaning.value(var), measured[var])]
    outputs = tuple(meaning.value(var) for var in graph.outputs)
    exact = not any(var in taken for var in graph.outputs)
    return NumpyRun(outputs, len(compared), tuple(different), tuple(var.name for var in taken), exact)


def is_given_on(graph: Graph, var: Expr, value: Expr) -> bool:
    """Whether a tensor leaves a kernel: not what is only inside one, as a padded image or an accumulator."""
    dtype = getattr(var.ty, "dtype", None)  # a tuple has none
    if dtype is None or str(dtype) in INSIDE_TYPES or operator(value) in INSIDE:
        return False
    user = graph.only_user(var)
    follows = operator(graph.definition(user)) if user is not None else ""
    return operator(value) not in ("nn.conv2d", "matmul") or follows not in ("add", "clip", "nn.relu")


def _is_exact(graph: Graph, var: Expr) -> bool:
    """Whether the bits of a tensor follow from the module alone."""
    value = graph.definition(var)
    if not str(var.ty.dtype).startswith("float") or read_operator(graph.mod, value) is not None:
        return True
    return operator(value) in EXACT or read_decoder(graph.mod, value) is not None
