"""Factor: how the weight of a layer is written as a product of smaller ones, which become a chain of layers.

rank16           [C, K] -> [C, 16] [16, K]; a convolution -> RxS to 16 channels, then 1x1
spatial16        a convolution -> Rx1 to 16 channels, then 1xS
filtergroups4    a convolution -> RxS in 4 groups, then 1x1
tucker16x24      a convolution -> 1x1 to 16, RxS from 16 to 24, 1x1 from 24
cp24             a convolution -> 1x1 to 24, Rx1 and 1xS on each channel alone, 1x1
tt8              a dense layer as a tensor train with inner ranks of at most 8
svdsoftmax64x128 a dense layer before a softmax: 64 columns choose 128 outputs, worked out in full
"""

import re
from dataclasses import astuple, dataclass, fields
from typing import ClassVar


@dataclass(frozen=True)
class _Factor:
    def __post_init__(self) -> None:
        if min(astuple(self)) < 1:
            raise ValueError(f"a low-rank factorization needs a rank of at least 1, got {self}")

    name: ClassVar[str]

    def __str__(self) -> str:
        return self.name + "x".join(map(str, astuple(self)))


@dataclass(frozen=True)
class LowRank(_Factor):
    """The singular value decomposition of the matrix [C * R * S, K] of the weight, truncated."""

    rank: int
    name: ClassVar[str] = "rank"


@dataclass(frozen=True)
class Spatial(_Factor):
    """A filter [R, S] as Rx1 and 1xS behind one another (Jaderberg et al., BMVC 2014, scheme 2)."""

    rank: int
    name: ClassVar[str] = "spatial"


@dataclass(frozen=True)
class FilterGroups(_Factor):
    """A convolution in groups and a 1x1 convolution that mixes them (Peng et al., ECCV 2018)."""

    groups: int
    name: ClassVar[str] = "filtergroups"


@dataclass(frozen=True)
class Tucker(_Factor):
    """A Tucker-2 decomposition along input and output channels (Kim et al., ICLR 2016)."""

    inputs: int
    outputs: int
    name: ClassVar[str] = "tucker"


@dataclass(frozen=True)
class CP(_Factor):
    """A canonical polyadic decomposition along C, R, S and K (Lebedev et al., ICLR 2015)."""

    rank: int
    name: ClassVar[str] = "cp"


@dataclass(frozen=True)
class TensorTrain(_Factor):
    """A dense weight as a tensor train (Novikov et al., NIPS 2015)."""

    rank: int
    name: ClassVar[str] = "tt"


@dataclass(frozen=True)
class SVDSoftmax(_Factor):
    """A preview of all outputs from a few columns, then `full` of them exactly (Shim et al., NIPS 2017)."""

    preview: int
    full: int
    name: ClassVar[str] = "svdsoftmax"


Factor = LowRank | Spatial | FilterGroups | Tucker | CP | TensorTrain | SVDSoftmax
_KINDS = (LowRank, Spatial, FilterGroups, Tucker, CP, TensorTrain, SVDSoftmax)


def parse_factor(text: str) -> Factor | None:
    """Read a factorization; None if the text is of something else. Raises ValueError for a rank below 1."""
    found = re.fullmatch(r"([a-z]+)(\d+(?:x\d+)*)", text)
    if not found:
        return None
    ranks = [int(rank) for rank in found[2].split("x")]
    for kind in _KINDS:
        if kind.name == found[1] and len(ranks) == len(fields(kind)):
            return kind(*ranks)
    return None
