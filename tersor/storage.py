"""Storage: how compressed weights lie in memory, and exactly how many bytes that takes.

Every format has an inverse: `unpack_bits(pack_bits(codes)) == codes`, `decode_nm(encode_nm(codes)) == codes`.
"""

import numpy as np
from numpy.typing import NDArray

from tersor.layer import Layer
from tersor.scheme import Scheme
from tersor.sparsity import NM

Codes = NDArray[np.int8]
Packed = NDArray[np.uint8]


def storage_width(bits: int) -> int:
    """Bits that an element of `bits` bits takes in memory: a power of two, so that none crosses a byte."""
    if not 1 <= bits <= 32:
        raise ValueError(f"a stored element has 1 to 32 bits, got {bits}")
    return 1 << (bits - 1).bit_length()


def packed_length(count: int, bits: int) -> int:
    """Bytes of `count` packed elements of `bits` bits."""
    return -(-count * storage_width(bits) // 8)


def pack_bits(codes: NDArray[np.integer], bits: int, axis: int = 0, signed: bool = True) -> Packed:
    """Pack integers of 2 or 4 bits: [..., n, ...] -> uint8 [..., ceil(n * bits / 8), ...] along `axis`.

    The first element lies in the lowest bits; signed ones are two's complement; the last byte is filled with
    zeros. Raises ValueError if a code does not fit.
    """
    per_byte = _per_byte(bits)
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    if codes.size and not (low <= codes.min() and codes.max() <= high):
        raise ValueError(f"{bits}-bit codes are {low} to {high}, got {codes.min()} to {codes.max()}")
    rows = np.moveaxis(codes, axis, 0).astype(np.int64) & ((1 << bits) - 1)
    rows = np.concatenate([rows, np.zeros((-len(rows) % per_byte, *rows.shape[1:]), np.int64)])
    packed = np.zeros((len(rows) // per_byte, *rows.shape[1:]), np.int64)
    for place in range(per_byte):
        packed |= rows[place::per_byte] << place * bits
    return np.ascontiguousarray(np.moveaxis(packed.astype(np.uint8), 0, axis))


def unpack_bits(packed: Packed, bits: int, count: int, axis: int = 0, signed: bool = True) -> Codes:
    """Undo `pack_bits`: uint8 [..., ceil(count * bits / 8), ...] -> int8 [..., count, ...] along `axis`."""
    per_byte = _per_byte(bits)
    rows = np.moveaxis(packed, axis, 0).astype(np.int64)
    if len(rows) != packed_length(count, bits):
        raise ValueError(
            f"{count} codes of {bits} bits are {packed_length(count, bits)} bytes, got {len(rows)}"
        )
    codes = np.empty((len(rows) * per_byte, *rows.shape[1:]), np.int64)
    for place in range(per_byte):
        codes[place::per_byte] = rows >> place * bits & ((1 << bits) - 1)
    if signed:
        codes -= (codes >> bits - 1) << bits
    return np.ascontiguousarray(np.moveaxis(codes[:count].astype(np.int8), 0, axis))


def _per_byte(bits: int) -> int:
    if bits not in (2, 4):
        raise ValueError(f"codes of 2 or 4 bits are packed, got {bits} bits")
    return 8 // bits


def index_bits(sparsity: NM) -> int:
    """Bits of one stored position among `m`: 2 up to 4, then 4 up to 16."""
    if sparsity.m > 16:
        raise ValueError(f"N:M weights are stored for m up to 16, got {sparsity}")
    return 2 if sparsity.m <= 4 else 4


def encode_nm(codes: Codes, n: int, m: int, axis: int = 0) -> tuple[Codes, Packed]:
    """Store the `n` kept of every `m` codes along `axis`, and where they were.

    int8 [C, K] -> values int8 [C * n / m, K], positions uint8 [ceil(C * n / m * bits / 8), K] (here axis 0),
    packed as `pack_bits` does, in ascending order within each group. A group with fewer than `n` nonzeros
    keeps zeros of its own. Raises ValueError if C is no multiple of `m` or a group has too many nonzeros.
    """
    sparsity = NM(n, m)
    rows = np.moveaxis(codes, axis, 0)
    groups = rows.reshape(_group_count(len(rows), sparsity), m, *rows.shape[1:])
    if (most := int(np.count_nonzero(groups, axis=1).max(initial=0))) > n:
        raise ValueError(f"{sparsity} weights have at most {n} nonzeros in {m}, got a group with {most}")
    # A stable sort puts the nonzeros first and leaves both kinds in their order.
    kept = np.sort(np.argsort(groups == 0, axis=1, kind="stable")[:, :n], axis=1)
    values = np.take_along_axis(groups, kept, axis=1).reshape(-1, *rows.shape[1:])
    positions = kept.reshape(-1, *rows.shape[1:])
    indices = pack_bits(np.moveaxis(positions, 0, axis), index_bits(sparsity), axis, signed=False)
    return np.ascontiguousarray(np.moveaxis(values, 0, axis)), indices


def decode_nm(values: Codes, indices: Packed, n: int, m: int, axis: int = 0) -> Codes:
    """Undo `encode_nm`: values int8 [C * n / m, K] and packed positions -> int8 [C, K]."""
    sparsity = NM(n, m)
    rows = np.moveaxis(values, axis, 0)
    if len(rows) % n:
        raise ValueError(f"{sparsity} values come in groups of {n}, got {len(rows)}")
    positions = unpack_bits(indices, index_bits(sparsity), len(rows), axis, signed=False)
    shape = (len(rows) // n, n, *rows.shape[1:])
    groups = np.zeros((shape[0], m, *shape[2:]), np.int8)
    where = np.moveaxis(positions, axis, 0).reshape(shape).astype(np.int64)
    np.put_along_axis(groups, where, rows.reshape(shape), axis=1)
    return np.ascontiguousarray(np.moveaxis(groups.reshape(-1, *shape[2:]), 0, axis))


def _group_count(length: int, sparsity: NM) -> int:
    if length % sparsity.m:
        raise ValueError(f"{sparsity} sparsity needs a multiple of {sparsity.m} input channels, got {length}")
    return length // sparsity.m


def storage_bytes(layer: Layer, scheme: Scheme, bias: bool = True) -> int:
    """Bytes of the layer's constants under `scheme`: codes, positions, scales, factors and the bias.

    Each matrix of integers has one float32 scale per column, a table one per row; the bias, 4 bytes per
    output channel (int32 or float32), is the last factor's. A layer without a weight stores nothing. Raises
    ValueError if the sparsity does not fit the input channels.
    """
    if not layer.weight_bearing:
        return 0
    if layer.operator == "gather":
        return layer.C * (packed_length(layer.K, scheme.weight_bits) + (4 if scheme.weight else 0))
    parts = layer.factored(scheme.factor) if scheme.factor else (layer,)
    return sum(_weight_bytes(part, scheme) for part in parts) + (4 * layer.G * layer.K if bias else 0)


def _weight_bytes(layer: Layer, scheme: Scheme) -> int:
    rows = layer.C * layer.R * layer.S
    positions = 0
    if isinstance(scheme.sparsity, NM):
        rows = _group_count(layer.C, scheme.sparsity) * scheme.sparsity.n * layer.R * layer.S
        positions = packed_length(rows, index_bits(scheme.sparsity))
    scale = 4 if scheme.weight else 0
    return layer.G * layer.K * (packed_length(rows, scheme.weight_bits) + positions + scale)
