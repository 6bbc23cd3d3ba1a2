"""Transfers: tiles move between memories; each copies what is in it, and counts what it copies."""

from typing import NamedTuple

import numpy as np

from tersor.targets.accelerator.simulator.counting import mark, note, reads
from tersor.targets.accelerator.simulator.jit import inner
from tersor.targets.accelerator.simulator.tables import (
    ALONG,
    AT,
    BASE,
    BOX,
    BOXED,
    CODE_STEP,
    COMPLETE,
    COUNT,
    COVER,
    DEPTH,
    EXTENT,
    FAILED,
    FIRST_GROUP,
    FIRST_MEMBER,
    GROUP_SIZE,
    GROUPS,
    INPUT,
    KNOWN,
    LEVEL,
    MOVED,
    NONE,
    OF,
    OFFSET,
    ORIGIN,
    OUTPUT,
    OUTSIDE,
    PARENT,
    PARTIAL,
    PLACE,
    PLACES,
    READ,
    RESTORE,
    ROW,
    SIZE,
    SLIDES,
    SOURCE,
    STAMP,
    STRIDE,
    TILE,
    WEIGHT,
    WINDOW,
    WRITE,
    ZERO,
    C,
    G,
    K,
    N,
    P,
    Q,
    R,
    S,
)

ROWS, COLUMNS = map(np.int64, (0, 1))
ONE = np.int64(1)


@inner
def load(move, program, memory):
    """Fetch the tile of a weight or an input at the present coordinates into each memory that keeps it."""
    state, tiles, rows, moves = memory.state, program.tiles, program.rows, program.moves
    tile, source = moves[move, TILE], moves[move, SOURCE]
    operand = tiles[tile, OF]
    frame = memory.frames[state[DEPTH] - 1]
    slides = moves[move, SLIDES] if state[DEPTH] > 0 and frame[1] > 0 else NONE
    step = program.code[frame[0], CODE_STEP] if slides >= 0 else ZERO
    before = tiles[tile, PLACE]
    _turn(tile, state, tiles)
    for i in range(4):
        state[MOVED + i] = 0
    if not _is_inside(source, state, tiles):
        state[FAILED] = OUTSIDE
        return
    lines, slots = memory.lines, memory.slots
    shift = step * state[WINDOW + max(slides, ZERO)]
    begin = slot_of(source, state, tiles)
    inside = is_whole(move, state, tiles, moves)
    height, width = NONE, NONE
    if inside and tiles[tile, BOX] == 1:
        _copy_one(tile, begin, state, tiles, rows, slots)
        height = ZERO
    for instance in range(tiles[tile, COUNT]):
        if height == 0:
            break
        row = tiles[tile, ROW] + instance
        if not inside and not _clip(move, row, state, rows, moves):
            continue
        if not inside or height < 0:
            height, width = _lines_of(operand, slides, step, move, state, moves, memory.marks, lines)
        old = tiles[tile, BASE] + (instance * tiles[tile, PLACES] + before) * tiles[tile, BOX]
        new = tiles[tile, BASE] + (instance * tiles[tile, PLACES] + tiles[tile, PLACE]) * tiles[tile, BOX]
        from_ = begin + rows[row, OFFSET]
        _copy(tile, source, from_, old, new, height, width, slides, shift, state, tiles, lines, slots)
        if instance == 0:
            state[MOVED + 1], state[MOVED + 3] = state[MOVED], state[MOVED + 2]
    reads(move, operand, slides, step, state, moves, program.pool, memory.marks)
    note(memory.counts, READ, tiles[source, LEVEL], operand, moves[move, KNOWN + 9], moves[move, KNOWN + 10])
    note(memory.counts, WRITE, tiles[tile, LEVEL], operand, state[MOVED], state[MOVED + 1])


@inner
def is_home(tile, tiles):
    """Whether a tile is all of its operand: the outermost of its own."""
    return tile == 0 or tiles[tile - 1, OF] != tiles[tile, OF]


@inner
def _turn(tile, state, tiles):
    """Go on to the next place of a tile."""
    tiles[tile, PLACE] = (tiles[tile, PLACE] + 1) % tiles[tile, PLACES]
    for dim in range(8):
        tiles[tile, ORIGIN + dim] = state[AT + dim]


