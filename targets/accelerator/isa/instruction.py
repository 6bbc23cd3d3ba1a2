"""Instructions: what the sequencers of an accelerator obey, one mapped layer being a short program of them.

A machine has a queue for the transfers of each operand into each memory, and one for the array. All of them
walk over the same program, its loops included, and each obeys the instructions that are its own; tokens are
all that holds one back for another. So a tile may come while the one before it is in use.

    spread C 16 on rows step 1
    spread K 64 on columns step 1
    loop K 4 step 64
      load weight dram -> buffer at 0 x2 pitch 9216, K 64 C 16 R 3 S 3 wait free weight@buffer ...
      loop P 7 step 8
        load input dram -> buffer at 18432 x2 pitch 9280, C 16 P 8 Q 56 R 3 S 3 wait ...
        begin output dram -> buffer at 36992 x2 pitch 114688, K 64 P 8 Q 56 wait ...
        ...
        compute wait full weight@buffer full input@buffer full output@buffer
        ...
        sync give free input@buffer
        store output buffer -> dram at 36992 x2 pitch 114688, K 64 P 8 Q 56 give free output@buffer
      end
      sync give free weight@buffer
    end

The coordinate of an iteration over a dimension is the sum of index times step over its loops, in time and on
axes. Loops may make more iterations than the layer has: whatever lies beyond its sizes is left out, and a
tile ends there.
"""

from dataclasses import dataclass
from typing import Literal

from tersor.layer import DIMS, Dim, Operand

OPERANDS: tuple[Operand, ...] = ("weight", "input", "output")
Extents = tuple[int, ...]  # iterations over each of `DIMS`


@dataclass(frozen=True)
class Token:
    """A tile of `operand` at the memory `level` is `full`, or a place for one there is `free`.

    There are as many free places at first as a memory has for tiles of the operand. A load takes one, and
    gives `full` once its tile is there. Whoever needs the tile waits for that without taking it (and for the
    tile of his own place in the program, not for any): it is full until its place is given back as `free`.
    """

    state: Literal["full", "free"]
    operand: Operand
    level: int


@dataclass(frozen=True)
class Spread:
    """Spread `size` iterations over `dim` on the axis of that number; iterations are `step` apart."""

    axis: int
    dim: Dim
    size: int
    step: int


@dataclass(frozen=True)
class Loop:
    """Repeat what follows up to its `End`: `size` iterations over `dim`, `step` apart."""

    dim: Dim
    size: int
    step: int


@dataclass(frozen=True)
class End:
    """The end of the innermost open loop."""


@dataclass(frozen=True)
class Load:
    """Fetch the tile of `operand` here from the memory `source` into the memory `target`, both by level.

    The tile is the box of `extents` that begins at the coordinates of this place, in each unit of the axes
    around `target` at its own. It goes to byte `address`, or of several `places` to the next one in turn,
    each `pitch` bytes behind the other. With `slides`, what the tile before had in common with it stays.

    Of the output it takes a place where sums begin, and moves nothing; with `restore` it also brings those
    back that left incomplete before, if there are any.
    """

    operand: Operand
    source: int
    target: int
    extents: Extents
    address: int
    places: int
    pitch: int
    slides: bool = False
    restore: bool = False
    waits: tuple[Token, ...] = ()
    signals: tuple[Token, ...] = ()


@dataclass(frozen=True)
class Store:
    """Send the tile of sums here from the memory `source` to be added to what the memory `target` has.

    Fields are those of `Load`, the address being that at `source`. It follows whatever added to the sums
    before it in the program, steps of the array or stores from further inside, and gives their place back
    when they have left. What arrives at the outermost memory complete is an output.
    """

    source: int
    target: int
    extents: Extents
    address: int
    places: int
    pitch: int
    waits: tuple[Token, ...] = ()
    signals: tuple[Token, ...] = ()


@dataclass(frozen=True)
class Compute:
    """Make the products of one step, one in each unit whose iteration the layer has."""

    waits: tuple[Token, ...] = ()


@dataclass(frozen=True)
class Apply:
    """Make the tile of outputs here, the box of `extents`, of the tiles of inputs that lie at `level`.

    This is the vector unit at work, by the operator of a `VectorProgram`: it reads each element of its
    inputs' tiles once and writes each output once, as fast as the memory's ports let it.
    """

    level: int
    extents: Extents
    waits: tuple[Token, ...] = ()


@dataclass(frozen=True)
class Sync:
    """Give the tokens: what the tiles held is not needed any more."""

    signals: tuple[Token, ...] = ()


Instruction = Spread | Loop | End | Load | Store | Compute | Apply | Sync


def extents_of(**sizes: int) -> Extents:
    """Extents by dimension; those not named are 1."""
    return tuple(sizes.get(dim, 1) for dim in DIMS)
