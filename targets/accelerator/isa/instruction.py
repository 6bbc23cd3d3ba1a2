"""Instructions: what the sequencers of an accelerator obey, one mapped layer being a short program of them.

A machine has a queue for the transfers of each operand into each memory, and one for the array. All of them
walk over the same program, its loops included, and each obeys the instructions that are its own; tokens are
all that holds one back for another. So a tile may come while the one before it is in use.

    spread C 16 on rows step 1
    spread K 64 on columns step 1
    loop K 4 step 64
      load weight dram -> sram at 0 x2 pitch 9216, K 64 C 16 R 3 S 3, wait free weight@sram, give ...
      loop P 7 step 8
        load input dram -> sram at 18432 x2 pitch 9280, C 16 P 8 Q 56 R 3 S 3, wait ...
        begin output dram -> sram at 36992 x2 pitch 114688, K 64 P 8 Q 56, wait ...
        loop P 8 step 1
          ...
            compute, wait full weight@sram full input@sram full output@sram
          ...
        end
        sync, give free input@sram
        store output sram -> dram at 36992 x2 pitch 114688, K 64 P 8 Q 56, give free output@sram
      end
      sync, give free weight@sram
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
MOST_TOKENS = 8  # that one instruction waits for, or gives


@dataclass(frozen=True)
class Token:
    """A tile of `operand` at the memory `level` is `full`, or a place for one there is `free`.

    There are as many free places at first as a memory has for tiles of the operand. A load takes one, and
    gives `full` once its tile is there. Whoever needs the tile waits for that without taking it (and for the
    tile of his own place in the program, not for any): it is full until its place is given back as `free`.
    In a memory that streams, a place becomes free element by element, as these are used for the last time.
    """

    state: Literal["full", "free"]
    operand: Operand
    level: int

    def __post_init__(self) -> None:
        if self.state not in ("full", "free") or self.operand not in OPERANDS:
            raise ValueError(f"a token is full or free of an operand, got {self.state!r} {self.operand!r}")
        if self.level < 1:
            raise ValueError(f"the outermost memory (0) has all at all times; no token is of {self.level}")


@dataclass(frozen=True)
class Spread:
    """Spread `size` iterations over `dim` on the axis of that number; iterations are `step` apart."""

    axis: int
    dim: Dim
    size: int
    step: int

    def __post_init__(self) -> None:
        _check_iterations(self.dim, self.size, self.step)
        if self.axis < 0:
            raise ValueError(f"axes are numbered from 0, got {self.axis}")


@dataclass(frozen=True)
class Loop:
    """Repeat what follows up to its `End`: `size` iterations over `dim`, `step` apart."""

    dim: Dim
    size: int
    step: int

    def __post_init__(self) -> None:
        _check_iterations(self.dim, self.size, self.step)


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

    def __post_init__(self) -> None:
        if self.operand not in OPERANDS:
            raise ValueError(f"an operand is one of {', '.join(OPERANDS)}, got {self.operand!r}")
        if not 0 <= self.source < self.target:
            raise ValueError(f"a load goes inwards, got from {self.source} to {self.target}")
        if self.slides and self.operand != "input":
            raise ValueError(f"tiles of the input slide, not those of the {self.operand}")
        if self.restore and self.operand != "output":
            raise ValueError(f"sums of the output are restored, not the {self.operand}")
        _check_extents(self.extents)
        _check_places(self.address, self.places, self.pitch)
        _check_tokens(self.waits, self.signals)


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

    def __post_init__(self) -> None:
        if not 0 <= self.target < self.source:
            raise ValueError(f"a store goes outwards, got from {self.source} to {self.target}")
        _check_extents(self.extents)
        _check_places(self.address, self.places, self.pitch)
        _check_tokens(self.waits, self.signals)


@dataclass(frozen=True)
class Compute:
    """Make the products of one step, one in each unit whose iteration the layer has."""

    waits: tuple[Token, ...] = ()

    def __post_init__(self) -> None:
        _check_tokens(self.waits)


@dataclass(frozen=True)
class Apply:
    """Make the tile of outputs here, the box of `extents`, of the tiles of inputs that lie at `level`.

    This is the vector unit at work, by the operator of a `VectorProgram`: it reads each element of its
    inputs' tiles once and writes each output once, as fast as the memory's ports let it.
    """

    level: int
    extents: Extents
    waits: tuple[Token, ...] = ()

    def __post_init__(self) -> None:
        if self.level < 1:
            raise ValueError(f"tiles lie inside of the outermost memory (0), got {self.level}")
        _check_extents(self.extents)
        _check_tokens(self.waits)


@dataclass(frozen=True)
class Sync:
    """Give the tokens: what the tiles held is not needed any more."""

    signals: tuple[Token, ...] = ()

    def __post_init__(self) -> None:
        _check_tokens(self.signals)


Instruction = Spread | Loop | End | Load | Store | Compute | Apply | Sync


def extents_of(**sizes: int) -> Extents:
    """Extents by dimension; those not named are 1."""
    return tuple(sizes.get(dim, 1) for dim in DIMS)


def _check_iterations(dim: str, size: int, step: int) -> None:
    if dim not in DIMS:
        raise ValueError(f"a loop runs over one of {', '.join(DIMS)}, got {dim!r}")
    if size < 1 or step < 1:
        raise ValueError(f"a loop over {dim} makes 1 or more iterations, 1 or more apart, got {size}, {step}")


def _check_extents(extents: Extents) -> None:
    if len(extents) != len(DIMS) or min(extents) < 1:
        raise ValueError(f"a tile covers 1 or more iterations over each of {', '.join(DIMS)}, got {extents}")


def _check_places(address: int, places: int, pitch: int) -> None:
    if address < 0 or places < 1 or pitch < 1:
        raise ValueError(f"no tile lies at byte {address}, in {places} places of {pitch} bytes")


def _check_tokens(*lists: tuple[Token, ...]) -> None:
    for tokens in lists:
        if len(tokens) > MOST_TOKENS:
            raise ValueError(f"an instruction has up to {MOST_TOKENS} tokens, got {len(tokens)}")
