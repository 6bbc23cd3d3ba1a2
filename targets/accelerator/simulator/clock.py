"""Clock: when transfers and steps end, in program order, from what each port of each memory has to do.

A port has a ledger: `busy`, the cycles that it is known to work, and `until`, up to when it is booked. A
transfer is released when its place is free and what it fetches is there. Idle time of its ports between then
and now did the work already, as far as it goes; what is left is booked behind all that came before. So what
is needed first is served first, no port rests while something waits, and an instruction takes constant time.

Sums that leave a memory with two places do so meanwhile: they are settled when their place is needed.
"""

from tersor.targets.accelerator.simulator.jit import inner
from tersor.targets.accelerator.simulator.tables import (
    BUSY,
    DEADLOCK,
    FAILED,
    FREE,
    FREE_SIGNALS,
    FREE_WAITS,
    FULL,
    FULL_SIGNALS,
    FULL_WAITS,
    GROUP,
    IDLE,
    KEPT_IDLE,
    KEPT_NEED,
    LEAVING,
    MOST_TOKENS,
    NEED,
    NOTED,
    NOW,
    PASS,
    PENDING_FILL,
    RELEASED,
    SPEED,
    UNTIL,
    WATCHED,
)


@inner
def snapshot(ports, now, idle):
    """Note how long each port has been idle up to now, or to where it is booked."""
    for port in range(ports.shape[1]):
        idle[port + 1] = max(now[NOW], ports[UNTIL, port]) - ports[BUSY, port]


@inner
def release(ports, now):
    """Begin a transfer: nothing is waited for, and nothing moves."""
    now[RELEASED] = 0.0
    for port in range(ports.shape[1]):
        ports[IDLE, port] = 0.0
        ports[NEED, port] = 0.0


@inner
def wait(event, ports, now):
    """Hold the transfer at hand back until an event."""
    now[RELEASED] = max(now[RELEASED], event[0])
    for port in range(ports.shape[1]):
        ports[IDLE, port] = max(ports[IDLE, port], event[port + 1])


@inner
def moves_bits(kind, bits, what, level, levels, ports):
    """Add bits that one memory of a level reads or writes to what is needed (NEED, or GROUP of steps)."""
    if bits > 0:
        port = levels[level, what]
        ports[kind, port] += bits / ports[SPEED, 2 * level + what]


@inner
def transfer(ports, now):
    """Book the transfer at hand; give when it ends."""
    released = now[RELEASED]
    longest, horizon = 0.0, now[NOW]
    for port in range(ports.shape[1]):
        if ports[NEED, port] > 0:
            longest = max(longest, ports[NEED, port])
            horizon = max(horizon, ports[UNTIL, port])
    if longest == 0.0:
        return released
    done = max(0.0, horizon - released)
    for port in range(ports.shape[1]):
        if ports[NEED, port] > 0:
            idle = max(now[NOW], ports[UNTIL, port]) - ports[BUSY, port] - ports[IDLE, port]
            done = min(done, max(0.0, idle))
            ports[BUSY, port] += ports[NEED, port]
    if done >= longest:
        return max(min(now[NOW], horizon), released + longest)
    end = max(horizon, released) + longest - done
    for port in range(ports.shape[1]):
        if ports[NEED, port] > 0:
            ports[UNTIL, port] = max(ports[UNTIL, port], end)
    return end


@inner
def give_full(instruction, end, code, clock):
    """Say that tiles are there."""
    for i in range(MOST_TOKENS):
        tile = code[instruction, FULL_SIGNALS + i]
        if tile < 0:
            break
        event = clock.times[tile, FULL]
        event[0] = end
        snapshot(clock.ports, clock.now, event)


@inner
def give_free(instruction, end, code, clock):
    """Say that places for tiles are free."""
    for i in range(MOST_TOKENS):
        tile = code[instruction, FREE_SIGNALS + i]
        if tile < 0:
            break
        turn = (clock.tokens[tile, 0] + clock.tokens[tile, 1]) % 2
        clock.tokens[tile, 1] += 1
        event = clock.times[tile, FREE + turn]
        event[0] = end
        snapshot(clock.ports, clock.now, event)


