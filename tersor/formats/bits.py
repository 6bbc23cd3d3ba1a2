"""Bit packing: codes of 1 to 8 bits one after the other, in every row from a new byte on.

codes [K, n]   ->   uint8 [K, ceil(n * bits / 8)]

The first code lies in the lowest bits of the first byte and a code may cross into the next byte, so eight
codes of 3 bits take 3 bytes. The last byte of a row is filled up with zeros.
"""

import numpy as np
from numpy.typing import NDArray

Packed = NDArray[np.uint8]


def packed_length(count: int, bits: int) -> int:
    """Bytes of a row of `count` packed codes of `bits` bits."""
    return -(-count * bits // 8)


def pack_bits(codes: NDArray[np.integer], bits: int) -> Packed:
    """Pack a matrix of integers, signed ones in two's complement. Raises ValueError if one does not fit."""
    signed = np.issubdtype(codes.dtype, np.signedinteger)
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    if codes.size and not (low <= codes.min() and codes.max() <= high):
        raise ValueError(f"{bits}-bit codes are {low} to {high}, got {codes.min()} to {codes.max()}")
    patterns = codes.astype(np.int8 if signed else np.uint8).view(np.uint8)
    planes = (patterns[..., None] >> np.arange(bits, dtype=np.uint8)) & np.uint8(1)
    return np.packbits(planes.reshape(len(codes), -1), axis=1, bitorder="little")


def unpack_bits(packed: Packed, bits: int, count: int, signed: bool) -> NDArray[np.integer]:
    """Undo `pack_bits`: `count` codes in each row, int8 or uint8."""
    if packed.shape[1] != packed_length(count, bits):
        expected = packed_length(count, bits)
        raise ValueError(f"{count} codes of {bits} bits are {expected} bytes, got {packed.shape[1]}")
    planes = np.unpackbits(packed, axis=1, count=count * bits, bitorder="little")
    planes = planes.reshape(len(packed), count, bits)
    codes = (planes << np.arange(bits, dtype=np.uint8)).sum(axis=2, dtype=np.uint8)
    if not signed:
        return codes
    # The sign bit stands for -2^(bits - 1).
    return (codes.astype(np.int16) - (planes[..., -1].astype(np.int16) << bits)).astype(np.int8)
