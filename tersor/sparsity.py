"""Sparsity: which weights of a layer are kept, as a pattern that a format can store.

2:4             two of every four along the input channels
block4x8-50     blocks of 4 outputs and 8 inputs, half of the blocks dropped
sparse90        any weights, 90 % dropped
channels50      whole channels: the tensors shrink until half of the multiplications are gone
"""

import re
from dataclasses import dataclass
from typing import Self

from tersor.layer import Layer


@dataclass(frozen=True)
class NM:
    """At most `n` of every `m` weights that follow one another along the input channels are not zero."""

    n: int
    m: int

    def __post_init__(self) -> None:
        if not 0 < self.n < self.m:
            raise ValueError(f"N:M sparsity needs 0 < n < m, got {self.n}:{self.m}")

    def __str__(self) -> str:
        return f"{self.n}:{self.m}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `"2:4"`. Raises ValueError."""
        found = re.fullmatch(r"(\d+):(\d+)", text)
        if not found:
            raise ValueError(f"{text!r} is no N:M sparsity; write it as in 2:4")
        return cls(int(found[1]), int(found[2]))

    @property
    def density(self) -> float:
        """The fraction of the weights that is kept."""
        return self.n / self.m


@dataclass(frozen=True)
class Block:
    """Blocks of `outputs` output channels and `inputs` neighbours along the sum, `zeros` % of them zero."""

    outputs: int
    inputs: int
    zeros: float  # percent

    def __post_init__(self) -> None:
        if min(self.outputs, self.inputs) < 1:
            raise ValueError(f"a block needs at least 1x1 weights, got {self.outputs}x{self.inputs}")
        _check_percentage(self.zeros)

    def __str__(self) -> str:
        return f"block{self.outputs}x{self.inputs}-{self.zeros:g}"

    @property
    def density(self) -> float:
        """The fraction of the weights that is kept."""
        return 1 - self.zeros / 100


@dataclass(frozen=True)
class Unstructured:
    """Any `zeros` % of the weights are zero."""

    zeros: float  # percent

    def __post_init__(self) -> None:
        _check_percentage(self.zeros)

    def __str__(self) -> str:
        return f"sparse{self.zeros:g}"

    @property
    def density(self) -> float:
        """The fraction of the weights that is kept."""
        return 1 - self.zeros / 100


@dataclass(frozen=True)
class Channels:
    """Whole output channels are removed, and what reads them shrinks along, until `zeros` % of the MACs are.

    What is left is an ordinary dense layer. Layers that a residual or a concatenation ties lose the same
    channels.
    """

    zeros: float  # percent

    def __post_init__(self) -> None:
        _check_percentage(self.zeros)

    def __str__(self) -> str:
        return f"channels{self.zeros:g}"

    @property
    def density(self) -> float:
        """The fraction of the multiply-accumulates that is kept."""
        return 1 - self.zeros / 100


Sparsity = NM | Block | Unstructured | Channels


def parse_sparsity(text: str) -> Sparsity | None:
    """Read a pattern; None if the text is of something else. Raises ValueError for numbers out of range."""
    if ":" in text:
        return NM.parse(text)
    if found := re.fullmatch(r"block(\d+)x(\d+)-(\d+(?:\.\d+)?)", text):
        return Block(int(found[1]), int(found[2]), float(found[3]))
    if found := re.fullmatch(r"(sparse|channels)(\d+(?:\.\d+)?)", text):
        kind = Unstructured if found[1] == "sparse" else Channels
        return kind(float(found[2]))
    return None


def _check_percentage(zeros: float) -> None:
    if not 0 < zeros < 100:
        raise ValueError(f"a sparsity is above 0 and below 100 percent, got {zeros:g}")


def why_no_pattern(layer: Layer, sparsity: Sparsity) -> str | None:
    """Say why the weight of `layer` cannot have the pattern, or None if it can.

    The pattern lies on the weight's matrix: a row for each output channel, columns in the order of the sum
    (r, s, c). Neither groups of m nor blocks cross a filter tap, and blocks no group of a convolution.
    """
    if not layer.weight_bearing:
        return "there is no weight to prune"
    if layer.operator == "gather":
        return f"rows of a table are looked up and not multiplied, so {sparsity} zeros would save nothing"
    match sparsity:
        case NM(m=m) if layer.C % m:
            return f"{sparsity} sparsity needs a multiple of {m} inputs, got {layer.C}"
        case Block(inputs=inputs) if layer.C % inputs:
            return f"{sparsity} sparsity needs a multiple of {inputs} inputs, got {layer.C}"
        case Block(outputs=outputs) if layer.K % outputs:
            return f"{sparsity} sparsity needs a multiple of {outputs} outputs, got {layer.K}"
        case _:
            return None
