import subprocess
import sys
from functools import cache, partial

import numpy as np
import pytest

from tersor.cost import Cost
from tersor.document import to_json
from tersor.error import UserError
from tersor.hardware import Compute, Hardware, Memory
from tersor.layer import Layer
from tersor.network import Network
from tersor.plan import Plan
from tersor.recipe import Recipe
from tersor.scheduler.autotune import Limit, Quantity, tune
from tersor.scheduler.space import WhyNot
from tersor.scheme import Scheme
from tersor.sparsity import NM
from tersor.statistics import BINS, Statistics, TensorStatistics
from tersor.targets.accelerator.roofline import estimate, why_not

MACHINE = Hardware(
    "machine",
    1e9,
    (Compute("int8", 64, (NM(2, 4),)), Compute("fp32", 8)),
    (Memory("dram", 1 << 30, 4e9),),
)
NETWORK = Network(
    (
        Layer("conv", "conv2d", K=16, C=8, P=8, Q=8, R=3, S=3),
        Layer("attention", "matmul", N=8, K=8, C=8, weight_bearing=False),
        Layer("fc1", "matmul", N=1, K=64, C=128),
        Layer("fc2", "matmul", N=1, K=128, C=64),
    )
)
TENSORS = {name: (f"{name}.in", f"{name}.out") for name in ("conv", "fc1", "fc2")}
MODEL = "a" * 64
ROOM = Limit("noise", 1.0)
RUNS_HERE: WhyNot = partial(why_not, hardware=MACHINE)


def seen(values: np.ndarray) -> TensorStatistics:
    """The statistics of values [samples, channels]."""
    low, high = min(values.min(), 0.0), max(values.max(), 0.0) + 1e-3
    counts = np.histogram(values, BINS, (low, high))[0]
    moments = values.mean(axis=0, dtype=np.float64), (values.astype(np.float64) ** 2).mean(axis=0)
    extremes = values.min(axis=0).astype(float), values.max(axis=0).astype(float)
    return TensorStatistics(
        len(values), values.size, values.min(), values.max(), low, high, counts, *moments, *extremes
    )


@cache
def problem() -> tuple[dict[str, np.ndarray], Statistics]:
    random = np.random.default_rng(0)
    weights = {
        layer.name: random.normal(size=layer.weight_shape).astype(np.float32)
        for layer in NETWORK.layers
        if layer.weight_bearing
    }
    # A weight of rank 16 and a little noise: factors are made for it.
    weights["fc2"] = (random.normal(size=(64, 16)) @ random.normal(size=(16, 128)) / 4).astype(np.float32)
    weights["fc2"] += random.normal(size=(64, 128)).astype(np.float32) * 1e-3
    tensors: dict[str, TensorStatistics] = {}
    for name, weight in weights.items():
        inputs = random.normal(size=(200, 8 if weight.ndim == 4 else len(weight)))
        matrix = weight if weight.ndim == 2 else weight.transpose(1, 2, 3, 0).sum(axis=(1, 2))
        tensors |= {f"{name}.in": seen(inputs), f"{name}.out": seen(inputs @ matrix)}
    return weights, Statistics(tensors)


def tuned(
    objective: Quantity = "seconds",
    limit: Limit = ROOM,
    network: Network = NETWORK,
    target_why_not: WhyNot = RUNS_HERE,
) -> Plan:
    weights, statistics = problem()
    return tune(
        network,
        weights,
        statistics,
        TENSORS,
        MACHINE,
        target_why_not,
        partial(estimate, hardware=MACHINE),
        objective,
        limit,
        model=MODEL,
        recipe=Recipe("minmax"),
    )


def schemes(plan: Plan) -> dict[str, str]:
    return {name: str(layer.scheme) for name, layer in plan.layers.items()}


def total(plan: Plan) -> Cost:
    return sum(
        (estimate(NETWORK[name], layer.scheme, MACHINE) for name, layer in plan.layers.items()), Cost()
    )


def test_without_room_for_noise_everything_stays_float() -> None:
    assert set(schemes(tuned(limit=Limit("noise", 0.0))).values()) == {"fp32"}


def test_a_layer_of_low_rank_is_factored_where_rounding_is_all_that_is_allowed() -> None:
    chosen = schemes(tuned(limit=Limit.snr(28)))
    assert chosen["fc2"].startswith("int8+rank")
    assert chosen["fc1"] == chosen["conv"] == "int8"


def test_more_noise_never_makes_a_slower_plan() -> None:
    times = [total(tuned(limit=Limit.snr(decibels))).seconds for decibels in (60, 40, 30, 20, 10, 0)]
    assert times == sorted(times, reverse=True)
    assert times[-1] < times[0]


def test_the_least_noise_within_a_size_is_a_plan_too() -> None:
    smallest = total(tuned("size")).size
    plan = tuned("noise", Limit("size", 2 * smallest))
    assert smallest < total(plan).size <= 2 * smallest


def test_layers_without_a_weight_are_not_in_the_plan() -> None:
    assert set(tuned().layers) == {"conv", "fc1", "fc2"}


def test_tied_layers_get_one_scheme() -> None:
    layers = (Layer("fc1", "matmul", K=64, C=128), Layer("fc2", "matmul", N=4096, K=128, C=64))
    tied = Network(layers, tied=(("fc1", "fc2"),))
    for limit in (0, 20, 28, 60):
        chosen = schemes(tuned(limit=Limit.snr(limit), network=tied))
        assert chosen["fc1"] == chosen["fc2"]


def test_what_the_target_refuses_is_not_chosen_and_the_reason_is_in_the_plan() -> None:
    def no_sparsity(layer: Layer, scheme: Scheme) -> str | None:
        return "no sparse kernel" if scheme.sparsity else why_not(layer, scheme, MACHINE)

    plan = tuned(target_why_not=no_sparsity)
    assert not any("2:4" in scheme for scheme in schemes(plan).values())
    assert "no int8+2:4: no sparse kernel" in plan.layers["fc1"].reason


def test_the_plan_says_what_it_was_made_from() -> None:
    plan = tuned()
    assert (plan.model, plan.hardware, plan.statistics) == (MODEL, "machine", problem()[1].digest())


def test_a_limit_that_nothing_keeps_names_the_layers() -> None:
    with pytest.raises(UserError, match=r"no plan keeps the size at or below 10 B: .*fc"):
        tuned("noise", Limit("size", 10))


def test_statistics_of_another_model_are_refused() -> None:
    weights, statistics = problem()
    less = Statistics({name: tensor for name, tensor in statistics.tensors.items() if name != "fc1.in"})
    run = partial(estimate, hardware=MACHINE)
    with pytest.raises(UserError, match=r"nothing on 'fc1\.in'; calibrate"):
        tune(
            NETWORK, weights, less, TENSORS, MACHINE, lambda *_: None, run, "size", Limit.snr(9), model=MODEL
        )
    swapped = TENSORS | {"fc1": ("fc2.in", "fc1.out")}
    with pytest.raises(UserError, match="64 channels of the input of 'fc1', which reads 128"):
        tune(
            NETWORK,
            weights,
            statistics,
            swapped,
            MACHINE,
            lambda *_: None,
            run,
            "size",
            Limit.snr(9),
            model=MODEL,
        )


def test_two_processes_with_different_hash_seeds_make_the_same_bytes() -> None:
    code = (
        "from tests.scheduler.test_autotune import *; "
        "print(to_json(tuned(limit=Limit.snr(25)), Plan), end='')"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."}, capture_output=True
        ).stdout
        for seed in ("1", "2")
    }
    assert outputs == {to_json(tuned(limit=Limit.snr(25)), Plan).encode()}