@inner
def _copy_one(tile, begin, state, tiles, rows, slots):
    """Copy tiles of one element."""
    base = tiles[tile, BASE] + tiles[tile, PLACE]
    nonzero = ZERO
    for instance in range(tiles[tile, COUNT]):
        value = slots[begin + rows[tiles[tile, ROW] + instance, OFFSET]]
        slots[base + instance * tiles[tile, PLACES]] = value
        nonzero += value != 0
        if instance == 0:
            state[MOVED + 3] = nonzero
    state[MOVED], state[MOVED + 1], state[MOVED + 2] = tiles[tile, COUNT], 1, nonzero


@inner
def is_whole(move, state, tiles, moves):
    """Whether the layer has all of the tiles in all memories; their sizes are then left in the state.

    Of a dimension that does not index the operand it has to have the beginnings of the tiles.
    """
    source = moves[move, SOURCE]
    whole = True
    for dim in range(8):
        needed = moves[move, COVER + dim]
        if tiles[source, ALONG + dim] == 0:
            needed -= moves[move, EXTENT + dim] - 1
        whole = whole and state[SIZE + dim] - state[AT + dim] >= needed
    if whole:
        for dim in range(8):
            state[BOXED + dim] = moves[move, EXTENT + dim]
    return whole


@inner
def _clip(move, row, state, rows, moves):
    """Leave in `box` what the layer has of the tile in one memory; give whether that is anything."""
    for dim in range(8):
        rest = state[SIZE + dim] - state[AT + dim] - rows[row, dim]
        if rest <= 0:
            return False
        state[BOXED + dim] = min(rest, moves[move, EXTENT + dim])
    return True


@inner
def _lines_of(operand, slides, step, move, state, moves, marks, lines):
    """Leave in `lines` the last two coordinates of the tile's elements, and which are kept; give how many."""
    if operand == INPUT:
        height = _touched(ROWS, P, R, slides, step, move, state, moves, marks, lines)
        return height, _touched(COLUMNS, Q, S, slides, step, move, state, moves, marks, lines)
    first, second = (R, S) if operand == WEIGHT else (P, Q)
    for line in range(state[BOXED + first]):
        lines[ROWS, line], lines[ROWS + 2, line] = line, 0
    for line in range(state[BOXED + second]):
        lines[COLUMNS, line], lines[COLUMNS + 2, line] = line, 0
    return state[BOXED + first], state[BOXED + second]


@inner
def _touched(axis, outputs, taps, slides, step, move, state, moves, marks, lines):
    back = step if slides == outputs else ZERO
    offset = back * state[WINDOW + outputs]
    state[STAMP] += 2
    stamp = state[STAMP]
    if back > 0:
        extent = moves[move, EXTENT + outputs]
        mark(ZERO, extent, ZERO, state[BOXED + taps], outputs, taps, state, marks, stamp - 1)
    count = 0
    last = (state[BOXED + outputs] - 1) * state[WINDOW + outputs] + (state[BOXED + taps] - 1) * state[
        WINDOW + taps
    ]
    kept_from = len(marks) // 2  # a second set of marks: what was touched before
    for line in range(last + 1):
        if marks[line + offset] == stamp - 1:
            marks[kept_from + line] = stamp
    mark(back, state[BOXED + outputs], ZERO, state[BOXED + taps], outputs, taps, state, marks, stamp)
    for line in range(last + 1):
        if marks[line + offset] == stamp:
            lines[axis, count] = line
            lines[axis + 2, count] = back > 0 and marks[kept_from + line] == stamp
            count += 1
    return count


@inner
def _is_inside(source, state, tiles):
    """Whether the outer tile begins where the inner one does or before, in each dimension of the operand."""
    for dim in range(8):
        if tiles[source, ALONG + dim] != 0 and state[AT + dim] < tiles[source, ORIGIN + dim]:
            return False
    return True


@inner
def slot_of(source, state, tiles):
    """The slot in the outer tile at which the tile of the first memory begins."""
    slot = tiles[source, BASE] + tiles[source, PLACE] * tiles[source, BOX]
    for dim in range(8):
        slot += (state[AT + dim] - tiles[source, ORIGIN + dim]) * tiles[source, ALONG + dim]
    return slot


