"""Interpreter: executes the instructions one after the other, in slices, so that progress can be told."""

from tersor.targets.accelerator.simulator import products, zeros
from tersor.targets.accelerator.simulator.clock import (
    ahead,
    begin_step,
    carries_bits,
    end_steps,
    give_free,
    give_full,
    hold_back,
    leave,
    moves_bits,
    note,
    release,
    settle,
    transfer,
    wait_for_tokens,
)
from tersor.targets.accelerator.simulator.fetching import fetch_row
from tersor.targets.accelerator.simulator.jit import digest, inner, outermost
from tersor.targets.accelerator.simulator.tables import (
    ALL,
    AT,
    BASE,
    BOX,
    CODE_DIM,
    CODE_KIND,
    CODE_PARTNER,
    CODE_SIZE,
    CODE_STEP,
    COMPUTE,
    CYCLE,
    DEPTH,
    END,
    FAILED,
    FINISHED,
    FIRST,
    FREE,
    GROUP,
    INPUT,
    KNOWN,
    LEVEL,
    LOAD,
    LOOKS,
    LOOP,
    MEANWHILE,
    MOVED,
    NEED,
    NOW,
    OF,
    OUTPUT,
    PARTIAL,
    PC,
    PENDING_FILL,
    READ,
    RELEASE,
    SIZE,
    SOURCE,
    STATIONARY,
    STEPS,
    STORE,
    SYNC,
    TILE,
    UNIT_TILE,
    VERSION,
    WEIGHT,
    WHOLE,
    WRITE,
    ZERO,
    C,
    G,
    K,
    R,
    S,
)
from tersor.targets.accelerator.simulator.transfers import is_home, load, restore, store


def _functions():
    version = digest()

    @outermost
    def run(steps, program, memory, clock):
        """Go on until `steps` more steps of the array are made, something fails, or all is done."""
        memory.state[VERSION] = version
        _run(steps, program, memory, clock)

    @outermost
    def hold(program, memory, stored, image):
        """Decode what is in its home: each element once, as it is fetched many times."""
        memory.state[VERSION] = version
        _hold(program, memory, stored, image)

    return run, hold


@inner
def _run(steps, program, memory, clock):
    state, code = memory.state, program.code
    skips = state[LOOKS + 2] or state[LOOKS + 3]
    last = state[STEPS] + steps
    while state[PC] < len(code) and state[STEPS] < last and not state[FAILED]:
        here = state[PC]
        kind = code[here, CODE_KIND]
        state[PC] += 1
        if kind == LOOP:
            _enter(here, code, state, memory.frames)
        elif kind == END:
            _repeat(here, code, state, memory.frames)
        elif kind == COMPUTE:
            _compute(here, skips, program, memory, clock)
        else:
            if skips:
                zeros.catch_up(memory.effectual, clock)
            if kind == LOAD:
                _load(here, program, memory, clock)
            elif kind == STORE:
                _store(here, program, memory, clock)
            elif kind == SYNC:
                give_free(here, True, code, clock)
    if state[PC] == len(code) and not state[FINISHED]:
        state[FINISHED] = 1
        if skips:
            zeros.catch_up(memory.effectual, clock)
        for tile in range(len(program.tiles) - 1, -1, -1):
            while clock.tokens[tile, 3] > 0:
                settle(tile, code, clock)
            for turn in range(2):
                end = ahead(clock.times[tile, FREE + turn, 0], clock.ports, clock.now)
                if end > 0:
                    clock.stalls[tile] += end
                    note(tile, 2.0, 0.0, end, clock)
                    clock.now[NOW] += end


@inner
def _hold(program, memory, stored, image):
    state, tiles, slots = memory.state, program.tiles, memory.slots
    for tile in range(len(tiles)):
        if not is_home(tile, tiles):
            continue
        if tiles[tile, OF] == INPUT:
            for i in range(tiles[tile, BOX]):
                slots[tiles[tile, BASE] + i] = int(image.codes[i]) - image.zero[0]
        elif tiles[tile, OF] == WEIGHT:
            _decode_weight(tiles[tile, BASE], state, slots, memory.row, stored)


@inner
def _decode_weight(base, state, slots, decoded, stored):
    """Decode the rows of weights, taps outside of channels, into slots with channels outside of taps."""
    channels, taps = state[SIZE + C], state[SIZE + R] * state[SIZE + S]
    for row in range(state[SIZE + G] * state[SIZE + K]):
        fetch_row(stored, row, ZERO, channels * taps, decoded)
        for tap in range(taps):
            for c in range(channels):
                slots[base + (row * channels + c) * taps + tap] = decoded[tap * channels + c]


@inner
def _enter(here, code, state, frames):
    frame = frames[state[DEPTH]]
    frame[0], frame[1], frame[2] = here, 0, state[AT + code[here, CODE_DIM]]
    state[DEPTH] += 1


@inner
def _next(frame, code, state):
    """The coordinate of the next iteration of a loop, or -1 if the layer has none."""
    loop = frame[0]
    at = frame[2] + (frame[1] + 1) * code[loop, CODE_STEP]
    return at if frame[1] + 1 < code[loop, CODE_SIZE] and at < state[SIZE + code[loop, CODE_DIM]] else -1


@inner
def _repeat(here, code, state, frames):
    frame = frames[state[DEPTH] - 1]
    dim = code[frame[0], CODE_DIM]
    at = _next(frame, code, state)
    if at >= 0:
        frame[1] += 1
        state[AT + dim] = at
        state[PC] = frame[0] + 1
    else:
        state[AT + dim] = frame[2]
        state[DEPTH] -= 1


