"""Representation: how a tensor with zeros lies in a memory, and the bits that this takes.

dense             every element
bitmask           the elements that are not zero, and one bit for each element
rle5              the same with the length of the run of zeros before it in 5 bits; longer runs store a zero
coordinate7       the same with its coordinate in 7 bits
csr7/16           the same, and a pointer of 16 bits for every row of elements (CSC: of every column)
blocked16         blocks of 16 elements with something in them, whole, and one bit for each block
2:4               two of every four elements with 2 bits for their places
"""

import re
from dataclasses import dataclass
from math import ceil, log2
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, PlainSerializer

from tersor.sparsity import NM

Kind = Literal["dense", "bitmask", "rle", "coordinate", "csr", "blocked", "n:m"]


@dataclass(frozen=True)
class Representation:
    """One of the representations above; `metadata` are bits of a run, a coordinate or a column."""

    kind: Kind = "dense"
    metadata: int = 0
    pointer: int = 0  # bits of a row's pointer
    block: int = 1
    pattern: NM | None = None

    def __post_init__(self) -> None:
        if self.kind in ("rle", "coordinate", "csr") and not 1 <= self.metadata <= 64:
            raise ValueError(f"{self.kind} needs 1 to 64 bits of metadata, got {self.metadata}")
        if self.kind == "csr" and not 1 <= self.pointer <= 64:
            raise ValueError(f"csr needs pointers of 1 to 64 bits, got {self.pointer}")
        if self.block < 1:
            raise ValueError(f"a block needs at least 1 element, got {self.block}")
        if (self.kind == "n:m") != (self.pattern is not None):
            raise ValueError("a pattern of n in m is given for n:m alone")

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read a representation's text. Raises ValueError."""
        if isinstance(text, cls):
            return text
        if not isinstance(text, str):
            raise ValueError(f"write a representation as text, as in 'bitmask', got {text!r}")
        if text in ("dense", "bitmask"):
            return cls(text)
        if found := re.fullmatch(r"(rle|coordinate)(\d+)", text):
            return cls("rle" if found[1] == "rle" else "coordinate", int(found[2]))
        if found := re.fullmatch(r"csr(\d+)/(\d+)", text):
            return cls("csr", int(found[1]), int(found[2]))
        if found := re.fullmatch(r"blocked(\d+)", text):
            return cls("blocked", block=int(found[1]))
        if ":" in text:
            return cls("n:m", pattern=NM.parse(text))
        raise ValueError(
            f"{text!r} is no representation; write dense, bitmask, rle5, coordinate7, csr7/16, blocked16 "
            "or 2:4"
        )

    def __str__(self) -> str:
        match self.kind:
            case "rle" | "coordinate":
                return f"{self.kind}{self.metadata}"
            case "csr":
                return f"csr{self.metadata}/{self.pointer}"
            case "blocked":
                return f"blocked{self.block}"
            case "n:m":
                return str(self.pattern)
            case _:
                return self.kind

    def payload(self, density: float) -> float:
        """Stored elements for each element of the tensor, where `density` of them are not zero, anywhere."""
        match self.kind:
            case "dense":
                return 1.0
            case "blocked":
                return 1 - (1 - density) ** self.block
            case "n:m":
                assert self.pattern
                return self.pattern.density
            case "rle":
                # A run of 2^bits zeros or more is cut by zeros that are stored: a geometric series of them.
                longer = (1 - density) ** (1 << self.metadata)
                return density / (1 - longer) if density > 0 else 2.0**-self.metadata
            case _:
                return density

    def metadata_bits(self, density: float, row: int = 1) -> float:
        """Bits of metadata for each element; `row` is the number of elements that share a pointer of csr."""
        match self.kind:
            case "dense":
                return 0.0
            case "bitmask":
                return 1.0
            case "blocked":
                return 1 / self.block
            case "n:m":
                assert self.pattern
                return self.pattern.density * ceil(log2(self.pattern.m))
            case "csr":
                return density * self.metadata + self.pointer / row
            case _:
                return self.payload(density) * self.metadata

    def bits(self, element: float, density: float, row: int = 1) -> float:
        """Bits for each element of the tensor, if one that is stored takes `element` bits."""
        return self.payload(density) * element + self.metadata_bits(density, row)


RepresentationText = Annotated[Representation, BeforeValidator(Representation.parse), PlainSerializer(str)]
DENSE = Representation()
