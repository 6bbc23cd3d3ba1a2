"""Trials: policies that a strategy proposes, measured one after the other within the budget."""

from collections.abc import Callable, Sequence
from math import inf

from tersor.autoscheduler.budget import Budget
from tersor.autoscheduler.front import FRONT
from tersor.autoscheduler.machine import Rated
from tersor.autoscheduler.page.amounts import amount
from tersor.autoscheduler.plans import key_of
from tersor.compiler import Progress
from tersor.scheduler.contract import Contract, quantity_of
from tersor.scheduler.journal import Journal
from tersor.scheduler.problem import Policy, Problem
from tersor.scheduler.trial import Evaluator, Measured, Strategy, Trial


class Trials:
    """Measures policies with one evaluator; the same schemes are measured once."""

    def __init__(
        self, problem: Problem, evaluator: Evaluator, journal: Journal, rated: Callable[[Policy], Rated]
    ) -> None:
        self._problem, self._evaluator, self._journal = problem, evaluator, journal
        self.rated = rated  # a policy as it runs, without what the problem's sums leave out

    def measure(self, policy: Policy) -> Trial:
        """Measure one policy."""
        schemes = self._problem.schemes(policy)
        found = self._journal.remember(
            "trial", key_of(schemes), lambda: _plain(self._evaluator.evaluate(schemes))
        )
        return Trial(policy, self.rated(policy).cost, Measured(**found))

    def seconds(self, trial: Trial) -> float:
        """How long measuring it took."""
        return self._journal.seconds("trial", key_of(self._problem.schemes(trial.policy)))

    def run(
        self,
        strategy: Strategy,
        contract: Contract,
        first: Sequence[Policy],
        most: int,
        budget: Budget,
        reserve: float,
        run: str,
        progress: Progress,
    ) -> tuple[Trial, ...]:
        """Try `first` and what the strategy proposes: at most `most`, and until only `reserve` s are left.

        Beside these there is to be time to find as many plans as the front has, as long as the longest took.
        A run that the journal saw to its end stops where that one did; `run` names it there.
        """
        trials: list[Trial] = []
        end = self._journal.known("end of trials", run)
        finding = 0.0
        while len(trials) < (most if end is None else end):
            progress(_shown(trials, contract, budget), len(trials), most)
            longest = max((self.seconds(each) for each in trials), default=0.0)
            if trials and end is None and not budget.has(reserve + longest + (1 + FRONT) * finding):
                break
            before = budget.spent
            if len(trials) < len(first):
                policy = first[len(trials)]
            else:
                policy = strategy.propose(self._problem, contract, trials)
            if policy is None:
                break
            trials.append(self.measure(policy))
            finding = max(finding, budget.spent - before - self.seconds(trials[-1]))
            self._journal.write("clock", run, budget.spent)
        self._journal.write("end of trials", run, len(trials))
        return tuple(trials)


def best_first(trials: Sequence[Trial], contract: Contract) -> list[Trial]:
    """Those that keep the contract by what they take, the least first; then the others, the closest first."""

    def order(trial: Trial) -> tuple[float, float]:
        broken = contract.broken(trial.cost, trial.measured.drop)
        return max(broken.values(), default=0.0), taken(trial, contract)

    return sorted(trials, key=order)


def taken(trial: Trial, contract: Contract) -> float:
    """What a trial takes of the quantity that is to be the least."""
    return quantity_of(trial.cost, trial.measured.drop, contract.minimize)


def _shown(trials: Sequence[Trial], contract: Contract, budget: Budget) -> str:
    """Say how far the search is: the best plan so far, how many none of the others beats, the time left."""
    said = ["trying plans"]
    kept = [taken(trial, contract) for trial in trials if trial.keeps(contract)]
    if kept:
        said.append(f"best {contract.minimize} {amount(contract.minimize, min(kept))}")
    if trials:
        said.append(f"front of {_undominated(trials, contract)}")
    if budget.left < inf:
        said.append(f"{max(0, budget.left):.0f} s left")
    return ", ".join(said)


def _undominated(trials: Sequence[Trial], contract: Contract) -> int:
    """How many trials none of the others beats both in what they take and in what they lose."""
    points = [(taken(trial, contract), trial.measured.drop) for trial in trials]
    return sum(
        not any(other != point and other[0] <= point[0] and other[1] <= point[1] for other in points)
        for point in points
    )


def _plain(measured: Measured) -> dict[str, float]:
    return {"drop": measured.drop, "loss": measured.loss, "samples": measured.samples}
