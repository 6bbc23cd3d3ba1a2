"""Search: the mappings of a space that are evaluated, all of them or some; the best are kept."""

from dataclasses import dataclass, field
from functools import cached_property
from itertools import product

import numpy as np

from tersor.mapping import Mapping
from tersor.scheme import Scheme
from tersor.targets.accelerator.bits import density_of, element_bits
from tersor.targets.accelerator.density import Densities
from tersor.targets.accelerator.legality import fits, least_bytes
from tersor.targets.accelerator.mapper.choices import Choices, Digits
from tersor.targets.accelerator.mapper.frame import count_of
from tersor.targets.accelerator.mapper.front import Frame, Front, Point
from tersor.targets.accelerator.mapper.space import Space
from tersor.targets.accelerator.model import evaluate, scheduled
from tersor.targets.accelerator.nest import Nest, Sizes
from tersor.targets.accelerator.schedule.schedule import Schedule
from tersor.targets.accelerator.tiles import Array

CHUNK = 2048  # mappings evaluated at once: their arrays stay in a core's cache
FEW = 1000  # evaluations that take as long as beginning with a frame


@dataclass
class Search:
    """The search of one space; `evaluated` counts mappings, those that do not fit among them."""

    space: Space
    choices: Choices
    scheme: Scheme
    densities: Densities
    output_bits: int | None = None
    front: Front = field(default_factory=Front)
    evaluated: int = 0

    @cached_property
    def _bits(self) -> Array:
        layer, hardware = self.space.layer, self.space.hardware
        densities = density_of(self.scheme, self.densities)
        return element_bits(layer, self.scheme, hardware, densities, self.output_bits)

    def enumerate(self) -> None:
        """Evaluate every mapping of the space."""
        for start in range(0, self.choices.count, CHUNK):
            digits = self.choices.numbered(np.arange(start, min(start + CHUNK, self.choices.count)))
            digits = digits[:, self.choices.within_axes(digits)]
            for frame in product(*self.space.levels):
                self.score(frame, digits)

    def score(self, frame: Frame, digits: Digits) -> tuple[Array, Array]:
        """Cycles and energy [mappings] of what is within the axes; infinite for tiles that do not fit."""
        nest, rows = self.space.nest(frame)
        sizes = self.choices.sizes(digits)[rows]
        cycles, energy = np.full((2, digits.shape[1]), np.inf)
        may_fit = np.flatnonzero(fits(nest, least_bytes(nest, sizes, self._bits)))
        for start in range(0, may_fit.size, CHUNK):
            part = may_fit[start : start + CHUNK]
            found = evaluate(nest, sizes[:, part], self.scheme, self.densities, self.output_bits)
            fit = fits(nest, found.needed)
            cycles[part] = np.where(fit, found.cycles, np.inf)
            energy[part] = np.where(fit, found.energy, np.inf)
        self.evaluated += digits.shape[1]
        legal = np.isfinite(cycles)
        self.front.add(frame, digits[:, legal], cycles[legal], energy[legal])
        return cycles, energy

    def mapping(self, point: Point) -> tuple[Nest, Sizes]:
        """The nest of a point and its sizes [loops, 1]."""
        nest, rows = self.space.nest(point.frame)
        return nest, self.choices.sizes(point.digits[:, None])[rows]

    def placed(self, mapping: Mapping) -> tuple[Frame, Digits] | None:
        """The frame and the digits [dims, 1] of a mapping; None if it is not among the choices."""
        found = self.space.placed(mapping)
        digits = None if found is None else self.choices.digits(found[1])
        return None if found is None or digits is None else (found[0], digits)

    def schedule(self, point: Point) -> Schedule:
        """The cycles of a point from its transfers one by one."""
        nest, sizes = self.mapping(point)
        return scheduled(nest, sizes, self.scheme, self.densities, self.output_bits)


def work(space: Space) -> int:
    """Evaluations that all of the space takes, the time for its frames counted as such."""
    return count_of(space.levels) * (space.size_count + FEW)
