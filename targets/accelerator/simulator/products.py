"""Products: one step of the array. Units whose sums add up on their way out are a group and arrive once."""

import numpy as np

from tersor.targets.accelerator.simulator.counting import note, reads
from tersor.targets.accelerator.simulator.jit import inner
from tersor.targets.accelerator.simulator.tables import (
    ALL,
    ALONG,
    AT,
    BASE,
    BOX,
    COMPLETE,
    COVERED,
    FIRST,
    INPUT,
    KNOWN,
    LEVEL,
    LIMIT,
    LOOKS,
    MEMBERS,
    NONE,
    NUMBERS,
    OLDEST,
    ORIGIN,
    OUTPUT,
    PARTIAL,
    PLACE,
    PRODUCTS,
    READ,
    READS,
    SIZE,
    START,
    STEPS,
    UNIT,
    UNIT_SLOT,
    UNIT_TILE,
    WAY,
    WEIGHT,
    WRITE,
    ZERO,
)

OWN, FIRST_OWN, UNITS = 2, 3, 4  # of NUMBERS, after those by ALL and FIRST


@inner
def gather_active(program, memory):
    """Find the units whose iterations the layer has, if they are not those of the step before."""
    state, known = memory.state, memory.known
    same = True
    for dim in range(8):
        limit = min(state[SIZE + dim] - state[AT + dim], state[COVERED + dim])
        same = same and state[LIMIT + dim] == limit
        state[LIMIT + dim] = limit
    if same:
        return
    way = _way(state, known)
    if way == len(known):
        state[OLDEST] = way = (state[OLDEST] + 1) % len(known)
        _list_active(memory.active[way], program, memory)
        for dim in range(8):
            known[way, dim] = state[LIMIT + dim]
        for i in range(LOOKS - NUMBERS):
            known[way, 8 + i] = state[NUMBERS + i]
    state[WAY] = way
    for i in range(LOOKS - NUMBERS):
        state[NUMBERS + i] = known[way, 8 + i]


@inner
def _way(state, known):
    """The list of units that was made for the present limits; if there is none, how many lists there are."""
    for way in range(len(known)):
        same = True
        for dim in range(8):
            same = same and known[way, dim] == state[LIMIT + dim]
        if same:
            return way
    return len(known)


@inner
def _list_active(active, program, memory):
    state, units, groups_ = memory.state, program.units, program.groups
    for i in range(5):
        state[NUMBERS + i] = 0
    count, groups = 0, 0
    members = state[MEMBERS]
    for group in range(len(groups_)):
        begin = count
        for unit in range(group * members, (group + 1) * members):
            if _has(unit, units, state):
                active[WEIGHT, count] = units[unit, UNIT_SLOT + WEIGHT]
                active[INPUT, count] = units[unit, UNIT_SLOT + INPUT]
                active[UNIT, count] = unit
                count += 1
        if count > begin:
            active[OUTPUT, groups] = units[group * members, UNIT_SLOT + OUTPUT]
            active[START, groups] = begin
            groups += 1
            _number(group, groups_, state)
    active[START, groups] = count
    state[NUMBERS + ALL], state[NUMBERS + UNITS] = groups, count
    for operand in (WEIGHT, INPUT):
        move = len(program.moves) - 2 + operand
        reads(move, operand, NONE, ZERO, state, program.moves, program.pool, memory.marks)
        state[READS + 2 * operand + ALL] = program.moves[move, KNOWN + 9]
        state[READS + 2 * operand + FIRST] = program.moves[move, KNOWN + 10]


@inner
def _has(unit, units, state):
    inside = True
    for dim in range(8):
        inside = inside and units[unit, dim] < state[LIMIT + dim]
    return inside


@inner
def _number(group, groups, state):
    first, own = groups[group, 0], 1 - groups[group, 1]
    state[NUMBERS + FIRST] += first
    state[NUMBERS + OWN] += own
    state[NUMBERS + FIRST_OWN] += first * own


