"""Clock: when transfers and steps end, in program order, from what each port of each memory has to do.

A port serves the units first, and transfers in the rest of its time. So its time is told in cycles that the
units have left it: `now - UNITS`. Up to DONE transfers have taken them, all but IDLE of them. An event is,
for each port, a number of such cycles, and how many of them were idle; it has happened when all have passed.

A transfer is released by events, its place being free and what it fetches being there. It takes the first
cycles behind that which are idle, whether they have passed or not. So those come first that the program has
first, as they are needed first; others were on their way since they were released, as far as the ports had
time. Of the idle cycles only the number is known, not which they were: they are taken to lie evenly between
the release and DONE. So an instruction takes constant time.

Sums that leave a memory with two places do so meanwhile: they are settled when their place is needed.
"""

from tersor.targets.accelerator.simulator.jit import inner
from tersor.targets.accelerator.simulator.tables import (
    BUS,
    DEADLOCK,
    DONE,
    FAILED,
    FREE,
    FREE_SIGNALS,
    FREE_WAITS,
    FULL,
    FULL_SIGNALS,
    FULL_WAITS,
    GROUP,
    IDLE,
    KEPT_NEED,
    KEPT_RELEASE,
    LEAVING,
    MOST_TOKENS,
    NEED,
    NOTED,
    NOW,
    PASS,
    PENDING_FILL,
    RELEASE,
    SPEED,
    UNITS,
    WATCHED,
)

NOISE = 1e-6  # cycles: less than that after the present is rounding, of which nothing is held back


@inner
def ahead(event, ports, now):
    """Cycles until an event [ports], if the units wait for it; negative if it has happened."""
    longest = event[0] - now[NOW] + ports[UNITS, 0]
    for port in range(1, ports.shape[1]):
        longest = max(longest, event[port] - now[NOW] + ports[UNITS, port])
    return longest


@inner
def happen_now(event, ports, now):
    """Let an event be the present."""
    for port in range(ports.shape[1]):
        event[0, port] = now[NOW] - ports[UNITS, port]
        event[1, port] = _idle_until(event[0, port], port, ports)


@inner
def _idle_until(at, port, ports):
    """Idle cycles of a port up to the present or a time in the future."""
    return ports[IDLE, port] + max(0.0, at - ports[DONE, port])


@inner
def release(ports):
    """Begin a transfer: nothing is waited for, and nothing moves."""
    for port in range(ports.shape[1]):
        ports[RELEASE, port] = 0.0
        ports[RELEASE + 1, port] = 0.0
        ports[NEED, port] = 0.0


@inner
def wait(event, ports, now):
    """Hold the transfer at hand back until an event."""
    later = ahead(event[0], ports, now)
    for port in range(ports.shape[1]):
        ports[RELEASE, port] = max(ports[RELEASE, port], event[0, port])
        ports[RELEASE + 1, port] = max(ports[RELEASE + 1, port], event[1, port])
    if later > NOISE:
        hold_back(later, ports, now)


@inner
def hold_back(cycles, ports, now):
    """Hold the transfer at hand back for so many cycles from now."""
    for port in range(ports.shape[1]):
        at = now[NOW] - ports[UNITS, port] + cycles
        ports[RELEASE, port] = max(ports[RELEASE, port], at)
        ports[RELEASE + 1, port] = max(ports[RELEASE + 1, port], _idle_until(at, port, ports))


@inner
def moves_bits(kind, bits, what, level, levels, ports):
    """Add bits that one memory of a level reads or writes to what is needed (NEED, or GROUP of steps)."""
    if bits > 0:
        port = levels[level, what]
        ports[kind, port] += bits / ports[SPEED, 2 * level + what]


@inner
def carries_bits(kind, bits, stream, level, levels, ports):
    """Add bits of a stream that pass between a memory and what lies inside, if its bus has a limit."""
    port = levels[level, BUS + stream]
    if port >= 0 and bits > 0:
        ports[kind, port] += bits / ports[SPEED, port]


@inner
def transfer(clock):
    """Book the transfer at hand. When it ends is then what is its release; give the cycles that it takes."""
    longest = 0.0
    ports = clock.ports
    for port in range(ports.shape[1]):
        need = ports[NEED, port]
        if need == 0:
            continue
        longest = max(longest, need)
        begin, done = ports[RELEASE, port], ports[DONE, port]
        if begin >= done:
            ports[IDLE, port] += begin - done
            ports[DONE, port] = ports[RELEASE, port] = begin + need
            _take(need, ports[IDLE, port], port, clock)
            continue
        idle = ports[IDLE, port] - ports[RELEASE + 1, port]
        taken = min(need, max(0.0, idle))
        ports[IDLE, port] -= taken
        _take(need, ports[RELEASE + 1, port], port, clock)
        if taken < need:
            ports[DONE, port] = ports[RELEASE, port] = done + need - taken
        else:
            ports[RELEASE, port] += (done - begin) * taken / idle
    return longest


