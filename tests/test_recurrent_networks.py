"""Recurrent networks through the whole compiler."""

import numpy as np
import pytest

from tersor.compiler import compile, load_model
from tersor.compression import compress
from tersor.config import Config
from tersor.frontend.verification import run_plainly
from tersor.ir.graph import Graph, weights_of
from tersor.passes.extract import extract
from tersor.scheme import INT8, W8A32
from tests.recurrent_nets import Tagger, gru_tagger, lstm_tagger

STEPS = 8


def words(count, seed=0):
    return [{"x": x} for x in np.random.default_rng(seed).integers(0, 100, (count, STEPS, 1))]


def features(count, seed=0):
    drawn = np.random.default_rng(seed).normal(size=(count, STEPS, 1, 24))
    return [{"x": x} for x in drawn.astype(np.float32)]


@pytest.fixture(scope="module")
def lstm():
    return load_model(lstm_tagger(STEPS, layers=1))  # compared with a reference executor on the way


@pytest.fixture(scope="module")
def compressed(lstm):
    return compile(lstm, words(24), "int8", calibration_samples=16, measure=False)


def test_a_recurrent_weight_is_one_layer(lstm):
    network = extract(lstm.mod)
    layer = network["lstm.weight_hh"]
    assert (layer.operator, layer.N, layer.C, layer.K, layer.recurrent) == ("matmul", STEPS, 32, 128, True)
    assert not network["lstm.weight_ih"].recurrent
    named = [each.name for each in network.layers if each.weight_bearing]
    ways = ("", "_reverse")
    expected = [f"lstm.weight_{role}{way}" for way in ways for role in ("ih", "hh")]
    assert [name for name in named if name.startswith("lstm")] == expected
    edges = {(edge.producer, edge.consumer) for edge in network.edges}
    assert {
        ("lstm.weight_ih", "lstm.weight_hh"),
        ("lstm.weight_hh", "fc.weight"),
        ("lstm.weight_hh_reverse", "fc.weight"),
    } <= edges


def test_a_weight_that_several_layers_share_is_one_layer():
    net = Tagger(features=12)
    net.recurrent("LSTM", 12)
    net.recurrent("LSTM", 12, shared="onnx::LSTM_0")
    model = load_model(net.make(), check=False)
    assert [layer.name for layer in extract(model.mod).layers] == ["rnn.weight_ih", "rnn.weight_hh"]
    data = [{"x": x} for x in np.random.default_rng(0).normal(size=(8, 6, 1, 12)).astype(np.float32)]
    report = compile(model, data, "int8", measure=False).report
    assert [layer.scheme for layer in report.layers] == ["int8", "int8"]
    assert report.totals.bytes < 0.45 * report.totals.bytes_fp32


def test_all_layers_of_a_tagger_are_int8(compressed):
    rnn = [layer for layer in compressed.report.layers if "lstm" in layer.name]
    assert {layer.scheme for layer in rnn} == {"int8"}
    assert len(rnn) == 4
    assert all(layer.snr_db > 28 for layer in rnn)
    assert compressed.report.totals.snr_db > 33
    assert compressed.report.totals.agreement > 0.95


def test_the_compressed_module_says_what_the_kernels_compute(lstm, compressed):
    module = compress(lstm.mod, compressed.plan, compressed.statistics)
    stored = weights_of(module)
    assert stored["lstm.weight_hh"].dtype == np.int8
    assert stored["lstm.weight_hh.multiplier"].shape == (128,)
    (sample,) = words(1, seed=1)
    (plain,), (fast,) = run_plainly(module, sample), compressed(sample)
    np.testing.assert_allclose(plain, fast, atol=0.02 * np.abs(plain).max())


@pytest.mark.parametrize("after", [0, 1])
def test_a_gru_tagger_is_compressed(after):
    model = load_model(gru_tagger(STEPS, after=after))
    report = compile(model, features(24), "int8", calibration_samples=16, measure=False).report
    assert {layer.scheme for layer in report.layers} == {"int8"}
    assert report.totals.snr_db > 33
    kernels = [layer.kernel for layer in report.layers]
    assert [kernel.split()[0] for kernel in kernels] == ["dense", "gru", "dense", "gru", "dense"]


def test_the_state_may_stay_float(lstm):
    report = compile(lstm, words(16), "w8a32", measure=False).report
    assert {layer.scheme for layer in report.layers} == {"w8a32"}
    assert report.totals.snr_db > 45


def test_what_a_recurrent_weight_cannot_have_is_said(lstm):
    report = compile(lstm, words(16), "int8+2:4", measure=False).report
    (layer,) = (layer for layer in report.layers if layer.name == "lstm.weight_hh")
    assert layer.scheme == "int8"
    assert layer.reason == "no int8+2:4: the weight of a recurrent layer is neither factored nor thinned"


def test_schemes_are_chosen_for_recurrent_layers_too(lstm):
    compiled = compile(lstm, words(16), Config(scheme="auto", min_snr=30.0), measure=False)
    chosen = {name: layer.scheme for name, layer in compiled.plan.layers.items()}
    assert set(chosen) >= {"lstm.weight_hh", "lstm.weight_hh_reverse"}
    assert {chosen[name] for name in chosen if "weight_hh" in name} <= {INT8, W8A32}


def test_states_are_inputs_and_outputs():
    net = Tagger(steps=1, features=16)
    outputs = net.recurrent("LSTM", 32, states=True)
    model = load_model(net.make(net.last, *outputs[1:]))
    assert [var.name for var in Graph(model.mod).inputs] == ["x", "h", "c"]
    random = np.random.default_rng(0)

    def sample(h, c):
        return {"x": random.normal(size=(1, 1, 16)).astype(np.float32), "h": h, "c": c}

    state = [np.zeros((1, 1, 32), np.float32)] * 2
    data = []
    for _ in range(32):  # as it is run: the state goes from step to step
        data.append(sample(*state))
        state = model.float_runner(data[-1])[1:]
    compiled = compile(model, data, "int8", measure=False)
    exact = rounded = [np.zeros((1, 1, 32), np.float32)] * 2
    errors = []
    for _ in range(64):
        given = sample(*exact)
        first, second = model.float_runner(given), compiled(given | {"h": rounded[0], "c": rounded[1]})
        exact, rounded = first[1:], second[1:]
        errors.append(np.abs(first[0] - second[0]).max())
    assert max(errors) < 0.05
    assert np.mean(errors[32:]) < 2 * np.mean(errors[:32])  # rounding does not build up
