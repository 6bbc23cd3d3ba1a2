"""Every scheme on every kind of network: what is compiled computes what the formats and the arithmetic say.

The compiled network is asked for every tensor that kernels give one another. Each must be what numpy makes of
the tensors before it: exactly where it holds codes, to 1e-5 of its largest value where it is float.
"""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest

from tersor.compiler import calibrated_plan, load_model, silent
from tersor.compression import compress
from tersor.error import UserError
from tersor.ir.graph import Graph, expose, weights_of
from tersor.model import Model
from tersor.plan import Plan
from tersor.scheme import FP32, Scheme
from tersor.statistics import Statistics
from tests import models
from tests.numpy_network import is_given_on
from tests.numpy_semantics import Meaning
from tests.recurrent_nets import lstm_tagger

NETWORKS: dict[str, Callable[[], onnx.ModelProto]] = {
    "cnn": models.residual_net,
    "depthwise cnn": models.mobile_net,
    "mlp": models.mlp,
    "lstm": lstm_tagger,
    "transformer": models.masked_attention,
}
FORMATS = (
    "int8", "w6a8", "w4a8", "w3a8", "w2a8", "w8a4", "int4", "w2a4", "w3a5", "ternary-a8", "binary-a8",
    "codebook8-a8", "codebook4-a8", "pot4-a8", "w4g8a8", "w8a32", "w4a32", "w4g8", "ternary",
    "binary", "codebook4", "pot4", "fp16", "bf16", "e4m3", "e5m2", "mxfp4", "mxint8",
)  # fmt: skip
PATTERNS = ("int8+2:4", "w4a8+1:4", "fp32+4:8", "int8+block4x4-50", "int8+sparse80", "mxint8+sparse50")
FACTORS = (
    "int8+rank8", "fp32+rank4", "fp32+spatial4", "int8+spatial4", "int8+tucker4x4", "int8+cp4",
    "int8+filtergroups2", "int8+tt4", "w4a8+rank8+2:4",
)  # fmt: skip
SCHEMES = ("fp32", *FORMATS, "int8+dynamic", "w4a8+dynamic", *PATTERNS, *FACTORS)
FEW = ("int8", "w4a8", "int4", "mxfp4", "int8+2:4")  # on every network by default
# On dense layers by default: a convolution unpacks them as it does the other formats of their kind.
ALIKE = (
    "w6a8", "w2a8", "ternary-a8", "binary-a8", "codebook8-a8", "pot4-a8", "w4a32", "ternary", "binary",
    "pot4", "bf16", "e5m2",
)  # fmt: skip


@cache
def network(name: str) -> Model:
    shapes = {"x": (1, 12, 16), "mask": (1, 12)} if name == "transformer" else None
    return load_model(NETWORKS[name](), shapes)


def samples(model: Model, count: int = 4) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    return [
        {
            name: random.integers(0, 2, shape) if dtype.startswith("int") else normal(random, shape)
            for name, (shape, dtype) in model.inputs.items()
        }
        for _ in range(count)
    ]


def normal(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return random.normal(size=shape).astype(np.float32)


@cache
def planned(name: str, scheme: str) -> tuple[Plan, Statistics]:
    model = network(name)
    data = samples(model)
    return calibrated_plan(model, data, data, scheme, len(data), silent)


def pairs(schemes: Iterable[str]) -> list[Any]:
    """Every network with every scheme; slow but for one network for each scheme and a few schemes on all."""
    return [
        pytest.param(name, scheme, marks=() if is_default(name, scheme) else pytest.mark.slow)
        for name in NETWORKS
        for scheme in schemes
    ]


def is_default(name: str, scheme: str) -> bool:
    return scheme in FEW or name == ("mlp" if scheme in ALIKE else "cnn")


@pytest.mark.parametrize(("name", "scheme"), pairs(SCHEMES))
def test_what_runs_is_what_numpy_says(name: str, scheme: str) -> None:
    model = network(name)
    mod = compress(model.mod, *planned(name, scheme))
    graph = Graph(mod)
    seen = [var for var, value in graph.bindings if is_given_on(graph, var, value)]
    [sample, *_] = samples(model)
    run = model.runner(*model.lowered_alike([expose(mod, seen)]))
    measured = dict(zip(seen, run.uncropped(sample), strict=True))
    meaning = Meaning(mod, measured | {var: sample[var.name] for var in graph.inputs})
    for var in seen:
        expected, got = meaning.of(var), measured[var]
        if expected.dtype.kind == "f":
            assert np.abs(got - expected).max() <= 1e-5 * max(float(np.abs(expected).max()), 1e-3), var
        else:
            np.testing.assert_array_equal(got, expected, err_msg=str(var))


@pytest.mark.parametrize(("name", "scheme"), pairs([*FORMATS, *PATTERNS, *FACTORS]))
def test_a_layer_is_stored_in_its_scheme_or_has_a_reason(name: str, scheme: str) -> None:
    plan, statistics = planned(name, scheme)
    stored = weights_of(compress(network(name).mod, plan, statistics))
    for layer, given in plan.layers.items():
        assert given.scheme == Scheme.parse(scheme) or given.reason, layer
        if given.scheme != Scheme.parse(scheme):
            continue
        if scheme in FACTORS:
            assert layer not in stored
            assert any(found.startswith(f"{layer}.0") for found in stored), layer
        elif scheme not in ("int8", "w8a32", "w8a4"):  # their codes are stored as they are
            assert f"{layer}.values" in stored, layer
            assert layer not in stored


@pytest.mark.parametrize(("name", "reason"), [("lstm", "call_tir reads"), ("transformer", "product of")])
def test_networks_that_can_lose_no_channels_are_refused(name: str, reason: str) -> None:
    with pytest.raises(UserError, match=f"no channels may be dropped: .*{reason}"):
        planned(name, "int8+channels50")


@pytest.mark.parametrize("name", ["cnn", "depthwise cnn", "mlp"])
def test_networks_lose_channels_and_compute_what_numpy_says(name: str) -> None:
    test_what_runs_is_what_numpy_says(name, "int8+channels50")


def test_a_scheme_that_all_layers_can_have_is_on_all_of_them() -> None:
    plan, _ = planned("mlp", "int8")
    assert FP32 not in [layer.scheme for layer in plan.layers.values()]
