"""Rank rule: a factorization whose ranks are chosen for each layer when a plan is made.

int8+rank-macs50        the largest ranks whose layers multiply at most 50 % as often
fp32+tucker-energy95    the least ranks that keep 95 % of the squared weights along each axis
int8+spatial-vbmf       the ranks that stand out from noise (variational Bayesian matrix factorization)

The plan holds the numbers: a scheme in it says `tucker16x24`.
"""

import re
from dataclasses import dataclass
from math import ceil
from typing import Literal, get_args

from tersor.factor import (
    CP,
    FACTORS,
    Factor,
    FilterGroups,
    LowRank,
    Spatial,
    TensorTrain,
    Tucker,
    why_no_factor,
)
from tersor.layer import Layer
from tersor.scheme import Scheme

Measure = Literal["macs", "energy", "vbmf"]
BY_SINGULAR_VALUES = ("rank", "spatial", "tucker")


@dataclass(frozen=True)
class RankRule:
    """Choose the ranks of the factorization of a name by a measure, with its share in percent."""

    factor: str
    by: Measure
    percent: int | None = None

    def __post_init__(self) -> None:
        names = [kind.name for kind in FACTORS if kind.name != "svdsoftmax"]
        if self.factor not in names:
            raise ValueError(f"ranks are chosen for {', '.join(names)}, got {self.factor!r}")
        if self.by not in get_args(Measure):
            raise ValueError(f"ranks are chosen by {', '.join(get_args(Measure))}, got {self.by!r}")
        if self.by != "macs" and self.factor not in BY_SINGULAR_VALUES:
            raise ValueError(f"{self.factor} has no singular values: choose its ranks by macs")
        if (self.by == "vbmf") != (self.percent is None):
            raise ValueError(f"{self.factor}-{self.by} takes a percentage, and vbmf none: write rank-macs50")
        if self.percent is not None and not 1 <= self.percent <= 100:
            raise ValueError(f"a share is from 1 to 100 percent, got {self.percent}")

    def __str__(self) -> str:
        return f"{self.factor}-{self.by}{'' if self.percent is None else self.percent}"


def parse_request(text: str) -> tuple[Scheme, RankRule | None]:
    """Read a scheme whose factorization may be a rule; the scheme is without it then. Raises ValueError."""
    parts, rule = text.split("+"), None
    for part in parts[1:]:
        if found := re.fullmatch(r"([a-z]+)-([a-z]+?)(\d+)?", part):
            if rule:
                raise ValueError(f"{text!r} names two rules for ranks; a scheme has at most one")
            by: Measure = found[2]  # pyright: ignore[reportAssignmentType]
            rule = RankRule(found[1], by, int(found[3]) if found[3] else None)
            parts.remove(part)
    scheme = Scheme.parse("+".join(parts))
    if rule and scheme.factor:
        raise ValueError(f"{text!r} names two factorizations; a scheme has at most one")
    return scheme, rule


def on_grid(name: str, layer: Layer) -> tuple[Factor, ...]:
    """The factorizations of a name that multiply less than a layer, ascending by how much they multiply.

    Ranks are multiples of what fills vectors: of 16, in narrow layers of 8 or 4. Of Tucker-2 both ranks are
    the same share of their channels.
    """
    candidates = any_ranks(name, layer)
    legal = {each: None for each in candidates if why_no_factor(layer, each) is None}
    return tuple(sorted(legal, key=lambda each: sum(part.macs for part in layer.factored(each))))


def round_up(rank: int, largest: int) -> int:
    """Give the next rank of the grid for ranks up to `largest`."""
    step = grid_step(largest)
    return min(ceil(rank / step) * step, largest)


def grid_step(largest: int) -> int:
    """What ranks up to `largest` are multiples of."""
    return 16 if largest >= 96 else 8 if largest >= 24 else 4


def any_ranks(name: str, layer: Layer) -> list[Factor]:
    """The factorizations of a name with ranks on the grid, whether a layer can have them or not."""
    window = layer.R * layer.S
    match name:
        case "rank":
            return [LowRank(rank) for rank in _ranks(min(layer.C * window, layer.K))]
        case "spatial":
            return [Spatial(rank) for rank in _ranks(min(layer.C * layer.R, layer.K * layer.S))]
        case "cp":
            return [CP(rank) for rank in _ranks(layer.weight_count // max(layer.C, layer.K))]
        case "tt":
            return [TensorTrain(rank) for rank in (2, 4, *_ranks(min(layer.C, layer.K)))]
        case "filtergroups":
            return [FilterGroups(groups) for groups in range(2, layer.C + 1)]
        case "tucker":
            wider = max(layer.C, layer.K)
            shares = [rank / wider for rank in _ranks(wider)]
            return [
                Tucker(*(round_up(ceil(share * side - 1e-9), side) for side in (layer.C, layer.K)))
                for share in shares
            ]
    raise ValueError(f"no ranks are known of {name!r}")


def _ranks(largest: int) -> range:
    step = grid_step(largest)
    return range(step, largest + 1, step)
