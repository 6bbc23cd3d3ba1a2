"""Walk: over the loops of a mapped layer, of each as many iterations as it takes until they are all alike.

What a body does depends on where ports, tiles and places are when it begins, each relative to the present.
Once that is as at the beginning of an iteration before, all that follows repeats itself until the loop's last
iteration, and so takes as long. A body that was walked over from the same state is not walked over again.
What was before all that it waits for, or can still use idle cycles of, is the same as ever so long ago.
"""

from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from tersor.targets.accelerator.schedule.ledger import EVENTS, FULL, NOISE, Ledger, Ring
from tersor.targets.accelerator.schedule.moves import Moves, Spot
from tersor.targets.accelerator.tiles import Array

# How many bodies may have been walked over for so many iterations of a loop to be, before it is taken for
# steady, and for states to be different that differ by such a part of the innermost body's cycles.
CARE = ((4_000, 32, 2e-4), (12_000, 8, 5e-3), (inf, 3, 5e-2))

State = tuple[object, ...]


@dataclass(frozen=True)
class _Done:
    """What a body did: to times, idle cycles and events, and the events of its own tiles at its end."""

    now: float
    units: Array
    idle: Array  # [ports]
    outer: Array  # the events that count of tiles from outside
    inner: Array  # events of its own tiles, relative to the ports' times and idle cycles
    behind: Array  # how far transfers are ahead of the present [ports]
    rings: list[Ring]
    stalls: Array
    waiting: Array
    pending: bool


