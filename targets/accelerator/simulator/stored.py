"""Stored: the bytes of a weight in its format, as flat arrays that `fetching` decodes rows of.

Every chain of steps that ends in integer codes is one of: codes of some bits, what they stand for (a sign, a
power of two, an entry of a table), where they stand, and an integer for each group of columns.
"""

from typing import NamedTuple

import numpy as np

from tersor.formats.decoding import (
    Arrange,
    LookUp,
    PlaceBitmap,
    PlaceBlocks,
    PlaceNM,
    PlaceRelative,
    Powers,
    ScaleGroups,
    Signs,
    Unpack,
)
from tersor.formats.encoded import Encoded
from tersor.targets.accelerator.simulator.tables import Bytes, Ints

PLAIN, SIGN, POWER, TABLE = range(4)
DENSE, NM, BITMAP, RELATIVE, BLOCKS = range(5)


class Stored(NamedTuple):
    """A matrix of codes; of what a format does not have, an array of one zero.

    `form` has: bits of a code, whether it is signed, what it stands for, how codes are placed, two sizes of
    that (n and m, or outputs and inputs of a block), bits of a position, columns of a group, the zero point.
    """

    form: Ints  # [9]
    values: Bytes  # [rows, bytes]
    places: Bytes  # [rows, bytes]: positions, mask or gaps
    starts: Ints  # where each row begins among the entries
    columns: Ints  # of blocks
    table: Ints
    scales: Ints  # [rows, groups]


def stored_weight(encoded: Encoded) -> Stored:
    """Take the arrays of a weight, which is decoded to int8 codes.

    Raises ValueError if it is decoded to floating-point numbers.
    """
    if encoded.scale is None:
        raise ValueError("the simulator multiplies integers; the weight is stored as floating-point numbers")
    arrays = encoded.arrays
    values = arrays["values"]
    form = np.array([8, values.dtype != np.uint8, PLAIN, DENSE, 0, 0, 8, 1, 0], np.int64)
    none = np.zeros(1, np.int64)
    starts, columns, table = none, none, none
    scales = np.ones((1, 1), np.int64)
    places = np.zeros((1, 1), np.uint8)
    for decode in encoded.steps:
        match decode.step:
            case Unpack(bits, _, signed) if decode.reads[0] == "values":
                form[:2] = bits, signed
            case Unpack(bits, _, _):
                form[6], places = bits, arrays[decode.reads[0]]
            case Signs():
                form[2] = SIGN
            case Powers():
                form[2] = POWER
            case LookUp():
                form[2], table = TABLE, arrays["table"].astype(np.int64)
            case PlaceNM(n, m):
                form[3:6] = NM, n, m
            case PlaceBitmap():
                form[3], starts = BITMAP, arrays["starts"].astype(np.int64)
            case PlaceRelative():
                form[3], starts = RELATIVE, arrays["starts"].astype(np.int64)
            case PlaceBlocks(outputs, inputs, _):
                form[3:6] = BLOCKS, outputs, inputs
                starts, columns = arrays["starts"].astype(np.int64), arrays["positions"].astype(np.int64)
            case ScaleGroups(group):
                form[7], scales = group, arrays["scales"].astype(np.int64)
            case Arrange():
                pass
            case other:
                raise ValueError(f"the simulator multiplies integers; a weight has the step {other.name}")
    return Stored(form, values.view(np.uint8), places, starts, columns, table, scales)


def stored_codes(codes: Bytes, zero_point: int) -> Stored:
    """Take uint8 codes [G, C, K] of an activation that is the right operand."""
    form = np.array([8, 0, PLAIN, DENSE, 0, 0, 8, 1, zero_point], np.int64)
    none = np.zeros(1, np.int64)
    rows = np.ascontiguousarray(codes.transpose(0, 2, 1)).reshape(-1, codes.shape[1])
    return Stored(form, rows, np.zeros((1, 1), np.uint8), none, none, none, np.ones((1, 1), np.int64))