@inner
def _copy(tile, source, begin, old, new, height, width, slides, shift, state, tiles, lines, slots):
    """Copy what is new of a tile from the outer one, and what is kept from where it was."""
    operand = tiles[tile, OF]
    first, second, third = (G, K, C) if operand == WEIGHT else (N, G, C)
    into, out = tiles[tile, STRIDE : STRIDE + 5], tiles[source, STRIDE : STRIDE + 5]
    down, right = (shift * into[3], 0) if slides == P else (0, shift * into[4])
    fresh, nonzero = 0, 0
    for a in range(state[BOXED + first]):
        for b in range(state[BOXED + second]):
            for c in range(state[BOXED + third]):
                to = a * into[0] + b * into[1] + c * into[2]
                outer = begin + a * out[0] + b * out[1] + c * out[2]
                for i in range(height):
                    y, kept = lines[ROWS, i], lines[ROWS + 2, i]
                    for j in range(width):
                        x = lines[COLUMNS, j]
                        slot = to + y * into[3] + x * into[4]
                        if kept or lines[COLUMNS + 2, j]:
                            slots[new + slot] = slots[old + slot + down + right]
                            continue
                        from_ = outer + y * out[3] + x * out[4]
                        value = slots[from_]
                        slots[new + slot] = value
                        fresh += 1
                        nonzero += value != 0
    state[MOVED] += fresh
    state[MOVED + 2] += nonzero


@inner
def restore(move, program, memory):
    """Begin a tile of sums, with those that have left before they were complete."""
    state, tiles, rows, moves = memory.state, program.tiles, program.rows, program.moves
    slots, there, counts = memory.slots, memory.there, memory.counts
    tile, source = moves[move, TILE], moves[move, SOURCE]
    _turn(tile, state, tiles)
    for i in range(4):
        state[MOVED + i] = 0
    if not moves[move, RESTORE]:
        return
    into, out = tiles[tile, STRIDE : STRIDE + 5], tiles[source, STRIDE : STRIDE + 5]
    inside, at_first = is_whole(move, state, tiles, moves), slot_of(source, state, tiles)
    count = tiles[tile, COUNT]
    if inside and tiles[tile, BOX] == 1:
        _restore_one(tile, at_first, state, tiles, rows, slots, there)
        count = ZERO
    for instance in range(count):
        row = tiles[tile, ROW] + instance
        if not inside and not _clip(move, row, state, rows, moves):
            continue
        begin = at_first + rows[row, OFFSET]
        new = tiles[tile, BASE] + (instance * tiles[tile, PLACES] + tiles[tile, PLACE]) * tiles[tile, BOX]
        back = 0
        for n in range(state[BOXED + N]):
            for g in range(state[BOXED + G]):
                for k in range(state[BOXED + K]):
                    for p in range(state[BOXED + P]):
                        for q in range(state[BOXED + Q]):
                            at = begin + n * out[0] + g * out[1] + k * out[2] + p * out[3] + q * out[4]
                            if there[at]:
                                to = new + n * into[0] + g * into[1] + k * into[2] + p * into[3] + q * into[4]
                                slots[to], there[to] = slots[at], 1
                                slots[at], there[at] = 0, 0
                                back += 1
        first = back if instance == 0 else ZERO
        state[MOVED] += back
        state[MOVED + 1] += first
    note(counts, READ, tiles[source, LEVEL], PARTIAL, state[MOVED], state[MOVED + 1])
    note(counts, WRITE, tiles[tile, LEVEL], PARTIAL, state[MOVED], state[MOVED + 1])


@inner
def _restore_one(tile, begin, state, tiles, rows, slots, there):
    """Restore tiles of one element."""
    base = tiles[tile, BASE] + tiles[tile, PLACE]
    back = ZERO
    for instance in range(tiles[tile, COUNT]):
        at = begin + rows[tiles[tile, ROW] + instance, OFFSET]
        if there[at]:
            to = base + instance * tiles[tile, PLACES]
            slots[to], there[to] = slots[at], 1
            slots[at], there[at] = 0, 0
            back += 1
        if instance == 0:
            state[MOVED + 1] = back
    state[MOVED] = back


