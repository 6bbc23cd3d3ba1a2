"""Ledger: what the ports of a machine have to do, and when tiles are there and their places free.

A port serves the units first and transfers in the rest of its time, so its time is told in cycles that the
units have left it: at the present it has had `now - units`. Up to `done` transfers have taken them, all but
`idle` of them. An event is, for each port, such a time and how many cycles were idle before it; it has
happened when the time has passed on all ports.

A transfer that events release takes the first idle cycles behind them, passed or not. So what the units need
first comes first, and what they need later has been on its way since its place was free, as far as ports had
nothing else to do.
"""

from collections.abc import Sequence

import numpy as np

from tersor.targets.accelerator.tiles import Array

Needs = tuple[tuple[int, float], ...]  # ports, and the cycles of each that a transfer takes
PLACES = 2  # of a tile, at most
EVENTS = 1 + 2 * PLACES  # of a tile: it is full; its places are free; the sums in them may leave
NOISE = 1e-6  # cycles: less than that after the present is rounding, of which nothing is held back
FULL, FREE, LEAVING = 0, 1, 1 + PLACES


class Ring:
    """Which events of a tile count: its free places, the first of them, and sums that have yet to leave."""

    __slots__ = ("first", "free", "last", "leaving", "needs")

    def __init__(self, places: int) -> None:
        self.first, self.free = 0, places
        self.last, self.leaving = 0, 0
        self.needs: list[Needs] = [()] * PLACES

    def copy(self) -> "Ring":
        """The same, to be changed apart."""
        other = Ring(self.free)
        other.first, other.last, other.leaving = self.first, self.last, self.leaving
        other.needs = self.needs.copy()
        return other

    def state(self) -> tuple[object, ...]:
        """What of it matters."""
        return self.free, *(self.needs[(self.last + i) % PLACES] for i in range(self.leaving))

    @property
    def turns(self) -> tuple[int, int, int, int]:
        """Which place is the first to be free, and of those to leave, and how many are."""
        return self.first, self.free, self.last, self.leaving

    def rows(self) -> list[int]:
        """The events that count, without that of being full."""
        free = [FREE + (self.first + i) % PLACES for i in range(self.free)]
        return free + [LEAVING + (self.last + i) % PLACES for i in range(self.leaving)]


