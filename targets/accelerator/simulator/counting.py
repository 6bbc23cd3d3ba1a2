"""Counting: how many elements a memory reads for tiles that go to several memories or units at once.

One read serves all that need the same element, as far as the axes between them share it (`sharing`). Along
each dimension the tiles begin at offsets; those in `own` are each read for themselves, those `together` once.
"""

from tersor.targets.accelerator.simulator.jit import inner
from tersor.targets.accelerator.simulator.tables import (
    ALL,
    AT,
    COVER,
    EXTENT,
    FIRST,
    INPUT,
    KNOWN,
    SIZE,
    STAMP,
    TOGETHER,
    WHERE,
    WINDOW,
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


@inner
def reads(move, operand, slides, step, state, moves, pool, marks):
    """Leave in `known` how many elements are read for a move here, of all memories and of the first.

    `slides` is the dimension along which the tile before, `step` iterations ago, is kept, or -1.
    """
    known = moves[move, KNOWN : KNOWN + 11]
    same = known[8] == slides
    for dim in range(8):
        limit = min(state[SIZE + dim] - state[AT + dim], moves[move, COVER + dim])
        if known[dim] != limit:
            same = False
            known[dim] = limit
    if same:
        return
    known[8] = slides
    for who in (ALL, FIRST):
        known[9 + who] = _volume(move, who, operand, slides, step, known, state, moves, pool, marks)


@inner
def _volume(move, who, operand, slides, step, limit, state, moves, pool, marks):
    total = 1
    if operand == INPUT:
        for dim in (N, G, C, K):
            total *= _along(move, who, dim, dim != K, limit, moves, pool)
        total *= _lines(move, who, P, R, slides, step, limit, state, moves, pool, marks)
        return total * _lines(move, who, Q, S, slides, step, limit, state, moves, pool, marks)
    for dim in range(8):
        indexes = dim != N and dim != P and dim != Q
        total *= _along(move, who, dim, indexes, limit, moves, pool)
    return total


@inner
def _row(move, who, dim, kind, moves):
    """Where in `pool` the offsets along a dimension are, own ones (0) or those together (1), and how many."""
    column = WHERE + 2 * (2 * (8 * who + dim) + kind)
    return moves[move, column], moves[move, column + 1]


@inner
def _along(move, who, dim, indexes, limit, moves, pool):
    """Iterations over a dimension of all tiles, or, if it does not index the operand, tiles."""
    start, length = _row(move, who, dim, ZERO, moves)
    total = 0
    for i in range(start, start + length):
        rest = limit[dim] - pool[i]
        if rest > 0:
            total += min(rest, moves[move, EXTENT + dim]) if indexes else 1
    return total


@inner
def _lines(move, who, outputs, taps, slides, step, limit, state, moves, pool, marks):
    """Rows (P, R) or columns (Q, S) of the input."""
    first, first_length = _row(move, who, outputs, ZERO, moves)
    second, second_length = _row(move, who, taps, ZERO, moves)
    back = step if slides == outputs else ZERO
    total = 0
    for i in range(first, first + first_length):
        for j in range(second, second + second_length):
            if pool[i] < limit[outputs] and pool[j] < limit[taps]:
                total += _touched(
                    move, who, outputs, taps, pool[i], pool[j], back, limit, state, moves, pool, marks
                )
    return total


@inner
def _touched(move, who, outputs, taps, output, tap, back, limit, state, moves, pool, marks):
    """Different lines that the tiles at an offset and those together with it touch."""
    first, first_length = _row(move, who, outputs, TOGETHER, moves)
    second, second_length = _row(move, who, taps, TOGETHER, moves)
    state[STAMP] += 1
    stamp = state[STAMP]
    total = 0
    for i in range(first, first + first_length):
        for j in range(second, second + second_length):
            p, r = output + pool[i], tap + pool[j]
            rows = min(moves[move, EXTENT + outputs], limit[outputs] - p)
            depth = min(moves[move, EXTENT + taps], limit[taps] - r)
            if back > 0:
                mark(p, moves[move, EXTENT + outputs], r, depth, outputs, taps, state, marks, stamp)
            total += mark(p + back, rows, r, depth, outputs, taps, state, marks, stamp)
    return total


@inner
def mark(output, outputs, tap, taps, first, second, state, marks, stamp):
    """Mark the lines that some neighbouring outputs and taps touch; give how many had no mark yet."""
    new = 0
    for p in range(output, output + outputs):
        for r in range(tap, tap + taps):
            line = p * state[WINDOW + first] + r * state[WINDOW + second]
            if marks[line] != stamp:
                marks[line] = stamp
                new += 1
    return new


@inner
def note(counts, what, level, stream, all_of, first):
    """Count elements that a level's memories read or write."""
    counts[what, ALL, level, stream] += all_of
    counts[what, FIRST, level, stream] += first
