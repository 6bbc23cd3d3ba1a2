"""Zeros: steps of a machine that looks at zeros, whose units read, multiply and add only what they have to.

A factor is read where no other factor that is looked at is zero; its own zeros its representation leaves out.
If zeros are skipped, each unit goes on to its next effectual product, and all wait for one another when a
tile changes: those with fewer products are the imbalance.
"""

from tersor.targets.accelerator.simulator.clock import end_steps
from tersor.targets.accelerator.simulator.jit import inner
from tersor.targets.accelerator.simulator.products import UNITS, address, count, gather_active
from tersor.targets.accelerator.simulator.tables import (
    ALL,
    CYCLE,
    EFFECTUAL,
    FIRST,
    INPUT,
    LEVEL,
    LOOKS,
    NUMBERS,
    OUTPUT,
    PARTIAL,
    READ,
    READS,
    START,
    UNIT,
    UNIT_TILE,
    WAY,
    WEIGHT,
    WRITE,
    ZERO,
)


@inner
def step(complete, program, memory):
    """Make the effectual products of one step, as `products.step`; note what zeros leave out."""
    gather_active(program, memory)
    state, active = memory.state, memory.active[memory.state[WAY]]
    weight = address(WEIGHT, state, program.tiles)
    input = address(INPUT, state, program.tiles)
    sums = address(OUTPUT, state, program.tiles)
    looks_weight, looks_input = state[LOOKS + 0] != 0, state[LOOKS + 1] != 0
    skips_weight, skips_input = state[LOOKS + 2] != 0, state[LOOKS + 3] != 0
    slots, there, made_by = memory.slots, memory.there, memory.effectual
    read, nonzero = memory.taken[0], memory.taken[1]
    for operand in (WEIGHT, INPUT):
        read[operand], nonzero[operand] = 0, 0
    fresh, fresh_first, added, arrived, made = ZERO, ZERO, ZERO, ZERO, ZERO
    for group in range(state[NUMBERS + ALL]):
        total, effectual = 0, 0
        for unit in range(active[START, group], active[START, group + 1]):
            w = slots[weight + active[WEIGHT, unit]]
            x = slots[input + active[INPUT, unit]]
            if not (looks_input and x == 0):
                read[WEIGHT] += 1
                nonzero[WEIGHT] += w != 0
            if not (looks_weight and w == 0):
                read[INPUT] += 1
                nonzero[INPUT] += x != 0
            if not (looks_weight and w == 0) and not (looks_input and x == 0):
                effectual += 1
                total += w * x
            if not (skips_weight and w == 0) and not (skips_input and x == 0):
                made_by[active[UNIT, unit]] += 1
        slot = sums + active[OUTPUT, group]
        slots[slot] += total
        if there[slot] == 0:
            fresh += 1
            fresh_first += group < state[NUMBERS + FIRST]
        elif effectual:
            added += 1
        arrived += effectual > 0
        made += effectual
        there[slot] = 1
    count(fresh, fresh_first, complete, program.tiles, memory)
    state[EFFECTUAL] += made
    _leave_out(fresh, added, arrived, complete, program.tiles, memory)


@inner
def _leave_out(fresh, added, arrived, complete, tiles, memory):
    """Note what of the counted accesses zeros have saved, and how many elements of it were not zero."""
    state, bits = memory.state, memory.bits
    read, nonzero, every, more = memory.taken[0], memory.taken[1], memory.each[0], memory.each[1]
    left_out, kept = memory.saved[0], memory.saved[1]
    for operand in (WEIGHT, INPUT):
        level = tiles[state[UNIT_TILE + operand], LEVEL]
        for who in (ALL, FIRST):
            each = state[READS + 2 * operand + who] / state[NUMBERS + UNITS]
            left_out[READ, who, level, operand] += each * (state[NUMBERS + UNITS] - read[operand])
            kept[READ, who, level, operand] += each * nonzero[operand]
        bits[operand] = each * (
            read[operand] * every[level, operand] + nonzero[operand] * more[level, operand]
        )
    level = tiles[state[UNIT_TILE + OUTPUT], LEVEL]
    groups = state[NUMBERS + ALL]
    for who in (ALL, FIRST):
        share = state[NUMBERS + who] / groups
        left_out[READ, who, level, PARTIAL] += share * (groups - fresh - added)
        if not complete:
            left_out[WRITE, who, level, PARTIAL] += share * (groups - arrived)
    bits[OUTPUT] = share * memory.made[0] * added * every[level, PARTIAL]
    if not complete:
        bits[PARTIAL] = share * memory.made[0] * arrived * every[level, PARTIAL]


@inner
def catch_up(effectual, clock):
    """Let the units make the products that they have skipped to since a tile last changed."""
    most, total = 0, 0
    for unit in range(len(effectual)):
        most = max(most, effectual[unit])
        total += effectual[unit]
    if total == 0:
        return
    cycle = clock.now[CYCLE]
    clock.stalls[len(clock.times) + 1] += (most - total / len(effectual)) * cycle
    end_steps(most * cycle, clock)
    for unit in range(len(effectual)):
        effectual[unit] = 0
