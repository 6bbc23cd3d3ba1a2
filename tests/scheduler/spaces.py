"""Problems small enough to try every policy, and a network that does more than add up."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tersor.cost import Cost
from tersor.layer import Layer
from tersor.network import Network
from tersor.scheduler.figures import ADDITIVE, Figure, Limits, figure_of
from tersor.scheduler.problem import Choice, Policy, Problem
from tersor.scheduler.trial import Evaluator, Measured
from tersor.scheme import Scheme

SCHEMES = tuple(Scheme.parse(text) for text in ("int8", "w4a8", "w2a8", "int8+2:4"))


def space(seed: int, layers: int = 6, schemes: Sequence[Scheme] = SCHEMES, mappings: int = 3) -> Problem:
    """Groups of one layer, each scheme with 1 to `mappings` mappings that trade time for energy."""
    random = np.random.default_rng(seed)
    choices: dict[str, tuple[Choice, ...]] = {}
    for i in range(layers):
        seconds, energy, weights = 10 ** random.uniform([-5, 6, 3], [-3, 8, 5])
        loss = 10 ** random.uniform(-5, -3)
        row: list[Choice] = []
        for bits, scheme in zip((8, 4, 2, 6), schemes, strict=False):
            own = loss * (8 / bits) ** 3 * random.uniform(0.5, 2)
            for _ in range(random.integers(1, mappings + 1)):
                trade = random.uniform(0.7, 1.4)
                cost = Cost(
                    seconds=seconds * bits / 8 * trade * random.uniform(0.8, 1.2),
                    energy=energy * (bits / 8) ** 1.5 / trade * random.uniform(0.8, 1.2),
                    size=int(weights * bits / 8),
                )
                row.append(Choice(scheme, cost, own))
        choices[f"layer{i}"] = tuple(row)
    rest = Cost(seconds=1e-5, energy=1e5, size=1000)
    return Problem(choices, {name: (name,) for name in choices}, rest)


def network(problem: Problem, seed: int = 0) -> Network:
    """Layers for the groups of a problem, of different sizes."""
    random = np.random.default_rng(seed)
    sizes = (tuple(4 * int(n) for n in random.integers(1, 20, 3)) for _ in problem.choices)
    return Network(
        tuple(
            Layer(name, "matmul", N=n, K=k, C=c)
            for name, (n, k, c) in zip(problem.choices, sizes, strict=True)
        )
    )


def policies(problem: Problem) -> list[Policy]:
    names = list(problem.choices)
    return [dict(zip(names, picked, strict=True)) for picked in itertools.product(*problem.choices.values())]


@dataclass(frozen=True, eq=False)
class Everything:
    """The figures of all policies, by brute force: [policies], in the order of `policies`."""

    problem: Problem

    def figures(self, figure: Figure) -> np.ndarray:
        if figure == "edp":
            return self.figures("latency") * self.figures("energy")
        return self._sums[figure]

    @cached_property
    def _sums(self) -> dict[Figure, np.ndarray]:
        return {figure: self._summed(figure) for figure in ADDITIVE}

    def _summed(self, figure: Figure) -> np.ndarray:
        rest = figure_of(self.problem.rest, 0.0, figure)
        rows = [
            np.array([figure_of(each.cost, each.loss, figure) for each in row])
            for row in self.problem.choices.values()
        ]
        total = np.array([rest])
        for row in rows:
            total = (total[:, None] + row[None]).ravel()
        return total

    def drops(self, evaluator: Evaluator) -> np.ndarray:
        """What every policy of one mapping for each scheme is measured to lose, in the order of `figures`."""
        return np.array(
            [evaluator.evaluate(self.problem.schemes(each)).drop for each in policies(self.problem)]
        )

    def within(self, limits: Limits) -> np.ndarray:
        kept = np.ones(self.problem.size, bool)
        for figure, limit in limits.items():
            kept &= self.figures(figure) <= limit * (1 + 1e-12)
        return kept

    def best(self, figure: Figure, limits: Limits) -> float | None:
        kept = self.within(limits)
        return float(self.figures(figure)[kept].min()) if kept.any() else None


@dataclass(frozen=True, eq=False)
class Interacting:
    """An evaluator whose layers' losses do not add up: neighbours' add up to more, and all to less.

    The drop grows with the loss and steps with the samples, as accuracies do.
    """

    problem: Problem
    seed: int = 0
    samples: int = 1000

    def loss(self, layers: Sequence[str], scheme: Scheme) -> float:
        row = self.problem.choices[layers[0]]
        return next(each.loss for each in row if each.scheme == scheme)

    def evaluate(self, schemes: Mapping[str, Scheme]) -> Measured:
        names = sorted(schemes)
        random = np.random.default_rng(self.seed)
        worse = random.uniform(0.6, 1.8, len(names))
        losses = np.array([self.loss([name], schemes[name]) for name in names]) * worse
        loss = float(losses.sum() + 0.5 * np.sqrt(losses[1:] * losses[:-1]).sum())
        drop = round(150 * loss**0.8 / (1 + loss) * self.samples / 100) * 100 / self.samples
        return Measured(drop, loss, self.samples)
