"""Search report: what a search was asked for, what it found, what it tried, and what it refused and why.

Latencies are in s, energies in pJ, sizes in bytes, drops in points of accuracy (or of agreement with fp32,
where there are no labels), losses as noise power over signal power at the worst output.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import ConfigDict

from tersor.cost import Cost
from tersor.document import read_json, write_json
from tersor.fallback import Fallback
from tersor.plan import SchemeText
from tersor.scheduler.contract import Contract, Quantity, quantity_of

# How a drop is known: from the layers' losses, by the evaluation module, or by the integer library itself.
Known = Literal["predicted", "evaluated", "final"]


@dataclass(frozen=True)
class RatedPlan:
    """A whole plan, and what it takes. Its name is that of its file among the plans of the front."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    cost: Cost
    drop: float
    known: Known = "predicted"
    baseline: bool = False  # what was to be beaten, as uniform int8

    def __post_init__(self) -> None:
        _check_finite(f"the drop of {self.name!r}", self.drop)

    def of(self, quantity: Quantity) -> float:
        """What it takes of a quantity."""
        return quantity_of(self.cost, self.drop, quantity)


@dataclass(frozen=True)
class SearchedLayer:
    """A layer of the chosen plan: its scheme, its own cost, and its part of the additive loss.

    `baseline` is what the layer takes in the first of the baselines; `tied_to` names the layer whose weight
    it shares; `mapping` are its loops, in several lines.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    scheme: SchemeText
    cost: Cost
    baseline: Cost | None = None
    loss: float | None = None
    tied_to: str = ""
    mapping: str = ""
    reason: str = ""

    def __post_init__(self) -> None:
        _check_loss(self.name, self.loss)


@dataclass(frozen=True)
class SearchCell:
    """One scheme of one layer: the loss with this layer alone compressed, or why it cannot have the scheme.

    `cost` is that of its best mapping.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    layer: str
    scheme: SchemeText
    loss: float | None = None
    cost: Cost | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        if (self.loss is None) != bool(self.reason):
            raise ValueError(f"{self.layer!r} under {self.scheme} needs either a loss or a reason")
        _check_loss(self.layer, self.loss)


@dataclass(frozen=True)
class Evaluation:
    """One plan tried on real data: what took `seconds` and ended `at` s after the search had begun.

    `predicted` is the additive loss, `loss` the measured one; `strategy` proposed it.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    strategy: str
    at: float
    seconds: float
    cost: Cost
    drop: float
    predicted: float
    loss: float
    samples: int

    def __post_init__(self) -> None:
        _check_finite(f"the drop of {self.name!r}", self.drop)
        for loss in (self.predicted, self.loss):
            _check_loss(self.name, loss)
        if min(self.seconds, self.at) < 0:
            raise ValueError(f"times are not negative, got {self.seconds} s ended at {self.at} s")


@dataclass(frozen=True)
class Ablation:
    """The best plan of a search that may choose less than the whole: mappings only, uniform, sequential."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    cost: Cost
    drop: float
    evaluations: int = 0

    def __post_init__(self) -> None:
        _check_finite(f"the drop of {self.name!r}", self.drop)


@dataclass(frozen=True)
class Transfer:
    """A plan that was searched for one machine, mapped to another (or the same).

    `widened` layers have a scheme that this machine lacks, and run in the next wider one.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    searched_for: str
    run_on: str
    cost: Cost
    drop: float
    widened: int = 0

    def __post_init__(self) -> None:
        _check_finite(f"the drop of the plan for {self.searched_for!r}", self.drop)


@dataclass(frozen=True)
class Certificate:
    """How far the chosen policy is from the best one on the additive model, of `policies` there are.

    `value` is what it takes of `quantity`, `bound` what every policy within the bounds takes at least.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    quantity: Quantity
    value: float
    bound: float
    policies: int

    def __post_init__(self) -> None:
        if not 0 <= self.bound <= self.value or not isfinite(self.value):
            raise ValueError(f"a bound is at most the value, got {self.bound:g} and {self.value:g}")

    @property
    def gap(self) -> float:
        """The part of `value` that a better policy could save at most; 0 is a proof that there is none."""
        return (self.value - self.bound) / self.value if self.value else 0.0


@dataclass(frozen=True)
class SpotCheck:
    """What the layers of the chosen plan took when they were simulated on one sample, in s and pJ.

    `others` are the seconds of what the machine runs between layers, which no plan changes.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    seconds: float
    energy: float
    others: float = 0.0


@dataclass(frozen=True)
class SearchedTensor:
    """A tensor of `size` bytes between programs of an accelerator.

    It stays on the chip, so that `saved` bytes or more are not moved outside, or has a `reason` not to.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    producer: str
    readers: tuple[str, ...]
    size: int
    saved: int
    reason: str = ""

    def __post_init__(self) -> None:
        if bool(self.saved) == bool(self.reason):
            raise ValueError(f"the tensor of {self.producer!r} needs either what it saves or a reason")