@inner
def _is_last(code, state, frames):
    """Whether no open loop will add to the present sums again."""
    for depth in range(state[DEPTH]):
        frame = frames[depth]
        dim = code[frame[0], CODE_DIM]
        if dim in (C, R, S) and _next(frame, code, state) >= 0:
            return False
    return True


@inner
def _compute(here, skips, program, memory, clock):
    state, tiles, levels, ports = memory.state, program.tiles, program.levels, clock.ports
    code = program.code
    begin_step(here, code, clock, state)
    sums = state[UNIT_TILE + OUTPUT]
    level = tiles[sums, LEVEL]
    complete = is_home(sums, tiles) and _is_last(code, state, memory.frames)
    if state[LOOKS + 4]:
        zeros.step(complete, program, memory)
    else:
        products.step(complete, program, memory)
    bits = memory.bits
    for operand in (WEIGHT, INPUT):
        at = tiles[state[UNIT_TILE + operand], LEVEL]
        moves_bits(GROUP, bits[operand], READ, at, levels, ports)
        carries_bits(GROUP, bits[operand], operand, at, levels, ports)
    moves_bits(GROUP, bits[OUTPUT], READ, level, levels, ports)
    carries_bits(GROUP, bits[OUTPUT], PARTIAL, level, levels, ports)
    moves_bits(GROUP, bits[PARTIAL], WRITE, level, levels, ports)
    carries_bits(GROUP, bits[PARTIAL], OUTPUT, level, levels, ports)
    if not skips:
        end_steps(clock.now[CYCLE], clock)


@inner
def _load(here, program, memory, clock):
    state, code, tiles, moves = memory.state, program.code, program.tiles, program.moves
    move = code[here, CODE_PARTNER]
    tile, source = moves[move, TILE], moves[move, SOURCE]
    inner, outer = tiles[tile, LEVEL], tiles[source, LEVEL]
    release(clock.ports)
    wait_for_tokens(here, code, clock, state)
    stream = tiles[tile, OF]
    if stream == OUTPUT:
        stream = PARTIAL
        restore(move, program, memory)
        given, taken = state[MOVED + 1], state[MOVED + 1]
        nonzero_given, nonzero_taken = 0.0, 0.0
    else:
        load(move, program, memory)
        given, taken = moves[move, KNOWN + 9 + FIRST], state[MOVED + 1]
        _count_nonzero(move, stream, outer, inner, state, moves, memory.saved[1])
        nonzero_taken = float(state[MOVED + 3])
        nonzero_given = nonzero_taken * given / max(taken, 1)
    if tile == state[STATIONARY]:
        state[PENDING_FILL] = 1
    bits = given * memory.each[0, outer, stream] + nonzero_given * memory.each[1, outer, stream]
    moves_bits(NEED, bits, READ, outer, program.levels, clock.ports)
    carries_bits(NEED, bits, stream, outer, program.levels, clock.ports)
    bits = taken * memory.each[0, inner, stream] + nonzero_taken * memory.each[1, inner, stream]
    moves_bits(NEED, bits, WRITE, inner, program.levels, clock.ports)
    begin = ahead(clock.ports[RELEASE], clock.ports, clock.now)
    cycles = transfer(clock)
    if given:
        end = ahead(clock.ports[RELEASE], clock.ports, clock.now)
        note(tile, 0.0, min(begin, end - cycles), end, clock)
    give_full(here, code, clock)


@inner
def _count_nonzero(move, stream, outer, inner, state, moves, nonzero):
    """Note how many of the elements that moved were not zero; those read for several are like the others."""
    for who in (ALL, FIRST):
        share = moves[move, KNOWN + 9 + who] / max(state[MOVED + who], 1)
        nonzero[READ, who, outer, stream] += state[MOVED + 2 + who] * share
        nonzero[WRITE, who, inner, stream] += state[MOVED + 2 + who]


@inner
def _store(here, program, memory, clock):
    state, code, tiles, moves = memory.state, program.code, program.tiles, program.moves
    move = code[here, CODE_PARTNER]
    tile, source = moves[move, TILE], moves[move, SOURCE]
    inner, outer = tiles[tile, LEVEL], tiles[source, LEVEL]
    last = _is_last(code, state, memory.frames)
    complete_here = last and tile + 1 < len(tiles) and program.levels[inner, WHOLE] == 1
    gone = _settle_into(tile, code, len(tiles), clock)
    release(clock.ports)
    wait_for_tokens(here, code, clock, state)
    hold_back(gone, clock.ports, clock.now)
    store(move, complete_here, last and program.levels[outer, WHOLE] == 1, program, memory)
    bits = state[MOVED] * memory.each[0, inner, OUTPUT if complete_here else PARTIAL]
    moves_bits(NEED, bits, READ, inner, program.levels, clock.ports)
    moves_bits(
        NEED, state[MOVED + 1] * memory.each[0, outer, PARTIAL], READ, outer, program.levels, clock.ports
    )
    bits = (
        state[MOVED + 2] * memory.each[0, outer, OUTPUT] + state[MOVED + 3] * memory.each[0, outer, PARTIAL]
    )
    moves_bits(NEED, bits, WRITE, outer, program.levels, clock.ports)
    carries_bits(NEED, bits, OUTPUT, outer, program.levels, clock.ports)
    leave(here, tile, clock.tokens[tile, MEANWHILE] == 1, code, clock)


@inner
def _settle_into(tile, code, tiles, clock):
    """Let the sums arrive first that are still on their way into a tile; give when they have."""
    gone = 0.0
    inner = tile + 1
    if inner < tiles:
        while clock.tokens[inner, 3] > 0:
            gone = max(gone, settle(inner, code, clock))
    return gone


run, hold = _functions()
