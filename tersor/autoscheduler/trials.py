"""Trials: policies that a strategy proposes, measured one after the other within the budget."""

from collections.abc import Callable, Sequence

from tersor.autoscheduler.budget import Budget
from tersor.autoscheduler.plans import key_of
from tersor.compiler import Progress
from tersor.cost import Cost
from tersor.scheduler.contract import Contract, quantity_of
from tersor.scheduler.journal import Journal
from tersor.scheduler.problem import Policy, Problem
from tersor.scheduler.trial import Evaluator, Measured, Strategy, Trial


class Trials:
    """Measures policies with one evaluator; the same schemes are measured once."""

    def __init__(
        self, problem: Problem, evaluator: Evaluator, journal: Journal, cost: Callable[[Policy], Cost]
    ) -> None:
        self._problem, self._evaluator, self._journal = problem, evaluator, journal
        self.cost = cost  # of a policy, without what the problem's sums leave out

    def measure(self, policy: Policy) -> Trial:
        """Measure one policy."""
        schemes = self._problem.schemes(policy)
        found = self._journal.remember(
            "trial", key_of(schemes), lambda: _plain(self._evaluator.evaluate(schemes))
        )
        return Trial(policy, self.cost(policy), Measured(**found))

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

        A run that the journal saw to its end stops where that one did; `run` names it there.
        """
        trials: list[Trial] = []
        end = self._journal.known("end of trials", run)
        while len(trials) < (most if end is None else end):
            progress(_shown(trials, contract, budget), len(trials), most)
            needed = reserve + max((self.seconds(each) for each in trials), default=0.0)
            if trials and end is None and not budget.has(needed):
                break
            if len(trials) < len(first):
                policy = first[len(trials)]
            else:
                policy = strategy.propose(self._problem, contract, trials)
            if policy is None:
                break
            trials.append(self.measure(policy))
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
    kept = [trial for trial in trials if trial.keeps(contract)]
    best = min((taken(trial, contract) for trial in kept), default=None)
    said = "trying plans" if best is None else f"trying plans, best {contract.minimize} {best:.4g}"
    return said if budget.left == float("inf") else f"{said}, {max(0, budget.left):.0f} s left"


def _plain(measured: Measured) -> dict[str, float]:
    return {"drop": measured.drop, "loss": measured.loss, "samples": measured.samples}