class Walk:
    """One walk over all loops, from the ledger's present on.

    `meanwhile` says of each tile whether its sums leave while others come; those of number `stationary` are
    shifted in, in `fill` cycles each.
    """

    def __init__(
        self, moves: Moves, ledger: Ledger, meanwhile: list[bool], stationary: int | None, fill: float
    ) -> None:
        self.moves, self.ledger = moves, ledger
        self._meanwhile, self._stationary, self._fill = meanwhile, stationary, fill
        self._pending = False
        self._bodies = [_Body(moves, place) for place in range(moves.innermost_place + 1)]
        self._known: dict[State, _Done] = {}
        self._rows: dict[tuple[object, ...], tuple[NDArray[np.intp], NDArray[np.intp]]] = {}
        whole = moves.steps(Spot(moves.left, again=True)).cycles
        self._unit = max(whole, NOISE)
        self._walked = 0

    def run(self, pending: bool) -> None:
        """Walk over everything; `pending` says whether the first pass has yet to be shifted in."""
        self._pending = pending
        self._body(0, Spot(self.moves.left))
        self.ledger.clear()

    def _body(self, place: int, spot: Spot) -> None:
        """Walk over what lies inside of `place` loops."""
        moves, ledger, body = self.moves, self.ledger, self._bodies[place]
        for number in body.loads:
            tile = moves.tiles[number]
            ledger.load(number, tile.outer, moves.load(number, spot))
            self._pending = self._pending or number == self._stationary
        if place < moves.innermost_place:
            for each, times in moves.inside(place, spot):
                self._repeat(place + 1, each, times)
        else:
            self._step(spot)
        for number in body.factors:
            ledger.give_back(number)
        for number in body.sums:
            tile, inner = moves.tiles[number], None if moves.tiles[number].innermost else number + 1
            ledger.store(number, tile.outer, inner, moves.store(number, spot), self._meanwhile[number])

    def _step(self, spot: Spot) -> None:
        for number, tile in enumerate(self.moves.tiles):
            if tile.innermost:
                self.ledger.need(number)
        if self._pending:
            self._pending = False
            self.ledger.pause(self._fill)
        steps = self.moves.steps(spot)
        self.ledger.step(steps.cycles, steps.used, steps.waiting)

    def _repeat(self, place: int, spot: Spot, times: int) -> None:
        """Walk `times` over a body of the same spot."""
        seen: dict[State, int] = {}
        marks: list[_Mark] = []
        made = 0
        while made < times:
            self.ledger.catch_up()
            state = self._state(place, spot)
            since = seen.get(state, made - 2 if made >= self._care[1] else None)
            marks.append(_Mark(self.ledger))
            if since is not None and times - made > 0:
                period = made - since
                jumps = (times - made) // period
                self._jump(place, marks[since], jumps)
                for _ in range(times - made - jumps * period):
                    self._known_body(place, spot, self._state(place, spot))
                return
            seen[state] = made
            self._known_body(place, spot, state)
            made += 1

    def _known_body(self, place: int, spot: Spot, state: State) -> None:
        done = self._known.get(state)
        body, ledger = self._bodies[place], self.ledger
        if done is None:
            self._walked += 1
            before = _Mark(ledger)
            self._body(place, spot)
            ledger.catch_up()
            base = ledger.present()
            _, outer = self._counting(place)
            self._known[state] = _Done(
                ledger.now - before.now,
                ledger.units - before.units,
                ledger.idle - before.idle,
                ledger.every_event[outer] - before.events.reshape(ledger.every_event.shape)[outer],
                ledger.events[body.inner] - base,
                ledger.done - ledger.base,
                [ledger.rings[number].copy() for number in body.inner],
                ledger.stalls - before.stalls,
                ledger.waiting - before.waiting,
                self._pending,
            )
            return
        ledger.now += done.now
        ledger.units += done.units
        ledger.stalls += done.stalls
        ledger.waiting += done.waiting
        ledger.every_event[self._counting(place)[1]] += done.outer
        base = ledger.base
        ledger.idle[body.ports] += done.idle[body.ports]
        ledger.done[body.ports] = (base + done.behind)[body.ports]
        ledger.events[body.inner] = done.inner + ledger.present()
        for number, ring in zip(body.inner, done.rings, strict=True):
            ledger.rings[number] = ring.copy()
        self._pending = done.pending
        ledger.catch_up()

    def _jump(self, place: int, mark: "_Mark", times: int) -> None:
        """Go on as since a mark, so many times."""
        ledger, body = self.ledger, self._bodies[place]
        before = ledger.present()
        ledger.now += times * (ledger.now - mark.now)
        ledger.units += times * (ledger.units - mark.units)
        ledger.stalls += times * (ledger.stalls - mark.stalls)
        ledger.waiting += times * (ledger.waiting - mark.waiting)
        ports = body.ports
        ledger.idle[ports] += times * (ledger.idle - mark.idle)[ports]
        ledger.done[ports] += (ledger.base - before[0])[ports]
        ledger.events[body.inner] += ledger.present() - before
        outer = ledger.events[body.outer, :, 1]
        ledger.events[body.outer, :, 1] = outer + times * (outer - mark.events[body.outer, :, 1])
        ledger.catch_up()

    @property
    def _care(self) -> tuple[float, int, float]:
        return next(each for each in CARE if self._walked < each[0])

    def _counting(self, place: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The events that count of a body's own tiles, without that of being full, and of those outside."""
        body, rings = self._bodies[place], self.ledger.rings
        key = (place, *(ring.turns for ring in rings))
        if key not in self._rows:
            inner = [number * EVENTS + row for number in body.inner for row in rings[number].rows()]
            outer = [number * EVENTS + row for number in body.outer for row in (FULL, *rings[number].rows())]
            self._rows[key] = np.array(inner, np.intp), np.array(outer, np.intp)
        return self._rows[key]

    def _state(self, place: int, spot: Spot) -> State:
        """What a body depends on."""
        ledger, body = self.ledger, self._bodies[place]
        present, base = ledger.present(), ledger.base
        rings = tuple(ledger.rings[number].state() for number in body.inner)
        inner, outer = self._counting(place)
        parts = [(ledger.done - base)[body.ports]]
        if inner.size:
            own = ledger.every_event[inner] - present
            own[:, 1, body.unused] = 0.0
            parts.append(own.reshape(-1))
            if outer.size:
                others = ledger.every_event[outer] - present
                others[:, 1, body.unused] = 0.0
                parts.append(np.maximum(others, own.min(axis=0)).reshape(-1))
        counts = tuple((ledger.rings[number].free, ledger.rings[number].leaving) for number in body.outer)
        numbers = np.rint(np.concatenate(parts) / (self._care[2] * self._unit)).astype(np.int64).tobytes()
        return place, spot, rings, counts, self._pending, numbers


class _Mark:
    """A moment."""

    __slots__ = ("events", "idle", "now", "stalls", "units", "waiting")

    def __init__(self, ledger: Ledger) -> None:
        self.now = ledger.now
        self.units, self.idle = ledger.units.copy(), ledger.idle.copy()
        self.stalls, self.waiting = ledger.stalls.copy(), ledger.waiting.copy()
        self.events = ledger.events.copy()


class _Body:
    """The instructions of a body itself, and the tiles and ports that it and those inside of it use."""

    def __init__(self, moves: Moves, place: int) -> None:
        tiles = list(enumerate(moves.tiles))
        here = sorted((each for each in tiles if each[1].place == place), key=lambda each: each[1].level)
        self.loads = [number for number, _ in here]
        self.factors = [number for number, tile in reversed(here) if tile.operand != "output"]
        self.sums = [number for number, tile in reversed(here) if tile.operand == "output"]
        self.inner = [number for number, tile in tiles if tile.place >= place]
        self.outer = [number for number, tile in tiles if tile.place < place]
        used = {port for number in self.inner for port in moves.used_by(moves.tiles[number])}
        used |= set(np.flatnonzero(moves.steps(Spot(moves.left, again=True)).used).tolist())
        self.ports = sorted(used)
        self.unused = [port for port in range(len(moves.ports.speed)) if port not in used]
