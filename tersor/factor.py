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
from dataclasses import astuple, dataclass, fields, replace
from itertools import permutations
from math import prod
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from tersor.layer import Layer

# A mode of a tensor train: shorter ones make products that no vector unit is full with.
SHORTEST_MODE = 4
# Outputs for each input from which on a dense layer is taken to score a vocabulary.
VOCABULARY = 8


@dataclass(frozen=True)
class _Factor:
    name: ClassVar[str]

    def __post_init__(self) -> None:
        if min(astuple(self)) < 1:
            raise ValueError(f"a low-rank factorization needs a rank of at least 1, got {self}")

    def __str__(self) -> str:
        return self.name + "x".join(map(str, astuple(self)))


@dataclass(frozen=True)
class LowRank(_Factor):
    """The singular value decomposition of the matrix [C * R * S, K] of the weight, truncated."""

    rank: int
    name: ClassVar[str] = "rank"

    def why_not(self, layer: "Layer") -> str | None:
        """Say why the weight of a layer has no such factors, or None if it has."""
        return _why_no_rank(self.rank, min(layer.C * layer.R * layer.S, layer.K), "rank")

    def layers(self, layer: "Layer") -> tuple["Layer", ...]:
        """[C, K] -> [C, rank], [rank, K]; [K, C, R, S] -> [rank, C, R, S], [K, rank, 1, 1]."""
        return replace(layer, name=f"{layer.name}.0", K=self.rank), _pointwise_last(layer, 1, self.rank)


@dataclass(frozen=True)
class Spatial(_Factor):
    """A filter [R, S] as Rx1 and 1xS behind one another (Jaderberg et al., BMVC 2014, scheme 2)."""

    rank: int
    name: ClassVar[str] = "spatial"

    def why_not(self, layer: "Layer") -> str | None:
        """Say why the weight of a layer has no such factors, or None if it has."""
        if layer.operator != "conv2d" or min(layer.R, layer.S) == 1:
            return f"only filters with rows and columns are split into both, this is {_kind(layer)}"
        return _why_no_rank(self.rank, min(layer.C * layer.R, layer.K * layer.S), "spatial rank")

    def layers(self, layer: "Layer") -> tuple["Layer", ...]:
        """[K, C, R, S] -> [rank, C, R, 1], [K, rank, 1, S]: each walks, pads and dilates in its direction."""
        top, left, bottom, right = layer.padding
        down, across = layer.stride
        columns = replace(
            layer,
            name=f"{layer.name}.0",
            K=self.rank,
            Q=input_size(layer)[1],
            S=1,
            stride=(down, 1),
            padding=(top, 0, bottom, 0),
            dilation=(layer.dilation[0], 1),
        )
        rows = replace(
            layer,
            name=f"{layer.name}.1",
            C=self.rank,
            R=1,
            stride=(1, across),
            padding=(0, left, 0, right),
            dilation=(1, layer.dilation[1]),
        )
        return columns, rows


