"""Placement: store only some entries of a matrix of codes, and where they stand.

N:M             positions within each group, in as few bits as `m` needs
unstructured    a bit for each weight, or the gap to the entry before, whichever takes less
blocks          rows of blocks with the column of each (BSR)

An entry that a pattern keeps and that is zero is stored as the code of zero.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tersor.formats.bits import pack_bits, packed_length
from tersor.formats.decoding import Decode, PlaceBitmap, PlaceBlocks, PlaceNM, PlaceRelative, Unpack
from tersor.sparsity import NM, Block, Sparsity, Unstructured

Array = NDArray[Any]
GAP_BITS = range(2, 9)


@dataclass(frozen=True)
class Kept:
    """How many entries are stored: with gaps of some bits, or else as the pattern of the sparsity says."""

    entries: int
    gap_bits: int | None = None


@dataclass(frozen=True, eq=False)
class Placed:
    """The entries that are stored, [rows, entries of each], and how they are placed in the matrix."""

    entries: Array
    arrays: dict[str, Array]
    steps: tuple[Decode, ...]  # from the names "entries" and those of the arrays to "placed"
    kept: Kept


def place(codes: Array, is_zero: NDArray[np.bool_], sparsity: Sparsity, bits: int) -> Placed:
    """Split a matrix of codes of `bits` bits into entries and places.

    Raises ValueError for a matrix that does not have the pattern, or that blocks or groups do not divide.
    """
    match sparsity:
        case NM():
            return _nm(codes, is_zero, sparsity)
        case Block():
            return _blocks(codes, is_zero, sparsity)
        case Unstructured():
            return _unstructured(codes, is_zero, bits)
        case _:
            raise ValueError(f"what {sparsity} leaves is stored as it is")


def position_bits(sparsity: NM) -> int:
    """Bits of one stored position among `m`."""
    return (sparsity.m - 1).bit_length()


def placement_bytes(shape: tuple[int, int], sparsity: Sparsity, kept: Kept) -> int:
    """Bytes of the positions of a sparse matrix [K, n], without its entries."""
    rows, columns = shape
    match sparsity:
        case NM():
            return rows * packed_length(columns // sparsity.m * sparsity.n, position_bits(sparsity))
        case Block():
            blocks = kept.entries // (sparsity.outputs * sparsity.inputs)
            return 2 * blocks + 4 * (rows // sparsity.outputs + 1)
        case Unstructured():
            if kept.gap_bits is None:
                return rows * packed_length(columns, 1) + 4 * rows
            return packed_length(kept.entries, kept.gap_bits) + 4 * (rows + 1)
        case _:
            raise ValueError(f"what {sparsity} leaves is stored as it is")


def entry_bytes(shape: tuple[int, int], sparsity: Sparsity | None, kept: Kept | None, bits: int) -> int:
    """Bytes of the stored entries of a matrix [K, n] with codes of `bits` bits."""
    rows, columns = shape
    match sparsity:
        case NM():
            return rows * packed_length(columns // sparsity.m * sparsity.n, bits)
        case Block() | Unstructured():
            assert kept is not None
            return packed_length(kept.entries, bits)
        case _:
            return rows * packed_length(columns, bits)


def expected(shape: tuple[int, int], sparsity: Sparsity, bits: int) -> Kept:
    """Give how many entries are stored if those that are kept lie anywhere with the same probability."""
    rows, columns = shape
    match sparsity:
        case NM():
            return Kept(rows * (columns // sparsity.m * sparsity.n))
        case Block(outputs, inputs):
            blocks = (rows // outputs) * (columns // inputs)
            return Kept(max(1, round(blocks * sparsity.density)) * outputs * inputs)
        case Unstructured():
            nonzeros = max(1, round(rows * columns * sparsity.density))
            candidates = [Kept(nonzeros)]
            for gap_bits in GAP_BITS:
                skipped = (1 - sparsity.density) ** (1 << gap_bits)
                candidates.append(Kept(round(nonzeros / (1 - skipped)), gap_bits))
            return min(candidates, key=lambda kept: _total(shape, sparsity, kept, bits))
        case _:
            raise ValueError(f"what {sparsity} leaves is stored as it is")


def _total(shape: tuple[int, int], sparsity: Sparsity, kept: Kept, bits: int) -> int:
    return placement_bytes(shape, sparsity, kept) + entry_bytes(shape, sparsity, kept, bits)


def _nm(codes: Array, is_zero: NDArray[np.bool_], sparsity: NM) -> Placed:
    n, m = sparsity.n, sparsity.m
    rows, columns = codes.shape
    if columns % m:
        raise ValueError(f"{sparsity} sparsity needs a multiple of {m} columns, got {columns}")
    zeros = is_zero.reshape(rows, -1, m)
    if (most := int((~zeros).sum(axis=2).max(initial=0))) > n:
        raise ValueError(f"{sparsity} weights have at most {n} nonzeros in {m}, got a group with {most}")
    # A stable sort puts the nonzeros first and leaves both kinds in their order.
    kept = np.sort(np.argsort(zeros, axis=2, kind="stable")[:, :, :n], axis=2)
    entries = np.take_along_axis(codes.reshape(rows, -1, m), kept, axis=2).reshape(rows, -1)
    positions, bits = kept.reshape(rows, -1).astype(np.uint8), position_bits(sparsity)
    steps = (
        Decode(Unpack(bits, positions.shape[1], False), ("positions",), "places"),
        Decode(PlaceNM(n, m), ("entries", "places"), "placed"),
    )
    return Placed(entries, {"positions": pack_bits(positions, bits)}, steps, Kept(entries.size))


def _blocks(codes: Array, is_zero: NDArray[np.bool_], sparsity: Block) -> Placed:
    outputs, inputs = sparsity.outputs, sparsity.inputs
    rows, columns = codes.shape
    if rows % outputs or columns % inputs:
        raise ValueError(f"{sparsity} blocks do not divide a matrix of {rows}x{columns} weights")
    grid = (rows // outputs, outputs, columns // inputs, inputs)
    blocks = codes.reshape(grid).transpose(0, 2, 1, 3)
    is_kept = np.logical_not(is_zero.reshape(grid).all(axis=(1, 3)))
    if not is_kept.any():
        is_kept[0, 0] = True  # no array is empty
    arrays = {
        "positions": np.nonzero(is_kept)[1].astype(np.uint16),
        "starts": _starts(is_kept.sum(axis=1)),
    }
    entries = np.ascontiguousarray(blocks[is_kept]).reshape(1, -1)
    step = Decode(PlaceBlocks(outputs, inputs, columns), ("entries", "positions", "starts"), "placed")
    return Placed(entries, arrays, (step,), Kept(entries.size))


def _unstructured(codes: Array, is_zero: NDArray[np.bool_], bits: int) -> Placed:
    is_kept = ~is_zero
    if not is_kept.any():
        is_kept[0, 0] = True  # no array is empty
    shape = (len(codes), codes.shape[1])
    sparsity = Unstructured(50)  # the sizes below are those of the entries, not of the percentage
    gaps, row_of = _gaps(is_kept)
    candidates = [Kept(int(is_kept.sum()))]
    candidates += [Kept(int((gaps >> width).sum()) + len(gaps), width) for width in GAP_BITS]
    kept = min(candidates, key=lambda each: _total(shape, sparsity, each, bits))
    if kept.gap_bits is None:
        return _bitmap(codes, is_kept, kept)
    return _relative(codes, is_kept, is_zero, gaps, row_of, kept, kept.gap_bits)


def _bitmap(codes: Array, is_kept: NDArray[np.bool_], kept: Kept) -> Placed:
    arrays = {
        "mask": pack_bits(is_kept.astype(np.uint8), 1),
        "starts": _starts(is_kept.sum(axis=1))[:-1],
    }
    steps = (
        Decode(Unpack(1, codes.shape[1], False), ("mask",), "bits"),
        Decode(PlaceBitmap(), ("entries", "bits", "starts"), "placed"),
    )
    return Placed(codes[is_kept].reshape(1, -1), arrays, steps, kept)


def _gaps(is_kept: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the columns skipped before each kept entry, and its row."""
    rows, columns = np.nonzero(is_kept)
    before = np.concatenate([[-1], columns[:-1]])
    before[np.concatenate([[True], rows[1:] != rows[:-1]])] = -1
    return columns - before - 1, rows


