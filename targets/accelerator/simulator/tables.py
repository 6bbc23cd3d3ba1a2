"""Tables: a program and the state of the machine that runs it, as flat arrays that compiled code reads.

Dimensions are numbered as in `tersor.layer.DIMS`, operands and their streams as below. A tile of an operand
has five coordinates: weights G, K, C, R, S; inputs N, G, C, row, column; outputs N, G, K, P, Q. There are few
arrays, with named columns, as what takes many is slow to compile; numbers are int64, as functions would be
compiled anew for each plain constant that they are given.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]

N, G, K, C, P, Q, R, S = map(np.int64, range(8))
WEIGHT, INPUT, OUTPUT, PARTIAL = map(np.int64, range(4))
STREAMS = ("weight", "input", "output", "partial")
READ, WRITE = map(np.int64, (0, 1))
ALL, FIRST = map(np.int64, (0, 1))  # of the memories of a level: all of them, or the first alone
LOOP, END, LOAD, STORE, COMPUTE, SYNC = map(np.int64, range(6))
MOST_TOKENS = np.int64(16)  # that one instruction waits for, or gives, of each kind

NONE, ZERO = map(np.int64, (-1, 0))
TOGETHER = np.int64(1)  # of offsets: see `sharing`
DEADLOCK, OUTSIDE = map(np.int64, (1, 2))  # what FAILED says

# Columns of `Code.code`; then MOST_TOKENS tiles each, filled up with -1, that are waited for and given.
CODE_KIND, CODE_DIM, CODE_SIZE, CODE_STEP, CODE_PARTNER = map(
    np.int64, range(5)
)  # an end's loop; a transfer's move
FULL_WAITS, FREE_WAITS, FULL_SIGNALS, FREE_SIGNALS = map(np.int64, (5 + MOST_TOKENS * i for i in range(4)))
CODE_COLUMNS = FREE_SIGNALS + MOST_TOKENS

# Columns of `Code.tiles`: room for PLACES boxes of BOX elements in each of COUNT memories, from slot BASE on;
# the first memory's row; the box that is in use; slots between neighbours along the five coordinates and in
# iteration; and the coordinates of the present tile. Tiles are numbered by operand, and from outside inwards.
OF, LEVEL, PLACES, BOX, BASE, ROW, COUNT, PLACE = map(np.int64, range(8))
STRIDE, ALONG, ORIGIN, TILE_COLUMNS = map(np.int64, (8, 13, 21, 29))

# Columns of `Code.rows`, one for each memory of each tile: coordinates on the axes, the outer tile's memory,
# and how far the slot in it at which the tile begins is behind that of the first memory's.
PARENT, OFFSET, ROW_COLUMNS = map(np.int64, (8, 9, 10))

# Columns of `Code.moves`: loads, stores and (the last two) the reads of weights and inputs by the units. The
# inner and the outer tile; of stores the members of its groups and which are apart, in `pool`; extents and
# what all memories together cover; limits, slide and reads (ALL, FIRST) known from the last time; and where
# `sharing` has written offsets: [ALL or FIRST, dims, own or together, start and length].
TILE, SOURCE, SLIDES, RESTORE, FIRST_MEMBER, GROUPS, GROUP_SIZE, FIRST_GROUP = map(np.int64, range(8))
EXTENT, COVER, KNOWN, WHERE, MOVE_COLUMNS = map(np.int64, (8, 16, 24, 35, 99))

# Columns of `Code.levels`: the port for reads, that for writes (the same if they share it), whether no two
# memories of a level sum up parts of the same outputs, and of each stream the bus inwards (of outputs: those
# that come from inside), -1 where it has no limit of its own.
WHOLE, BUS, LEVEL_COLUMNS = map(np.int64, (2, 3, 7))

# Columns of `Code.units`: coordinates, and what to add to a step's slot of each operand.
UNIT_SLOT, UNIT_COLUMNS = map(np.int64, (8, 11))

# Rows of each list in `Memory.active`, for units with something to do: slots of the operands (of outputs for
# each group), which unit it is, and where each group begins.
UNIT, START = map(np.int64, (3, 4))

# Places in `Memory.state`: single numbers, then one for each dimension, then some more.
PC, DEPTH, STEPS, PRODUCTS, EFFECTUAL, COMPLETE, FINISHED, FAILED, STAMP, PENDING_FILL = map(
    np.int64, range(10)
)
STATIONARY, MEMBERS, UNIT_TILE, VERSION = map(np.int64, (10, 11, 12, 15))
SIZE, WINDOW, AT, BOXED, LIMIT, COVERED = map(np.int64, (16 + 8 * i for i in range(6)))
MOVED = np.int64(
    64
)  # by ALL and FIRST elements of the transfer at hand, and those not zero; see `transfers.store`
NUMBERS = np.int64(68)  # groups, those of the first memory, both again of those not apart, units
READS = np.int64(73)  # [weights or inputs, ALL or FIRST]
LOOKS = np.int64(77)  # at zeros of weights, of inputs; skips those; whether any of it matters
WAY, OLDEST, STATE_SIZE = map(np.int64, (82, 83, 84))  # the list of active units in use, and the last made

# Rows of `Clock.ports` (see `clock`): cycles of the units; where transfers are, and cycles idle before; what
# the transfer at hand needs and what the steps at hand do; bits in a cycle of [memories, READ or WRITE], then
# of buses; the event that releases the transfer at hand, two rows; that transfer, kept aside.
UNITS, DONE, IDLE, NEED, GROUP, SPEED, KEPT_NEED = map(np.int64, range(7))
RELEASE, KEPT_RELEASE, PORT_ROWS = map(np.int64, (7, 9, 11))
# Places in `Clock.now`: the end of the last step, cycles of a step and of a pass, how many events there are.
NOW, CYCLE, PASS, NOTED = map(np.int64, range(4))
# Events of a tile: it is full, its places became free, its sums could leave.
FULL, FREE, LEAVING = map(np.int64, (0, 1, 3))
# Columns of `Clock.tokens` (after two rings' first and length, and the instructions of sums that leave):
# how many more events are kept, and whether sums leave while others come.
WATCHED, MEANWHILE, TOKEN_COLUMNS = map(np.int64, (6, 7, 8))


class Code(NamedTuple):
    """A decoded program; columns as above."""

    code: Ints
    tiles: Ints
    rows: Ints
    moves: Ints
    pool: Ints
    levels: Ints
    units: Ints
    groups: Ints  # [groups, 2]: whether they are the first memory's, and come after one with the same sums


class Memory(NamedTuple):
    """What the memories hold, and what was counted."""

    state: Ints
    frames: Ints  # [depth, 3]: instruction, index and coordinate before it of each open loop
    active: NDArray[np.int32]  # [lists, 5, units + 1]
    known: Ints  # [lists, 17]: the limits that each was made for, and its NUMBERS and READS
    marks: Ints
    lines: Ints  # [4, rows or columns]: rows, columns, and which of them are kept
    slots: NDArray[np.int32]  # the elements of all tiles, those of outputs first
    there: Bytes  # whether a slot of these holds a sum
    row: NDArray[np.int32]  # a row of weights
    counts: Ints  # [READ or WRITE, ALL or FIRST, memories, streams]: elements
    saved: Floats  # [2, ...]: those that zeros leave out; those not zero, where that takes other bits
    each: Floats  # [2, memories, streams]: bits of every element, and those that one not zero adds
    effectual: Ints  # [units]: products since a tile last changed
    taken: Ints  # [2, 2]: factors that the units read in a step, and those not zero, of weights and inputs
    bits: Floats  # [4]: of a step in the first memories: weights, inputs and sums read, sums written
    made: Floats  # [1]: of the additions of the units, the part that a pattern of the weight leaves


class Clock(NamedTuple):
    """Time, in cycles."""

    now: Floats
    ports: Floats  # [rows as above, ports]
    times: Floats  # [tiles, events, cycles and those idle, ports]
    needs: Floats  # [tiles, places, ports]: of sums that leave
    tokens: Ints
    stalls: Floats  # [reasons]: each tile waited for; fill, imbalance; each port
    events: Floats  # [most, 4]: tile; whether it comes (0), leaves (1) or is waited for (2); begin and end


class Image(NamedTuple):
    """The input in the outermost memory, padded."""

    codes: Bytes
    zero: Ints  # [1]: the code of zero