@dataclass(frozen=True)
class FilterGroups(_Factor):
    """A convolution in groups and a 1x1 convolution that mixes them (Peng et al., ECCV 2018)."""

    groups: int
    name: ClassVar[str] = "filtergroups"

    def why_not(self, layer: "Layer") -> str | None:
        """Say why the weight of a layer has no such factors, or None if it has."""
        if layer.operator != "conv2d":
            return f"only convolutions are split into filter groups, this is {_kind(layer)}"
        if layer.C % self.groups or layer.K % self.groups:
            return f"{layer.C} inputs and {layer.K} outputs do not go into {self.groups} groups"
        if layer.K > layer.C * layer.R * layer.S:
            return f"a group has fewer inputs than outputs, {layer.C * layer.R * layer.S} to {layer.K}"
        return None

    def layers(self, layer: "Layer") -> tuple["Layer", ...]:
        """[K, C, R, S] -> [K, C / groups, R, S] in groups, [K, K, 1, 1]."""
        groups = self.groups
        first = replace(layer, name=f"{layer.name}.0", G=groups, K=layer.K // groups, C=layer.C // groups)
        return first, _pointwise_last(layer, 1, layer.K)


@dataclass(frozen=True)
class Tucker(_Factor):
    """A Tucker-2 decomposition along input and output channels (Kim et al., ICLR 2016)."""

    inputs: int
    outputs: int
    name: ClassVar[str] = "tucker"

    def why_not(self, layer: "Layer") -> str | None:
        """Say why the weight of a layer has no such factors, or None if it has."""
        if layer.operator != "conv2d" or layer.R * layer.S == 1:
            return f"only filters have a Tucker-2 decomposition of their channels, this is {_kind(layer)}"
        window = layer.R * layer.S
        return _why_no_rank(
            self.inputs, min(layer.C, window * self.outputs), "rank of the inputs"
        ) or _why_no_rank(self.outputs, min(layer.K, window * self.inputs), "rank of the outputs")

    def layers(self, layer: "Layer") -> tuple["Layer", ...]:
        """[K, C, R, S] -> [inputs, C, 1, 1], [outputs, inputs, R, S], [K, outputs, 1, 1]."""
        core = replace(layer, name=f"{layer.name}.1", C=self.inputs, K=self.outputs)
        return _pointwise_first(layer, self.inputs), core, _pointwise_last(layer, 2, self.outputs)


@dataclass(frozen=True)
class CP(_Factor):
    """A canonical polyadic decomposition along C, R, S and K (Lebedev et al., ICLR 2015)."""

    rank: int
    name: ClassVar[str] = "cp"

    def why_not(self, layer: "Layer") -> str | None:
        """Say why the weight of a layer has no such factors, or None if it has."""
        if layer.operator != "conv2d" or min(layer.R, layer.S) == 1:
            return f"only filters with rows and columns have a CP decomposition, this is {_kind(layer)}"
        return _why_no_rank(self.rank, layer.weight_count // max(layer.C, layer.K), "CP rank")

    def layers(self, layer: "Layer") -> tuple["Layer", ...]:
        """[K, C, R, S] -> [rank, C, 1, 1], [rank, 1, R, 1], [rank, 1, 1, S], [K, rank, 1, 1]."""
        columns, rows = (
            replace(each, name=f"{layer.name}.{place}", G=self.rank, K=1, C=1)
            for place, each in enumerate(Spatial(self.rank).layers(layer), 1)
        )
        return _pointwise_first(layer, self.rank), columns, rows, _pointwise_last(layer, 3, self.rank)


@dataclass(frozen=True)
class Train:
    """The modes and ranks of a tensor train for a weight [C, K], in the order in which they are multiplied.

    Step i takes the last input mode that is left, `inputs[-1 - i]`, and the rank `ranks[i]`, and gives the
    output mode `outputs[i]` and the rank `ranks[i + 1]`: its weight is [inputs[-1 - i] * ranks[i],
    outputs[i] * ranks[i + 1]]. The first and the last rank are 1.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    ranks: tuple[int, ...]

    def steps(self) -> list[tuple[int, int, int]]:
        """Give the rows for one row of the input, the inputs and the outputs of the product of each step."""
        found = []
        for i, (taken, given) in enumerate(zip(self.inputs[::-1], self.outputs, strict=True)):
            rows = prod(self.inputs[: -1 - i]) * prod(self.outputs[:i])
            found.append((rows, taken * self.ranks[i], given * self.ranks[i + 1]))
        return found

    @property
    def macs(self) -> int:
        """Multiplications for one row of the input."""
        return sum(rows * inputs * outputs for rows, inputs, outputs in self.steps())


@dataclass(frozen=True)
class TensorTrain(_Factor):
    """A dense weight as a tensor train (Novikov et al., NIPS 2015)."""

    rank: int
    name: ClassVar[str] = "tt"

    def why_not(self, layer: "Layer") -> str | None:
        """Say why the weight of a layer has no such factors, or None if it has."""
        if layer.operator != "matmul":
            return f"only dense layers become tensor trains, this is {_kind(layer)}"
        if _modes(layer.C) is None or _modes(layer.K) is None:
            return f"{layer.C} inputs or {layer.K} outputs have no two factors of {SHORTEST_MODE} or more"
        return None

    def layers(self, layer: "Layer") -> tuple["Layer", ...]:
        """[C, K] -> the weights of `Train`, each a product with more or fewer rows."""
        return tuple(
            replace(layer, name=f"{layer.name}.{i}", N=layer.N * rows, C=inputs, K=outputs)
            for i, (rows, inputs, outputs) in enumerate(self.train(layer.C, layer.K).steps())
        )

    def train(self, inputs: int, outputs: int) -> Train:
        """Give the modes of a weight [inputs, outputs] in the order that multiplies least."""
        return min(
            (
                self._ranked(rows, columns)
                for count in (3, 2)
                for rows in permutations(_modes(inputs, count) or ())
                for columns in permutations(_modes(outputs, count) or ())
                if len(rows) == len(columns) == count
            ),
            key=lambda train: (-len(train.inputs), train.macs, train.inputs, train.outputs),
        )

    def _ranked(self, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> Train:
        sizes = [taken * given for taken, given in zip(inputs[::-1], outputs, strict=True)]
        inner = [min(self.rank, prod(sizes[:i]), prod(sizes[i:])) for i in range(1, len(sizes))]
        return Train(inputs, outputs, (1, *inner, 1))


@dataclass(frozen=True)
class SVDSoftmax(_Factor):
    """A preview of all outputs from a few columns, then `full` of them exactly (Shim et al., NIPS 2017)."""

    preview: int
    full: int
    name: ClassVar[str] = "svdsoftmax"

    def why_not(self, layer: "Layer") -> str | None:
        """Say why the weight of a layer has no such factors, or None if it has."""
        if layer.operator != "matmul" or layer.K < VOCABULARY * layer.C:
            return (
                f"only dense layers with {VOCABULARY} times as many outputs as inputs are previewed, "
                f"this is {_kind(layer)} with {layer.C} inputs and {layer.K} outputs"
            )
        return _why_no_rank(self.preview, layer.C, "preview") or _why_no_rank(self.full, layer.K, "choice")

    def layers(self, layer: "Layer") -> tuple["Layer", ...]:
        """[C, K] -> the rotation [C, C], the preview [preview, K], and the table [K, C] of chosen outputs."""
        rotation = replace(layer, name=f"{layer.name}.0", K=layer.C)
        preview = replace(layer, name=f"{layer.name}.1", C=self.preview)
        chosen = replace(
            layer, name=f"{layer.name}.2", operator="gather", N=layer.N * self.full, C=layer.K, K=layer.C
        )
        return rotation, preview, chosen


Factor = LowRank | Spatial | FilterGroups | Tucker | CP | TensorTrain | SVDSoftmax
FACTORS = (LowRank, Spatial, FilterGroups, Tucker, CP, TensorTrain, SVDSoftmax)


def parse_factor(text: str) -> Factor | None:
    """Read a factorization; None if the text is of something else. Raises ValueError for a rank below 1."""
    found = re.fullmatch(r"([a-z]+)(\d+(?:x\d+)*)", text)
    if not found:
        return None
    ranks = [int(rank) for rank in found[2].split("x")]
    for kind in FACTORS:
        if kind.name == found[1] and len(ranks) == len(fields(kind)):
            return kind(*ranks)
    return None


def why_no_factor(layer: "Layer", factor: Factor) -> str | None:
    """Say why a factorization of the weight of a layer makes no sense, or None if it does.

    Its layers must exist and multiply less than the layer does.
    """
    if reason := why_no_chain(layer, factor):
        return reason
    macs = sum(each.macs for each in factor.layers(layer))
    if macs >= layer.macs:
        return f"its layers multiply {macs / layer.macs:.2f} times as much as the one they replace"
    return None


def why_no_chain(layer: "Layer", factor: Factor) -> str | None:
    """Say why a factorization makes no chain of layers of this one, however long it takes, or None."""
    if not layer.weight_bearing:
        return f"{layer.name} has no weight to factor"
    if layer.recurrent or layer.operator == "gather":
        return f"only convolutions and dense layers are factored, this is {_kind(layer)}"
    if layer.G > 1:
        return f"only convolutions without groups are factored, this has {layer.G}"
    return factor.why_not(layer)


def input_size(layer: "Layer") -> tuple[int, int]:
    """Give height and width of the smallest input that gives the output of a convolution."""
    (top, left, bottom, right), (down, across) = layer.padding, layer.stride
    height = (layer.P - 1) * down + (layer.R - 1) * layer.dilation[0] + 1 - top - bottom
    width = (layer.Q - 1) * across + (layer.S - 1) * layer.dilation[1] + 1 - left - right
    return max(height, 1), max(width, 1)


def _pointwise_first(layer: "Layer", outputs: int) -> "Layer":
    height, width = input_size(layer)
    return _pointwise(replace(layer, name=f"{layer.name}.0", K=outputs, P=height, Q=width))


def _pointwise_last(layer: "Layer", place: int, inputs: int) -> "Layer":
    return _pointwise(replace(layer, name=f"{layer.name}.{place}", C=inputs))


def _pointwise(layer: "Layer") -> "Layer":
    return replace(layer, R=1, S=1, stride=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1))


def _why_no_rank(rank: int, largest: int, what: str) -> str | None:
    return f"the {what} {rank} is above {largest}, all that the weight has" if rank > largest else None


def _kind(layer: "Layer") -> str:
    if layer.recurrent:
        return "a recurrent layer"
    match layer.operator:
        case "matmul":
            return "a dense layer"
        case "gather":
            return "a table"
        case "conv2d":
            return f"a {layer.R}x{layer.S} convolution"


def _modes(size: int, count: int | None = None) -> tuple[int, ...] | None:
    """Split a size into factors near one another, each of `SHORTEST_MODE` or more; None if it has none.

    Without a `count` it is three of them, or two where that fails.
    """
    if count is None:
        return _modes(size, 3) or _modes(size, 2)
    if count == 1:
        return (size,) if size >= SHORTEST_MODE else None
    root = round(size ** (1 / count))
    for first in range(root, SHORTEST_MODE - 1, -1):
        if size % first == 0 and (rest := _modes(size // first, count - 1)):
            return (first, *rest)
    return None
