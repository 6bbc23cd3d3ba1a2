"""The stopwatch: least times until they are stable, and whose kernel is whose."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

import tersor
from tersor.compiler import Model
from tersor.stopwatch import STABLE_ROUNDS, Seconds, Stopwatch
from tests.models import masked_attention, mlp


def still() -> float:
    """A clock that stands: only stability ends what it times."""
    return 0.0


def ticking() -> Iterator[float]:
    """A second passes whenever somebody looks."""
    return map(float, itertools.count())


def test_the_least_of_every_part_counts_however_the_rest_is_disturbed() -> None:
    random = np.random.default_rng(0)
    exact = np.array([3.0, 1.0, 2.0])
    (found,) = Stopwatch(clock=still).least([lambda: exact * (1 + random.choice([0, 0, 5], 3))])
    assert np.array_equal(found, exact)


def test_all_have_their_turn_until_nothing_becomes_faster() -> None:
    order: list[str] = []

    def measure(name: str, times: Iterator[float]) -> Seconds:
        order.append(name)
        return np.array([next(times)])

    slow, improving = itertools.repeat(4.0), itertools.chain([9.0, 8.0, 7.0, 6.0], itertools.repeat(5.0))
    found = Stopwatch(clock=still).least([lambda: measure("a", slow), lambda: measure("b", improving)])
    assert [times.item() for times in found] == [4.0, 5.0]
    assert order == ["a", "b"] * (5 + STABLE_ROUNDS)  # four that improve and the one before them


def test_what_never_becomes_stable_ends_with_the_time() -> None:
    clock, faster = ticking(), (2.0**-n for n in itertools.count())
    (found,) = Stopwatch(limit=6, clock=lambda: next(clock)).least([lambda: np.array([next(faster)])])
    assert found.item() == pytest.approx(2.0**-6, rel=0.99)


@pytest.fixture(scope="module")
def model() -> Model:
    return tersor.load_model(mlp(features=(32, 48, 48, 48, 10)))


def test_every_layer_has_the_time_of_its_kernels(model: Model) -> None:
    """Two of the layers have equal kernels, which the library has once."""
    (found,) = Stopwatch(limit=0.1).layers([model.float_build])
    assert list(found) == [f"fc{i}.weight" for i in range(4)]
    assert all(0 < seconds < 1 for seconds in found.values())


def test_layers_take_a_part_of_the_network(model: Model) -> None:
    (network,) = Stopwatch(limit=0.1).networks([model.float_build])
    assert 0 < network < 1


def test_layers_of_several_buckets_are_added_up() -> None:
    shapes = {"x": [(1, 8, 16), (1, 24, 16)], "mask": [(1, 8), (1, 24)]}
    model = tersor.load_model(masked_attention(), shapes, check=False)
    build = model.float_build
    (found,) = Stopwatch(limit=0.1).layers([build])
    assert set(found) == {call.layer for call in build.lowered[-1].calls}
    assert {"query.weight", "key.weight", "value.weight", "out.weight", "matmul.0", "matmul.1"} <= set(found)
