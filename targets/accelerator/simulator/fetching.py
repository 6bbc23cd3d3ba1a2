"""Fetching: elements from the bytes in the outermost memory, decoded on their way in.

What is fetched often is decoded once: the elements stand in slots of the outermost memory beside the bytes.
"""

import numpy as np

from tersor.targets.accelerator.simulator.jit import inner
from tersor.targets.accelerator.simulator.stored import (
    BITMAP,
    BLOCKS,
    NM,
    POWER,
    RELATIVE,
    SIGN,
    TABLE,
)
from tersor.targets.accelerator.simulator.tables import ZERO

ONE_BIT = np.int64(1)


@inner
def fetch_row(stored, row, low, high, out):
    """Decode the columns from `low` up to `high` of a row of weights into `out`, from its start on."""
    placed = stored.form[3]
    if placed == NM:
        _fetch_nm(stored, row, low, high, out)
    elif placed == BITMAP:
        _fetch_bitmap(stored, row, low, high, out)
    elif placed == RELATIVE:
        _fetch_relative(stored, row, low, high, out)
    elif placed == BLOCKS:
        _fetch_blocks(stored, row, low, high, out)
    else:
        for column in range(low, high):
            out[column - low] = _number(stored, row, column)
    if stored.scales.shape[1] > 1:
        for column in range(low, high):
            out[column - low] *= stored.scales[row, column // stored.form[7]]


@inner
def _fetch_nm(stored, row, low, high, out):
    n, m = stored.form[4], stored.form[5]
    for column in range(low, high):
        out[column - low] = 0
    for entry in range(low // m * n, -(-high // m) * n):
        column = entry // n * m + bits_at(stored.places, row, entry, stored.form[6])
        if low <= column < high:
            out[column - low] = _number(stored, row, entry)


@inner
def _fetch_bitmap(stored, row, low, high, out):
    entry = stored.starts[row]
    for column in range(low):
        entry += bits_at(stored.places, row, column, ONE_BIT)
    for column in range(low, high):
        out[column - low] = 0
        if bits_at(stored.places, row, column, ONE_BIT):
            out[column - low] = _number(stored, ZERO, entry)
            entry += 1


@inner
def _fetch_relative(stored, row, low, high, out):
    for column in range(low, high):
        out[column - low] = 0
    column = -1
    for entry in range(stored.starts[row], stored.starts[row + 1]):
        column += bits_at(stored.places, ZERO, entry, stored.form[6]) + 1
        if column >= high:
            break
        if column >= low:
            out[column - low] = _number(stored, ZERO, entry)


@inner
def _fetch_blocks(stored, row, low, high, out):
    outputs, inputs = stored.form[4], stored.form[5]
    for column in range(low, high):
        out[column - low] = 0
    for block in range(stored.starts[row // outputs], stored.starts[row // outputs + 1]):
        for i in range(inputs):
            column = stored.columns[block] * inputs + i
            if low <= column < high:
                entry = (block * outputs + row % outputs) * inputs + i
                out[column - low] = _number(stored, ZERO, entry)


@inner
def _number(stored, row, entry):
    """What the code of an entry stands for."""
    bits = stored.form[0]
    code = bits_at(stored.values, row, entry, bits)
    if stored.form[1] and code >> (bits - 1):
        code -= 1 << bits
    meaning = stored.form[2]
    if meaning == SIGN:
        return 2 * code - 1
    if meaning == POWER:
        power = (1 << abs(code)) >> 1
        return power if code >= 0 else -power
    if meaning == TABLE:
        return stored.table[code]
    return code - stored.form[8]


@inner
def bits_at(packed, row, index, bits):
    """Take a number of `bits` bits, the lowest first, out of a row of bytes."""
    if bits == 8:
        return int(packed[row, index])
    place = index * bits
    byte, shift = place >> 3, place & 7
    word = int(packed[row, byte])
    if shift + bits > 8:
        word |= int(packed[row, byte + 1]) << 8
    return (word >> shift) & ((1 << bits) - 1)
