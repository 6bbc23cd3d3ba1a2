from tersor.cost import Cost
from tersor.scheduler.contract import Contract
from tersor.scheduler.trial import Measured, Trial

TRIAL = Trial({}, Cost(seconds=2.0, energy=3.0), Measured(drop=0.5, loss=0.01, samples=100))


def test_a_trial_keeps_a_contract_by_its_cost_and_by_what_was_measured() -> None:
    assert TRIAL.keeps(Contract(max_drop=0.5, max_latency=2.0))
    assert not TRIAL.keeps(Contract(max_drop=0.4, max_latency=2.0))
    assert not TRIAL.keeps(Contract(max_drop=0.5, max_latency=1.9))
