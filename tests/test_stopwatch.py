"""The stopwatch: rounds until they are stable, and whose kernel is whose."""

import itertools
import time
from collections.abc import Iterator

import numpy as np
import pytest

import tersor
from tersor.compiler import Model
from tersor.stopwatch import ENOUGH, FEWEST, Seconds, Stopwatch, kernels_of
from tests.models import masked_attention, mlp


def test_all_have_their_turn_until_even_and_odd_rounds_agree() -> None:
    order: list[str] = []

    def measure(name: str, times: Iterator[float]) -> Seconds:
        order.append(name)
        return np.array([next(times), 1.0])

    changing = itertools.chain(itertools.islice(itertools.cycle([1.0, 2.0]), 40), itertools.repeat(1.5))
    found = Stopwatch(limit=60).rounds(
        [lambda: measure("a", itertools.repeat(4.0)), lambda: measure("b", changing)]
    )
    count = len(found[0])
    assert count > ENOUGH
    assert order == ["a", "b"] * (count + 1)  # one of each warms up
    assert [times.shape for times in found] == [(count, 2)] * 2
    assert set(found[0][:, 0]) == {4.0}


def test_what_never_becomes_stable_ends_with_the_time() -> None:
    changing = itertools.cycle([1.0, 2.0])
    (found,) = Stopwatch(limit=0.0).rounds([lambda: np.array([next(changing)])])
    assert len(found) == FEWEST


def test_one_core_is_timed_by_what_the_process_uses() -> None:
    assert Stopwatch.for_cores(1).clock is time.process_time
    assert Stopwatch.for_cores(2).clock is time.perf_counter


@pytest.fixture(scope="module")
def model() -> Model:
    return tersor.load_model(mlp(features=(32, 48, 48, 48, 10)))


def test_every_layer_has_the_time_of_its_kernels(model: Model) -> None:
    """Two of the layers have equal kernels, which the library has once."""
    (found,) = Stopwatch(limit=0.1).layers([model.float_build])
    assert list(found) == [f"fc{i}.weight" for i in range(4)]
    assert all(0 < seconds < 1 for seconds in found.values())


def test_layers_take_a_part_of_the_network(model: Model) -> None:
    ((first, *others),) = Stopwatch(limit=0.1).networks([model.float_runner])
    assert 0 < first < 1
    assert len(others) >= FEWEST - 1


def test_layers_of_several_buckets_are_added_up() -> None:
    shapes = {"x": [(1, 8, 16), (1, 24, 16)], "mask": [(1, 8), (1, 24)]}
    model = tersor.load_model(masked_attention(), shapes, check=False)
    build = model.float_build
    (found,) = Stopwatch(limit=0.1).layers([build])
    assert set(found) == {call.layer for call in build.lowered[-1].calls}
    assert {"query.weight", "key.weight", "value.weight", "out.weight", "matmul.0", "matmul.1"} <= set(found)


def test_what_runs_between_layers_is_none_of_theirs() -> None:
    """Softmax has a kernel of its own and is no layer; the layers' kernels stay in their order."""
    shapes = {"x": [(1, 8, 16), (1, 24, 16)], "mask": [(1, 8), (1, 24)]}
    build = tersor.load_model(masked_attention(), shapes, check=False).float_build
    for lowered, kernels in zip(build.lowered, kernels_of(build), strict=True):
        assert [layer for _, layer in kernels] == [call.layer for call in lowered.calls]
        for function, layer in kernels:
            assert function.startswith(lowered.kernels[layer].split()[0]), layer