@dataclass(frozen=True)
class Spent:
    """A part of the search's time."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    phase: str
    seconds: float

    def __post_init__(self) -> None:
        if not (self.seconds >= 0 and isfinite(self.seconds)):
            raise ValueError(f"{self.phase} took a time of 0 s or more, got {self.seconds}")


@dataclass(frozen=True)
class BoundUse:
    """A bound of the contract beside what the chosen plan takes."""

    quantity: Quantity
    limit: float
    taken: float
    excess: float | None  # how many times the limit, of a bound that is broken

    @property
    def share(self) -> float:
        """The part of the limit that is taken; of a limit of 0, whether anything is."""
        return self.taken / self.limit if self.limit else float(self.taken > 0)


@dataclass(frozen=True)
class SearchReport:
    """What a search writes beside the plan and the library.

    `plans` are those of the front, the baselines and the chosen one, each once; `cells` are layer by layer in
    the network's order; `tensors` are those between programs of an accelerator; `evaluations` and `spent` are
    in the order of time; `listing` is the chosen plan as text; `unreachable` says which bound no plan can
    keep, and how much is the least. What does not apply is empty.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    model: str
    hardware: str
    strategy: str
    seed: int
    contract: Contract
    samples: int
    has_labels: bool
    chosen: str
    plans: tuple[RatedPlan, ...]
    layers: tuple[SearchedLayer, ...]
    cells: tuple[SearchCell, ...] = ()
    fallbacks: tuple[Fallback, ...] = ()
    certificate: Certificate | None = None
    evaluations: tuple[Evaluation, ...] = ()
    spent: tuple[Spent, ...] = ()
    ablations: tuple[Ablation, ...] = ()
    transfers: tuple[Transfer, ...] = ()
    listing: str = ""
    spot_check: SpotCheck | None = None
    tensors: tuple[SearchedTensor, ...] = ()
    unreachable: str = ""

    def __post_init__(self) -> None:
        _check_different("plans", (plan.name for plan in self.plans))
        _check_different("layers", (layer.name for layer in self.layers))
        _check_different("cells", ((cell.layer, str(cell.scheme)) for cell in self.cells))
        _check_different("transfers", ((each.searched_for, each.run_on) for each in self.transfers))
        if self.chosen not in {plan.name for plan in self.plans}:
            raise ValueError(f"the chosen plan {self.chosen!r} is not among the plans")

    @property
    def choice(self) -> RatedPlan:
        """The chosen plan."""
        return next(plan for plan in self.plans if plan.name == self.chosen)

    @property
    def baseline(self) -> RatedPlan | None:
        """The first of the baselines, with which all is compared."""
        return next((plan for plan in self.plans if plan.baseline), None)

    @property
    def bounds(self) -> tuple[BoundUse, ...]:
        """The contract's bounds beside what the chosen plan takes."""
        choice = self.choice
        broken = self.contract.broken(choice.cost, choice.drop)
        return tuple(
            BoundUse(name, limit, choice.of(name), broken.get(name))
            for name, limit in self.contract.bounds().items()
        )

    @property
    def kept(self) -> bool:
        """Whether the chosen plan is within all bounds."""
        return not self.contract.broken(self.choice.cost, self.choice.drop)

    @property
    def binding(self) -> Quantity | None:
        """The bound that is broken most, else the one that is used up most; None without bounds."""
        bounds = self.bounds
        if not bounds:
            return None
        return max(bounds, key=lambda each: (each.excess or 0.0, each.share)).quantity

    @property
    def seconds(self) -> float:
        """The time of the whole search."""
        return sum(each.seconds for each in self.spent)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a report's JSON file. Raises UserError naming the file, the key and what is wrong."""
        return read_json(path, cls)

    def save(self, path: str | Path) -> None:
        """Write JSON; equal reports give equal bytes. Raises UserError if `path` cannot be written."""
        write_json(path, self, SearchReport)


def _check_finite(what: str, value: float) -> None:
    if not isfinite(value):
        raise ValueError(f"{what} must be a number of points, got {value}")


def _check_loss(name: str, loss: float | None) -> None:
    if loss is not None and not (loss >= 0 and isfinite(loss)):
        raise ValueError(f"a loss is a number of 0 or more, got {loss} of {name!r}")


def _check_different(what: str, names: Iterable[object]) -> None:
    known: set[object] = set()
    for name in names:
        if name in known:
            raise ValueError(f"{what} need different names, got {name!r} twice")
        known.add(name)