@inner
def wait_for_tokens(instruction, code, clock, state):
    """Hold the transfer at hand back for the tokens of its instruction."""
    for i in range(MOST_TOKENS):
        tile = code[instruction, FREE_WAITS + i]
        if tile < 0:
            break
        if clock.tokens[tile, 1] == 0:
            settle(tile, code, clock)
        if clock.tokens[tile, 1] == 0:
            state[FAILED] = DEADLOCK
            return
        turn = clock.tokens[tile, 0]
        wait(clock.times[tile, FREE + turn], clock.ports, clock.now)
        clock.tokens[tile, 0] = 1 - turn
        clock.tokens[tile, 1] -= 1
    for i in range(MOST_TOKENS):
        tile = code[instruction, FULL_WAITS + i]
        if tile < 0:
            break
        wait(clock.times[tile, FULL], clock.ports, clock.now)


@inner
def leave(instruction, tile, meanwhile, code, clock):
    """Let the sums of a tile go: now, or `meanwhile` if there is a second place for the next ones."""
    turn = (clock.tokens[tile, 2] + clock.tokens[tile, 3]) % 2
    clock.tokens[tile, 3] += 1
    clock.tokens[tile, 4 + turn] = instruction
    event = clock.times[tile, LEAVING + turn]
    event[0] = max(clock.now[NOW], clock.now[RELEASED])
    snapshot(clock.ports, clock.now, event)
    for port in range(clock.ports.shape[1]):
        clock.needs[tile, turn, port] = clock.ports[NEED, port]
    if not meanwhile:
        settle(tile, code, clock)


@inner
def settle(tile, code, clock):
    """Book the sums of a tile that are the first to leave, if any are; give when they are gone."""
    if clock.tokens[tile, 3] == 0:
        return 0.0
    turn = clock.tokens[tile, 2]
    clock.tokens[tile, 2] = 1 - turn
    clock.tokens[tile, 3] -= 1
    ports, now, event = clock.ports, clock.now, clock.times[tile, LEAVING + turn]
    begun = now[RELEASED]
    for port in range(ports.shape[1]):
        ports[KEPT_IDLE, port], ports[KEPT_NEED, port] = ports[IDLE, port], ports[NEED, port]
    release(ports, now)
    wait(event, ports, now)
    for port in range(ports.shape[1]):
        ports[NEED, port] = clock.needs[tile, turn, port]
    end = transfer(ports, now)
    note(tile, 1.0, event[0], end, clock)
    give_free(clock.tokens[tile, 4 + turn], end, code, clock)
    now[RELEASED] = begun
    for port in range(ports.shape[1]):
        ports[IDLE, port], ports[NEED, port] = ports[KEPT_IDLE, port], ports[KEPT_NEED, port]
    return end


@inner
def note(tile, kind, begin, end, clock):
    """Keep an event of a tile for the timeline, while there is room; kinds are as in `Clock.events`."""
    if clock.tokens[tile, WATCHED] > 0:
        event = clock.events[int(clock.now[NOTED])]
        event[0], event[1], event[2], event[3] = tile, kind, begin, end
        clock.now[NOTED] += 1
        clock.tokens[tile, WATCHED] -= 1


@inner
def begin_step(instruction, code, clock, state):
    """Wait for the tiles that a step needs, and for the pass that it begins."""
    now = clock.now
    for i in range(MOST_TOKENS):
        tile = code[instruction, FULL_WAITS + i]
        if tile < 0:
            break
        there = clock.times[tile, FULL, 0]
        if there > now[NOW]:
            clock.stalls[tile] += there - now[NOW]
            note(tile, 2.0, now[NOW], there, clock)
            now[NOW] = there
    if state[PENDING_FILL]:
        state[PENDING_FILL] = 0
        now[NOW] += now[PASS]
        clock.stalls[len(clock.times)] += now[PASS]


@inner
def end_steps(cycles, clock):
    """Let products take their cycles, or those of the ports that the units used if they are more."""
    slowest, longest = -1, cycles
    ports, now = clock.ports, clock.now
    for port in range(ports.shape[1]):
        need = ports[GROUP, port]
        if need > 0:
            ports[GROUP, port] = 0.0
            ports[BUSY, port] += need
            if ports[UNTIL, port] > now[NOW]:
                ports[UNTIL, port] += need
            if need > longest:
                slowest, longest = port, need
    if slowest >= 0:
        clock.stalls[len(clock.times) + 2 + slowest] += longest - cycles
    now[NOW] += longest
