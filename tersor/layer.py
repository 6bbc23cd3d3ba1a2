"""Layer: one operator with a weight, or one product of activations, as a named loop nest.

The letters are Timeloop's, and the only single-letter names of the project:

    N  batch (for a matmul: all rows of the left operand)
    G  groups (for a batched matmul: the batch, since the right operand differs too)
    K  output channels per group        C  input channels per group
    P, Q  height and width of the output        R, S  height and width of the filter

A matmul is N, K, C, so what BLAS calls "GEMM K" is C here. A gather looks N rows of K elements up in a
table of C rows: the weight of a matmul whose input would be one-hot, without its multiplications.
"""

from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar, Literal

from pydantic import ConfigDict

from tersor.factor import Factor, input_size, why_no_chain

DIMS = ("N", "G", "K", "C", "P", "Q", "R", "S")
Dim = Literal["N", "G", "K", "C", "P", "Q", "R", "S"]
Operand = Literal["weight", "input", "output"]

# Which loops index which operand (an input is indexed by P and R together, by Q and S together).
INDEXED_BY: dict[Operand, frozenset[str]] = {
    "weight": frozenset("GKCRS"),
    "input": frozenset("NGCPQRS"),
    "output": frozenset("NGKPQ"),
}


@dataclass(frozen=True)
class Layer:
    """One conv2d, matmul or gather; `name` is its weight's in the model, or made up if it has no weight.

    `padding` is top, left, bottom, right. `weight_bearing` is false where both operands are computed, as in
    the products of attention; `weight_*` then speak of the right operand. The rows of a `recurrent` matmul
    come one after the other: each needs the result of the one before.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    operator: Literal["conv2d", "matmul", "gather"]
    N: int = 1
    G: int = 1
    K: int = 1
    C: int = 1
    P: int = 1
    Q: int = 1
    R: int = 1
    S: int = 1
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    weight_bearing: bool = True
    recurrent: bool = False

    def __post_init__(self) -> None:
        if self.operator not in ("conv2d", "matmul", "gather"):
            raise ValueError(
                f"layer {self.name!r}: operator must be conv2d, matmul or gather, got {self.operator!r}"
            )
        for dim in DIMS:
            if self.size(dim) < 1:
                raise ValueError(f"layer {self.name!r}: {dim} must be at least 1, got {self.size(dim)}")
        if self.operator != "conv2d" and (self.P, self.Q, self.R, self.S) != (1, 1, 1, 1):
            sizes = f"P={self.P} Q={self.Q} R={self.R} S={self.S}"
            raise ValueError(f"layer {self.name!r}: a {self.operator} has P = Q = R = S = 1, got {sizes}")
        self._check_window()

    def _check_window(self) -> None:
        for what, sizes, length, least in (
            ("stride", self.stride, 2, 1),
            ("padding", self.padding, 4, 0),
            ("dilation", self.dilation, 2, 1),
        ):
            if len(sizes) != length or min(sizes) < least:
                raise ValueError(
                    f"layer {self.name!r}: {what} needs {length} numbers >= {least}, got {sizes}"
                )

    def size(self, dim: str) -> int:
        """The number of iterations of the loop `dim`, one of `DIMS`."""
        return getattr(self, dim)

    @property
    def macs(self) -> int:
        """Multiply-accumulates: the product of all loops; none of a gather."""
        return 0 if self.operator == "gather" else prod(self.size(dim) for dim in DIMS)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """[G*K, C, R, S] of a convolution; [C, K] of a matmul or a table, [G, C, K] of a batched matmul."""
        if self.operator == "conv2d":
            return (self.G * self.K, self.C, self.R, self.S)
        return (self.C, self.K) if self.G == 1 else (self.G, self.C, self.K)

    @property
    def weight_count(self) -> int:
        """Elements of the weight (of the right operand, if it is computed)."""
        return self.G * self.K * self.C * self.R * self.S

    @property
    def input_count(self) -> int:
        """Elements of the smallest input that gives this output; padding is not counted.

        The rows and columns at the far edges that a stride steps over are not in the loop nest, so the tensor
        in memory may be up to stride - 1 of them larger. A gather reads one index for each row.
        """
        if self.operator == "gather":
            return self.N
        return self.N * self.G * self.C * prod(input_size(self))

    @property
    def output_count(self) -> int:
        """Elements of the output."""
        return self.N * self.G * self.K * self.P * self.Q

    @property
    def at_once(self) -> "Layer":
        """What of it runs at a time: one of the rows that come one after the other, if it is recurrent."""
        return replace(self, N=1) if self.recurrent else self

    def factored(self, factor: Factor) -> tuple["Layer", ...]:
        """The layers `<name>.0`, `<name>.1`, ... that a factorization of the weight makes of this one.

        A first layer that leaves columns alone sees the input of `input_count`, not what a stride steps over.
        Raises ValueError if it makes none.
        """
        if reason := why_no_chain(self, factor):
            raise ValueError(f"{factor} makes no layers of {self.name!r}: {reason}")
        return factor.layers(self)

    @property
    def is_depthwise(self) -> bool:
        """Whether each group of a convolution reads a single channel."""
        return self.operator == "conv2d" and self.G > 1 and self.C == 1
