"""Story: what happened in a search, and the report that tells it."""

from collections.abc import Sequence
from dataclasses import dataclass

from tersor.network import Network
from tersor.plan import Plan
from tersor.scheduler.contract import Contract
from tersor.scheduler.figures import limits_of, modelled
from tersor.scheduler.front import front
from tersor.scheduler.problem import Policy, Problem
from tersor.scheduler.search import closest
from tersor.scheduler.space import Space
from tersor.scheduler.trial import Trial
from tersor.search.finalists import Finalist
from tersor.search.front import DropModel
from tersor.search.losses import Losses
from tersor.search.plans import Origin
from tersor.search.result import Searched
from tersor.search.trials import Trials
from tersor.search_report import (
    Certificate,
    Evaluation,
    RatedPlan,
    SearchCell,
    SearchedLayer,
    SearchReport,
    Spent,
)

FRONT = 12  # plans


@dataclass(frozen=True)
class Story:
    """The problem of a search, the policies that were tried (the first is the baseline), and the spaces."""

    network: Network
    origin: Origin
    contract: Contract
    problem: Problem
    trials: Trials
    tried: tuple[Trial, ...]
    losses: Losses
    spaces: dict[str, Space]

    @property
    def baseline(self) -> Trial:
        """Uniform int8."""
        return self.tried[0]
