"""State: the machine before the first instruction of a program."""

import numpy as np

from tersor.layer import DIMS
from tersor.targets.accelerator.simulator import tables
from tersor.targets.accelerator.simulator.decode import Decoded
from tersor.targets.accelerator.simulator.rates import Rates
from tersor.targets.accelerator.simulator.tables import STREAMS, Clock, Ints, Memory
from tersor.targets.accelerator.simulator.tensors import touched_size

MOST_EVENTS = 256  # of a tile that comes from its operand's home or leaves for it

LISTS = 8  # of units that are active in steps near to one another


def memory_of(decoded: Decoded, rates: Rates) -> Memory:
    """Empty memories, all loops closed."""
    layer, code = decoded.layer, decoded.code
    levels, units = len(decoded.hardware.memories), len(code.units)
    state = _state(decoded, rates)
    # Loops may go beyond the layer, and tiles with them, by less than a tile.
    extents = code.moves[:, tables.EXTENT : tables.COVER].max(axis=0)
    window = state[tables.WINDOW : tables.WINDOW + 8]
    lines = max(*touched_size(layer), *(layer.size(dim) for dim in DIMS))
    longest = 1 + lines + int((extents * window).sum() + extents.max())
    return Memory(
        state=state,
        frames=np.zeros((1 + len(code.code), 3), np.int64),
        active=np.zeros((LISTS, 5, units + 1), np.int32),
        known=np.full((LISTS, 17), -1, np.int64),
        marks=np.zeros(2 * longest, np.int64),
        lines=np.zeros((4, longest), np.int64),
        slots=np.zeros(decoded.slots, np.int32),
        there=np.zeros(decoded.sums, np.uint8),
        row=np.zeros(layer.C * layer.R * layer.S, np.int32),
        counts=np.zeros((2, 2, levels, len(STREAMS)), np.int64),
        saved=np.zeros((2, 2, 2, levels, len(STREAMS))),
        each=rates.each,
        effectual=np.zeros(units, np.int64),
        taken=np.zeros((2, 2), np.int64),
        bits=np.zeros(4),
        made=np.array([rates.made]),
    )


def _state(decoded: Decoded, rates: Rates) -> Ints:
    layer, stationary = decoded.layer, rates.stationary
    state = np.zeros(tables.STATE_SIZE, np.int64)
    state[tables.STATIONARY] = decoded.innermost(stationary) if stationary else -1
    # What is taken from its home stays during the only pass.
    state[tables.PENDING_FILL] = stationary is not None and decoded.stays_at_home(stationary)
    state[tables.MEMBERS] = decoded.members
    state[tables.UNIT_TILE : tables.UNIT_TILE + 3] = [decoded.innermost(o) for o in tables.STREAMS[:3]]
    window = dict(zip("PQRS", (*layer.stride, *layer.dilation), strict=True))
    for number, dim in enumerate(DIMS):
        state[tables.SIZE + number] = layer.size(dim)
        state[tables.WINDOW + number] = window.get(dim, 0)
    state[tables.LIMIT : tables.LIMIT + 8] = -1  # of no step
    state[tables.COVERED : tables.COVERED + 8] = decoded.code.units[:, :8].max(axis=0) + 1
    state[tables.LOOKS : tables.LOOKS + 5] = rates.looks
    return state


def clock_of(decoded: Decoded, rates: Rates) -> Clock:
    """Time 0: all places are free."""
    tiles, memories = decoded.tiles, decoded.hardware.memories
    ports = np.zeros((tables.PORT_ROWS, len(rates.speed)))
    ports[tables.SPEED] = rates.speed
    tokens = np.zeros((len(tiles), tables.TOKEN_COLUMNS), np.int64)
    homes = [decoded.homes[operand] == level for operand, level in decoded.keys]
    watched = [homes[place - 1] and not homes[place] for place in range(len(tiles))]
    for token, tile, is_watched in zip(tokens, tiles, watched, strict=True):
        token[tables.MEANWHILE] = memories[tile[tables.LEVEL]].overlaps
        token[1] = 1 + token[tables.MEANWHILE]
        token[tables.WATCHED] = MOST_EVENTS * is_watched
    now = np.zeros(4)
    now[tables.CYCLE], now[tables.PASS] = rates.cycle, rates.fill
    return Clock(
        now=now,
        ports=ports,
        times=np.zeros((len(tiles), 5, 2, ports.shape[1])),
        needs=np.zeros((len(tiles), 2, ports.shape[1])),
        tokens=tokens,
        stalls=np.zeros(len(tiles) + 2 + ports.shape[1]),
        events=np.zeros((MOST_EVENTS * len(tiles), 4)),
    )