class Ledger:
    """The time of a machine of `ports` ports with tiles that have so many `places`. Nothing was done yet.

    `stalls` are the cycles that units waited for each tile, and `waiting` those for the ports of `memories`.
    """

    def __init__(self, ports: int, places: Sequence[int], memories: int) -> None:
        self.now = 0.0
        self.units, self.done, self.idle = np.zeros(ports), np.zeros(ports), np.zeros(ports)
        self.events = np.zeros((len(places), EVENTS, 2, ports))
        self.rings = [Ring(each) for each in places]
        self.stalls, self.waiting = np.zeros(len(places)), np.zeros(memories)
        self._release = np.zeros((2, ports))

    @property
    def base(self) -> Array:
        """Cycles that each port has had for transfers."""
        return self.now - self.units

    @property
    def every_event(self) -> Array:
        """The events of all tiles, one tile's after the other's: [tiles * EVENTS, 2, ports]."""
        return self.events.reshape(-1, *self.events.shape[2:])

    def present(self) -> Array:
        """The present as an event."""
        found = np.empty_like(self._release)
        np.subtract(self.now, self.units, out=found[0])
        found[1] = self.idle
        return found

    def catch_up(self) -> None:
        """Let idle cycles up to the present have passed."""
        base = self.base
        self.idle += np.maximum(base - self.done, 0.0)
        np.maximum(self.done, base, out=self.done)

    def load(self, tile: int, parent: int | None, needs: Needs) -> None:
        """Fetch a tile, or begin one of sums, when there is a place for it and the tile of its parent."""
        self._begin()
        ring = self.rings[tile]
        if not ring.free:
            self.settle(tile)
        place = ring.first
        ring.first, ring.free = (place + 1) % PLACES, ring.free - 1
        self._wait(self.events[tile, FREE + place])
        if parent is not None:
            self._wait(self.events[parent, FULL])
        self._book(needs)
        self.events[tile, FULL] = self._release

    def give_back(self, tile: int) -> None:
        """Let the place of a tile be free from now on."""
        self.catch_up()
        self._free(tile, self.present())

    def store(self, tile: int, parent: int | None, inner: int | None, needs: Needs, meanwhile: bool) -> None:
        """Send sums on that steps have made, or that arrived from `inner` tiles.

        They leave at once, or `meanwhile` if there is another place for the next ones.
        """
        self._begin()
        gone = 0.0
        if inner is not None:
            while self.rings[inner].leaving:
                gone = max(gone, self.settle(inner))
        if parent is not None:
            self._wait(self.events[parent, FULL])
        self._hold_back(gone)
        self.catch_up()
        ring = self.rings[tile]
        place = (ring.last + ring.leaving) % PLACES
        ring.leaving += 1
        ring.needs[place] = needs
        self.events[tile, LEAVING + place] = np.maximum(self.present(), self._release)
        if not meanwhile:
            self.settle(tile)

    def settle(self, tile: int) -> float:
        """Let those sums of a tile leave that are the first to do so; give when they have, from now."""
        ring, kept = self.rings[tile], self._release.copy()
        place = ring.last
        ring.last, ring.leaving = (place + 1) % PLACES, ring.leaving - 1
        self._release[:] = self.events[tile, LEAVING + place]
        self._book(ring.needs[place])
        self._free(tile, self._release)
        end = self._ahead(self._release[0])
        self._release[:] = kept
        return end

    def need(self, tile: int) -> None:
        """Let the units wait until a tile is full."""
        self._stall(tile, self.events[tile, FULL])

    def clear(self) -> None:
        """Let all sums leave, and wait for that and for places that are being freed."""
        for tile in reversed(range(len(self.rings))):
            while self.rings[tile].leaving:
                self.settle(tile)
            for place in range(PLACES):
                self._stall(tile, self.events[tile, FREE + place])

    def step(self, cycles: float, used: Array, waiting: Array) -> None:
        """Let the units take so many cycles, ports so many for them, and note those waited for memories."""
        self.now += cycles
        self.units += used
        self.waiting += waiting

    def pause(self, cycles: float) -> None:
        """Let nothing but transfers go on."""
        self.now += cycles

    def _stall(self, tile: int, event: Array) -> None:
        waiting = self._ahead(event[0])
        if waiting > 0:
            self.stalls[tile] += waiting
            self.now += waiting

    def _begin(self) -> None:
        self.catch_up()
        self._release[:] = 0.0

    def _ahead(self, times: Array) -> float:
        """Cycles until an event, if the units wait for it; negative if it has happened."""
        return float((times - self.base).max())

    def _wait(self, event: Array) -> None:
        """Hold the transfer at hand back until an event."""
        np.maximum(self._release, event, out=self._release)
        later = self._ahead(event[0])
        if later > NOISE:
            self._hold_back(later)

    def _hold_back(self, cycles: float) -> None:
        if cycles > 0:
            at = self.base + cycles
            idle = self.idle + np.maximum(at - self.done, 0.0)
            np.maximum(self._release, np.stack([at, idle]), out=self._release)

    def _free(self, tile: int, event: Array) -> None:
        ring = self.rings[tile]
        self.events[tile, FREE + (ring.first + ring.free) % PLACES] = event
        ring.free += 1

    def _book(self, needs: Needs) -> None:
        """Take the cycles of the transfer at hand; when they end is then what is its release."""
        for port, need in needs:
            begin, done = float(self._release[0, port]), float(self.done[port])
            if begin >= done:
                self.idle[port] += begin - done
                self.done[port] = self._release[0, port] = begin + need
                self._take(need, float(self.idle[port]), port)
                continue
            behind = float(self._release[1, port])
            idle = float(self.idle[port]) - behind
            taken = min(need, max(0.0, idle))
            self.idle[port] -= taken
            self._take(need, behind, port)
            if taken < need:
                self.done[port] = self._release[0, port] = done + need - taken
            else:  # idle cycles are taken to lie evenly between the release and `done`
                self._release[0, port] += (done - begin) * taken / idle

    def _take(self, cycles: float, behind: float, port: int) -> None:
        """Let the first idle cycles behind an event be idle no longer, for all events behind them."""
        idle = self.events[:, :, 1, port]
        idle -= np.minimum(np.maximum(idle - behind, 0.0), cycles)