@inner
def store(move, complete_here, complete_there, program, memory):
    """Send the sums of a tile outwards, those of units that reduce together, and clear it.

    Leaves in `moved`, of the first memories, what was read inside, read outside, written complete and not.
    """
    state, tiles, rows, moves = memory.state, program.tiles, program.rows, program.moves
    pool, counts = program.pool, memory.counts
    tile, source = moves[move, TILE], moves[move, SOURCE]
    inner, outer = tiles[tile, LEVEL], tiles[source, LEVEL]
    inside, at_first = is_whole(move, state, tiles, moves), slot_of(source, state, tiles)
    is_one = inside and tiles[tile, BOX] == 1
    all_of, of_first = Drained(ZERO, ZERO, ZERO, ZERO), Drained(ZERO, ZERO, ZERO, ZERO)
    for group in range(moves[move, GROUPS]):
        base = moves[move, FIRST_MEMBER] + group * moves[move, GROUP_SIZE]
        row = tiles[tile, ROW] + pool[base]
        if not inside and not _clip(move, row, state, rows, moves):
            continue
        begin = at_first + rows[row, OFFSET]
        if is_one:
            left, left_first, arrived, added = _drain_one(
                move, base, begin, tiles, moves, pool, memory.slots, memory.there
            )
        else:
            left, left_first, arrived, added = _drain(
                move, base, begin, state, tiles, moves, pool, memory.slots, memory.there
            )
        final = ZERO if pool[moves[move, FIRST_GROUP] + group] else arrived
        all_of = _and(all_of, left, added, arrived, final)
        if rows[row, PARENT] == 0:
            of_first = _and(of_first, left_first, added, arrived, final)
        elif left_first:
            of_first = _and(of_first, left_first, ZERO, ZERO, ZERO)
    final, final_first = (all_of.final, of_first.final) if complete_there else (ZERO, ZERO)
    partial, partial_first = all_of.arrived - final, of_first.arrived - final_first
    note(counts, READ, inner, OUTPUT if complete_here else PARTIAL, all_of.left, of_first.left)
    note(counts, READ, outer, PARTIAL, all_of.added, of_first.added)
    note(counts, WRITE, outer, OUTPUT, final, final_first)
    note(counts, WRITE, outer, PARTIAL, partial, partial_first)
    state[MOVED], state[MOVED + 1] = of_first.left, of_first.added
    state[MOVED + 2], state[MOVED + 3] = final_first, partial_first
    if is_home(source, tiles):
        state[COMPLETE] += final


class Drained(NamedTuple):
    """Sums that left, those outside that some were added to, that arrived, and of these the first ones."""

    left: np.int64
    added: np.int64
    arrived: np.int64
    final: np.int64


@inner
def _and(drained, left, added, arrived, final):
    return Drained(
        drained.left + left, drained.added + added, drained.arrived + arrived, drained.final + final
    )


@inner
def _drain_one(move, base, begin, tiles, moves, pool, slots, there):
    """Add the sums of a group up whose tiles are of one element; where no sum is there is a zero."""
    tile = moves[move, TILE]
    first_slot, pitch = tiles[tile, BASE] + tiles[tile, PLACE], tiles[tile, PLACES]
    total, parts, left_first = np.int32(0), ZERO, ZERO
    for member in range(base, base + moves[move, GROUP_SIZE]):
        slot = first_slot + pool[member] * pitch
        total += slots[slot]
        parts += there[slot]
        if pool[member] == 0:
            left_first = np.int64(there[slot])
        slots[slot], there[slot] = 0, 0
    if parts == 0:
        return ZERO, ZERO, ZERO, ZERO
    added = np.int64(there[begin])
    slots[begin] += total
    there[begin] = 1
    return parts, left_first, ONE, added


@inner
def _drain(move, base, begin, state, tiles, moves, pool, slots, there):
    """Add the sums of the memories of a group up, and to what is there already."""
    tile, source = moves[move, TILE], moves[move, SOURCE]
    n_out, g_out, k_out = tiles[tile, STRIDE], tiles[tile, STRIDE + 1], tiles[tile, STRIDE + 2]
    p_out, q_out = tiles[tile, STRIDE + 3], tiles[tile, STRIDE + 4]
    n_into, g_into, k_into = tiles[source, STRIDE], tiles[source, STRIDE + 1], tiles[source, STRIDE + 2]
    p_into, q_into = tiles[source, STRIDE + 3], tiles[source, STRIDE + 4]
    box, pitch = tiles[tile, BOX], tiles[tile, PLACES] * tiles[tile, BOX]
    first_slot = tiles[tile, BASE] + tiles[tile, PLACE] * box
    left, left_first, arrived, added = ZERO, ZERO, ZERO, ZERO
    for n in range(state[BOXED + N]):
        for g in range(state[BOXED + G]):
            for k in range(state[BOXED + K]):
                for p in range(state[BOXED + P]):
                    for q in range(state[BOXED + Q]):
                        at = n * n_out + g * g_out + k * k_out + p * p_out + q * q_out
                        total, parts = 0, 0
                        for member in range(base, base + moves[move, GROUP_SIZE]):
                            memory = pool[member]
                            slot = first_slot + memory * pitch + at
                            if there[slot]:
                                total += slots[slot]
                                slots[slot], there[slot] = 0, 0
                                parts += 1
                                left_first += memory == 0
                        left += parts
                        if parts:
                            to = begin + n * n_into + g * g_into + k * k_into + p * p_into + q * q_into
                            added += there[to]
                            slots[to] += total
                            there[to] = 1
                            arrived += 1
    return left, left_first, arrived, added