def _relative(
    codes: Array,
    is_kept: NDArray[np.bool_],
    is_zero: NDArray[np.bool_],
    gaps: NDArray[np.int64],
    row_of: NDArray[np.int64],
    kept: Kept,
    gap_bits: int,
) -> Placed:
    """Store gaps; one too wide is filled with stored zeros (Han et al., Deep Compression, figure 2)."""
    fillers = gaps >> gap_bits
    last = np.cumsum(fillers + 1) - 1
    widest = (1 << gap_bits) - 1
    steps = np.full(kept.entries, widest, np.uint8)
    steps[last] = gaps & widest
    entries = np.empty(kept.entries, codes.dtype)
    if fillers.any():
        entries[:] = codes[is_zero][0]
    entries[last] = codes[is_kept]
    counts = np.bincount(row_of, fillers + 1, len(codes)).astype(np.int64)
    arrays = {"positions": pack_bits(steps.reshape(1, -1), gap_bits), "starts": _starts(counts)}
    chain = (
        Decode(Unpack(gap_bits, kept.entries, False), ("positions",), "gaps"),
        Decode(PlaceRelative(codes.shape[1]), ("entries", "gaps", "starts"), "placed"),
    )
    return Placed(entries.reshape(1, -1), arrays, chain, kept)


def _starts(counts: NDArray[np.integer]) -> NDArray[np.int32]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
