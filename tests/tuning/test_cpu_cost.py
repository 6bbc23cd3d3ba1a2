"""CPU costs are learned from measurements: within a budget, going on where they were, the same each time."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from math import inf
from pathlib import Path

import numpy as np
import pytest

from tersor.layer import Layer
from tersor.scheme import FP32, INT8, Scheme
from tersor.targets.cpu.host.cost import conversion_seconds, estimate
from tersor.targets.cpu.host.detect import detect, hardware
from tersor.targets.cpu.kernels.work import work_of
from tersor.tuning.cpu_cost import CpuCosts
from tersor.tuning.journal import RECORDS, REFERENCE, Entry, Journal
from tersor.tuning.kernel_family import KernelFamily
from tersor.tuning.layer_samples import samples
from tersor.tuning.layer_workload import workload_of
from tersor.tuning.measurement import Candidate, Laboratory, Timing
from tersor.tuning.workload import Workload

HOST = detect(cores=1)
FAMILY = KernelFamily("matmul", "fp32")
DENSE = Layer("fc", "matmul", N=16, C=200, K=120)
USUAL = 1e-4  # s, of every reference


def hidden(workload: Workload) -> float:
    """Seconds that no analytic model knows: multiplying takes long, long sums more so."""
    work, length = work_of(workload.kernel), workload.nest.geometry.run_length
    return (3 * work.multiply + sum(work.parts)) * 4e-10 * length**0.25


class Bench(Laboratory):
    """Says that a workload takes its hidden time, on a machine that is sometimes slower, and notes it."""

    def __init__(self, noise: float = 0.02) -> None:
        self.seen: list[Workload] = []
        self.noise = noise

    def compare(self, workload: Workload, reference: Workload, rounds: int = 0) -> Timing | str:
        self.seen.append(workload)
        rng = np.random.default_rng(workload.nest.geometry.macs)
        slow, off = 1 + 0.5 * int(rng.integers(0, 2)), float(np.exp(rng.normal(0, self.noise)))
        return Timing(hidden(workload) * slow * off, USUAL * slow)


class Memory:
    """Keeps measurements for as long as it lives."""

    def __init__(self) -> None:
        self.entries: dict[Candidate, Entry] = {}

    def find(self, candidate: Candidate) -> Entry | None:
        return self.entries.get(candidate)

    def add(self, candidate: Candidate, measured: Timing | str) -> None:
        wrong = isinstance(measured, str)
        self.entries[candidate] = Entry((), wrong=True) if wrong else Entry((measured,))


@pytest.fixture(scope="module")
def trained() -> CpuCosts:
    costs = CpuCosts(HOST, Memory(), Bench(), [DENSE], most=30)
    costs.train()
    return costs


def test_layers_that_were_not_measured_are_near_their_hidden_time(trained: CpuCosts) -> None:
    assert trained.selected[FAMILY].name.startswith("parts")
    others = [layer for layer in samples(FAMILY, 30, seed=7) if layer.macs > 100_000]
    usual = {hidden(workload_of(each, "fp32", HOST)): trained.timed(each, FP32) for each in others}
    usual = {seconds: each for seconds, each in usual.items() if each.source == "learned"}
    assert len(usual) > 10
    # The median of the reference counts, which is that of the slower machine or of the faster one.
    ratios = [each.seconds / seconds for seconds, each in usual.items()]
    assert np.mean(np.abs(ratios / np.median(ratios) - 1)) < 0.1
    assert np.median(ratios) == pytest.approx(1.0, rel=0.1) or np.median(ratios) == pytest.approx(
        1.5, rel=0.1
    )
    assert 1 < max(each.spread for each in usual.values()) < 1.5


def test_a_layer_at_hand_takes_what_was_measured(trained: CpuCosts) -> None:
    timed = trained.timed(replace(DENSE, name="another"), FP32)
    assert (timed.source, timed.spread) == ("measured", 1.0)


def test_only_families_of_the_network_are_measured_its_own_layers_first() -> None:
    bench = Bench()
    costs = CpuCosts(HOST, Memory(), bench, [DENSE], most=2)
    costs.train()
    assert [each.integer for each in bench.seen] == [False, True, False, True]
    assert bench.seen[:2] == [workload_of(DENSE, precision, HOST) for precision in ("fp32", "int8")]
    assert costs.selected == {}  # nothing is learned from two


def test_after_few_measurements_work_takes_what_it_took_in_those() -> None:
    costs = CpuCosts(HOST, Memory(), Bench(noise=0), [DENSE], most=1)
    costs.train()
    other = replace(DENSE, N=32)
    measured, timed = costs.timed(DENSE, FP32), costs.timed(other, FP32)
    assert (measured.source, timed.source, timed.spread) == ("measured", "analytic", inf)
    works = [sum(work_of(workload_of(each, "fp32", HOST).kernel).parts) for each in (DENSE, other)]
    assert timed.seconds / measured.seconds == pytest.approx(works[1] / works[0])


def test_weights_that_are_decoded_take_what_plain_ones_take(trained: CpuCosts) -> None:
    for text, running in (("w4a8", INT8), ("int8+2:4", INT8), ("w4g64", FP32)):
        scheme = Scheme.parse(text)
        assert trained.seconds(DENSE, scheme) == trained.seconds(DENSE, running)
        assert trained.estimate(DENSE, scheme).size == estimate(DENSE, scheme, hardware(HOST)).size
        assert trained.estimate(DENSE, scheme).seconds == trained.seconds(DENSE, scheme)


def test_factors_run_one_after_the_other(trained: CpuCosts) -> None:
    scheme = Scheme.parse("int8+rank16")
    assert scheme.factor is not None
    parts = [trained.timed(part, INT8) for part in DENSE.factored(scheme.factor)]
    whole = trained.timed(DENSE, scheme)
    assert whole.seconds == pytest.approx(sum(part.seconds for part in parts))
    assert whole.spread == max(part.spread for part in parts)
    assert whole.source == "learned"


def test_a_dynamic_range_takes_a_pass_over_the_input(trained: CpuCosts) -> None:
    more = trained.seconds(DENSE, Scheme.parse("int8+dynamic")) - trained.seconds(DENSE, INT8)
    twice = replace(DENSE, N=2 * DENSE.N)
    assert more > 0
    more_of_twice = trained.seconds(twice, Scheme.parse("int8+dynamic")) - trained.seconds(twice, INT8)
    assert more_of_twice == pytest.approx(2 * more)


def test_what_no_kernel_of_a_family_computes_takes_what_the_roofline_says(trained: CpuCosts) -> None:
    table = Layer("table", "gather", N=4, K=64, C=100)
    timed = trained.timed(table, FP32)
    assert (timed.source, timed.spread) == ("analytic", inf)
    assert timed.seconds == estimate(table, FP32, hardware(HOST)).seconds


def test_nothing_is_needed_to_begin_with() -> None:
    timed = CpuCosts(HOST, Memory(), Bench()).timed(DENSE, INT8)
    assert (timed.source, timed.spread) == ("analytic", inf)
    assert timed.seconds > 0


def test_what_the_cpu_cannot_run_is_refused(trained: CpuCosts) -> None:
    with pytest.raises(ValueError, match="weights of at most 8 bits"):
        trained.seconds(DENSE, Scheme.parse("w16a8"))


def test_a_conversion_is_counted_by_itself(trained: CpuCosts) -> None:
    assert trained.conversion(1000) == conversion_seconds(1000) > conversion_seconds(10)


def journalled(
    path: Path, bench: Bench, budget: float = inf, now: Callable[[], float] = lambda: 0.0
) -> CpuCosts:
    costs = CpuCosts(HOST, Journal(path, HOST, "a CPU", REFERENCE), bench, [DENSE], most=16)
    costs.train(budget, now=now)
    return costs


def test_a_budget_ends_the_measuring_and_the_next_run_goes_on_to_the_same_end(tmp_path: Path) -> None:
    everything, first, again, last = (Bench() for _ in range(4))
    whole = journalled(tmp_path / "whole", everything)
    clock = count()
    journalled(tmp_path / "parts", first, 9, lambda: next(clock))
    assert 0 < len(first.seen) < len(everything.seen) == 32
    resumed = journalled(tmp_path / "parts", again)
    assert first.seen + again.seen == everything.seen
    from_disk = journalled(tmp_path / "parts", last, budget=0)
    assert last.seen == []
    layer = replace(DENSE, N=24)
    assert whole.timed(layer, INT8) == resumed.timed(layer, INT8) == from_disk.timed(layer, INT8)


def test_a_kill_loses_at_most_what_was_being_measured(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    class Dying(Bench):
        def compare(self, workload: Workload, reference: Workload, rounds: int = 0) -> Timing | str:
            if len(self.seen) == 5:
                raise Killed
            return super().compare(workload, reference, rounds)

    with pytest.raises(Killed):
        journalled(tmp_path, Dying())
    assert len((tmp_path / RECORDS).read_text().splitlines()) == 5


def test_a_kernel_that_cannot_be_built_is_left_out() -> None:
    class Broken(Bench):
        def compare(self, workload: Workload, reference: Workload, rounds: int = 0) -> Timing | str:
            return (
                "it does not compile: why not" if workload.integer else super().compare(workload, reference)
            )

    costs = CpuCosts(HOST, Memory(), Broken(), [DENSE], most=16)
    costs.train()
    assert set(costs.selected) == {FAMILY}
    assert costs.timed(DENSE, INT8).source == "analytic"
