"""Space: the schemes that one layer may get, and why it may not get the others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tersor.factor import LowRank
from tersor.layer import Layer
from tersor.scheme import FP32, INT8, W8A32, Scheme
from tersor.sparsity import NM, why_no_pattern
from tersor.weight_format import Integer

WhyNot = Callable[[Layer, Scheme], str | None]

RANK_STEP = 16  # ranks are multiples of it, so that a factor fills the lanes of a vector
RANK_SHARES = (0.25, 0.5, 0.75)  # of the rank above which the factors are larger than the weight


@dataclass(frozen=True)
class Space:
    """The legal schemes of a layer, and the refused ones with their reasons."""

    layer: str
    legal: tuple[Scheme, ...]
    refused: tuple[tuple[Scheme, str], ...]


def explore(layer: Layer, why_not: WhyNot, schemes: Sequence[Scheme] | None = None) -> Space:
    """Sort schemes of `layer` into those that `why_not`, the target's word, allows and the rest.

    Without `schemes` they are the `candidates`. `why_not` is asked in their order.
    """
    legal: list[Scheme] = []
    refused: list[tuple[Scheme, str]] = []
    for scheme in candidates(layer) if schemes is None else schemes:
        if reason := _why_no_weight_allows(layer, scheme) or why_not(layer, scheme):
            refused.append((scheme, reason))
        else:
            legal.append(scheme)
    return Space(layer.name, tuple(legal), tuple(refused))


def candidates(layer: Layer) -> tuple[Scheme, ...]:
    """What may be worth a try, in a fixed order.

    A table is only stored in fewer bits, a recurrent weight may be so, too; two activations have no weight to
    thin or factor; another weight may get int8, int8 with ranges found row by row, int8+2:4, and int8 with
    each rank of `ranks`.
    """
    if layer.operator == "gather":
        return (FP32, W8A32)
    if layer.recurrent:
        return (FP32, W8A32, INT8)
    if not layer.weight_bearing:
        return (FP32, INT8)
    eight = Integer(8)
    low_rank = (Scheme(LowRank(rank), None, eight, eight) for rank in ranks(layer))
    dynamic = (Scheme(None, None, eight, eight, dynamic=True),) if layer.operator == "matmul" else ()
    return (FP32, INT8, *dynamic, Scheme(None, NM(2, 4), eight, eight), *low_rank)


def ranks(layer: Layer) -> tuple[int, ...]:
    """The ranks worth a try, ascending: the two factors of a dense layer must be smaller than its weight.

    rank * (C + K) < C * K; convolutions and batched matmuls have none.
    """
    if layer.operator != "matmul" or layer.G > 1 or not layer.weight_bearing:
        return ()
    largest = (layer.C * layer.K - 1) // (layer.C + layer.K)
    steps = {int(largest * share) // RANK_STEP * RANK_STEP for share in RANK_SHARES}
    return tuple(sorted(steps - {0}))


def _why_no_weight_allows(layer: Layer, scheme: Scheme) -> str | None:
    return why_no_pattern(layer, scheme.sparsity) if scheme.sparsity else None