@inner
def address(operand, state, tiles):
    """The slot of the first unit's element."""
    tile = state[UNIT_TILE + operand]
    slot = tiles[tile, BASE] + tiles[tile, PLACE] * tiles[tile, BOX]
    for dim in range(8):
        slot += (state[AT + dim] - tiles[tile, ORIGIN + dim]) * tiles[tile, ALONG + dim]
    return slot


@inner
def step(complete, program, memory):
    """Make the products of one step, and leave in `bits` what that moves.

    `complete` says that the sums that are then in the outermost memory are.
    """
    gather_active(program, memory)
    state, active = memory.state, memory.active[memory.state[WAY]]
    slots, there = memory.slots, memory.there
    weight = address(WEIGHT, state, program.tiles)
    input = address(INPUT, state, program.tiles)
    sums = address(OUTPUT, state, program.tiles)
    firsts = state[NUMBERS + FIRST]
    fresh_first = _multiply(ZERO, firsts, weight, input, sums, active, slots, there)
    fresh = fresh_first + _multiply(firsts, state[NUMBERS + ALL], weight, input, sums, active, slots, there)
    count(fresh, fresh_first, complete, program.tiles, memory)


@inner
def _multiply(begin, end, weight, input, sums, active, slots, there):
    starts, weights, inputs, outputs = active[START], active[WEIGHT], active[INPUT], active[OUTPUT]
    left, right, sums_, there_ = slots[weight:], slots[input:], slots[sums:], there[sums:]
    fresh = ZERO
    for group in range(begin, end):
        total = np.int32(0)
        # Unsigned numbers are no places from the end: nothing looks whether they are.
        for unit in range(np.uint32(starts[group]), np.uint32(starts[group + 1])):
            total += left[np.uint32(weights[unit])] * right[np.uint32(inputs[unit])]
        slot = outputs[group]
        sums_[slot] += total
        fresh += 1 - there_[slot]
        there_[slot] = 1
    return fresh


@inner
def count(fresh, fresh_first, complete, tiles, memory):
    """Count what the units read and write in a step."""
    state, counts, each, bits = memory.state, memory.counts, memory.each[0], memory.bits
    state[STEPS] += 1
    state[PRODUCTS] += state[NUMBERS + UNITS]
    for operand in (WEIGHT, INPUT):
        level = tiles[state[UNIT_TILE + operand], LEVEL]
        note(
            counts, READ, level, operand, state[READS + 2 * operand + ALL], state[READS + 2 * operand + FIRST]
        )
        bits[operand] = state[READS + 2 * operand + FIRST] * each[level, operand]
    level = tiles[state[UNIT_TILE + OUTPUT], LEVEL]
    arrived, arrived_first = state[NUMBERS + ALL], state[NUMBERS + FIRST]
    note(counts, READ, level, PARTIAL, arrived - fresh, arrived_first - fresh_first)
    final, final_first = ZERO, ZERO
    if complete:
        final, final_first = state[NUMBERS + OWN], state[NUMBERS + FIRST_OWN]
        note(counts, WRITE, level, OUTPUT, final, final_first)
        state[COMPLETE] += final
    note(counts, WRITE, level, PARTIAL, arrived - final, arrived_first - final_first)
    made = memory.made[0]
    bits[OUTPUT] = (arrived_first - fresh_first) * made * each[level, PARTIAL]
    bits[PARTIAL] = (arrived_first - final_first) * made * each[level, PARTIAL]
    bits[PARTIAL] += final_first * each[level, OUTPUT]
    if made < 1:
        left_out = memory.saved[0]
        left_out[READ, ALL, level, PARTIAL] += (arrived - fresh) * (1 - made)
        left_out[READ, FIRST, level, PARTIAL] += (arrived_first - fresh_first) * (1 - made)
        left_out[WRITE, ALL, level, PARTIAL] += (arrived - final) * (1 - made)
        left_out[WRITE, FIRST, level, PARTIAL] += (arrived_first - final_first) * (1 - made)