@inner
def _take(cycles, behind, port, clock):
    """Let the first idle cycles behind an event be idle no longer, for all events behind them.

    Those that have yet to pass are among them, and events in the future.
    """
    for tile in range(len(clock.times)):
        for event in range(clock.times.shape[1]):
            more = clock.times[tile, event, 1, port] - behind
            if more > 0:
                clock.times[tile, event, 1, port] -= min(cycles, more)
    more = clock.ports[KEPT_RELEASE + 1, port] - behind
    if more > 0:
        clock.ports[KEPT_RELEASE + 1, port] -= min(cycles, more)


@inner
def _end(event, ports):
    """Let an event be the end of the transfer at hand."""
    for port in range(ports.shape[1]):
        event[0, port], event[1, port] = ports[RELEASE, port], ports[RELEASE + 1, port]


@inner
def give_full(instruction, code, clock):
    """Say that tiles are there when the transfer at hand has ended."""
    for i in range(MOST_TOKENS):
        tile = code[instruction, FULL_SIGNALS + i]
        if tile < 0:
            break
        _end(clock.times[tile, FULL], clock.ports)


@inner
def give_free(instruction, present, code, clock):
    """Say that places are free, at `present` or when the transfer at hand has ended."""
    for i in range(MOST_TOKENS):
        tile = code[instruction, FREE_SIGNALS + i]
        if tile < 0:
            break
        turn = (clock.tokens[tile, 0] + clock.tokens[tile, 1]) % 2
        clock.tokens[tile, 1] += 1
        if present:
            happen_now(clock.times[tile, FREE + turn], clock.ports, clock.now)
        else:
            _end(clock.times[tile, FREE + turn], clock.ports)


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
    happen_now(event, clock.ports, clock.now)
    for row in range(2):
        for port in range(clock.ports.shape[1]):
            event[row, port] = max(event[row, port], clock.ports[RELEASE + row, port])
    for port in range(clock.ports.shape[1]):
        clock.needs[tile, turn, port] = clock.ports[NEED, port]
    if not meanwhile:
        settle(tile, code, clock)


@inner
def settle(tile, code, clock):
    """Book the sums of a tile that are the first to leave, if any are; give when, in cycles from now."""
    if clock.tokens[tile, 3] == 0:
        return 0.0
    turn = clock.tokens[tile, 2]
    clock.tokens[tile, 2] = 1 - turn
    clock.tokens[tile, 3] -= 1
    ports = clock.ports
    for port in range(ports.shape[1]):
        ports[KEPT_NEED, port] = ports[NEED, port]
        for row in range(2):
            ports[KEPT_RELEASE + row, port] = ports[RELEASE + row, port]
            ports[RELEASE + row, port] = clock.times[tile, LEAVING + turn, row, port]
        ports[NEED, port] = clock.needs[tile, turn, port]
    begin = ahead(ports[RELEASE], ports, clock.now)
    cycles = transfer(clock)
    end = ahead(ports[RELEASE], ports, clock.now)
    note(tile, 1.0, min(begin, end - cycles), end, clock)
    give_free(clock.tokens[tile, 4 + turn], False, code, clock)
    for port in range(ports.shape[1]):
        ports[NEED, port] = ports[KEPT_NEED, port]
        for row in range(2):
            ports[RELEASE + row, port] = ports[KEPT_RELEASE + row, port]
    return end


@inner
def note(tile, kind, begin, end, clock):
    """Keep an event of a tile for the timeline, while there is room; kinds are as in `Clock.events`.

    It begins and ends so many cycles from now.
    """
    if clock.tokens[tile, WATCHED] > 0:
        event = clock.events[int(clock.now[NOTED])]
        event[0], event[1] = tile, kind
        event[2], event[3] = max(0.0, clock.now[NOW] + begin), max(0.0, clock.now[NOW] + end)
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
        waiting = ahead(clock.times[tile, FULL, 0], clock.ports, now)
        if waiting > 0:
            clock.stalls[tile] += waiting
            note(tile, 2.0, 0.0, waiting, clock)
            now[NOW] += waiting
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
            ports[UNITS, port] += need
            if need > longest:
                slowest, longest = port, need
    if slowest >= 0:
        clock.stalls[len(clock.times) + 2 + slowest] += longest - cycles
    now[NOW] += longest
