import numpy as np
import pytest
from onnx import helper

from tersor.error import UserError
from tersor.frontend import import_model, static_model, verify
from tersor.ir.graph import weights_of
from tests.recurrent_nets import Tagger, gru_tagger, layer, lstm_tagger

DIRECTIONS = ("forward", "reverse", "bidirectional")
KINDS = [("LSTM", {}), ("GRU", {"linear_before_reset": 0}), ("GRU", {"linear_before_reset": 1})]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_a_layer_computes_what_onnx_says(kind, options, direction):
    for given in (True, False):
        model = layer(kind, direction, bias=given, states=given, **options)
        assert verify(import_model(model), static_model(model)) < 1e-5


@pytest.mark.parametrize("model", [lstm_tagger(), gru_tagger(), gru_tagger(after=0)])
def test_a_tagger_computes_what_onnx_says(model):
    assert verify(import_model(model), static_model(model)) < 1e-5


def test_the_inputs_of_all_steps_are_one_product():
    mod = import_model(gru_tagger())
    values = [binding.value for binding in mod["main"].body.blocks[0].bindings]
    products = [value for value in values if getattr(value, "op", None) and value.op.name == "relax.matmul"]
    assert [tuple(int(n) for n in p.ty.shape) for p in products] == [(12, 1, 96), (12, 1, 96), (12, 1, 10)]


def test_weights_are_named_after_the_module():
    weights = weights_of(import_model(lstm_tagger(hidden=16)))
    roles = ["weight_ih", "weight_hh", "bias"]
    layers = [
        f"lstm.{role}{level}{way}" for level in ("", "_l1") for role in roles for way in ("", "_reverse")
    ]
    assert sorted(weights) == sorted(["embedding.weight", "fc.weight", "fc.bias", *layers])
    assert weights["lstm.weight_ih"].shape == (24, 64)
    assert weights["lstm.weight_hh_reverse"].shape == (16, 64)


def test_the_gates_are_in_the_order_of_torch():
    model = layer("LSTM")
    recurrent = next(w for w in model.graph.initializer if w.name.endswith("_R"))
    stored = np.frombuffer(recurrent.raw_data, np.float32).reshape(4, 12, 12)
    ours = weights_of(import_model(model))["rnn.weight_hh"].T.reshape(4, 12, 12)
    assert np.array_equal(ours, stored[[0, 2, 3, 1]])  # input, forget, cell, output


def test_layers_that_share_weights_keep_one_copy():
    net = Tagger(features=12)
    net.recurrent("LSTM", 12)
    net.recurrent("LSTM", 12, shared="onnx::LSTM_0")
    mod = import_model(net.make())
    assert sorted(weights_of(mod)) == ["rnn.bias", "rnn.weight_hh", "rnn.weight_ih"]
    assert verify(mod, static_model(net.make())) < 1e-5


def test_zero_states_and_full_lengths_need_no_weights():
    net = Tagger(steps=4, batch=2)
    net.recurrent("GRU", 8)
    net.weights["h"] = np.zeros((1, 2, 8), np.float32)
    net.weights["lengths"] = np.full(2, 4, np.int32)
    net.nodes[0].input.extend(["lengths", "h"])
    mod = import_model(net.make())
    assert verify(mod, static_model(net.make())) < 1e-5
    assert len(weights_of(mod)) == 3


REFUSED = [
    ("LSTM", {"clip": 1.0}, "clips its gates"),
    ("LSTM", {"input_forget": 1}, "coupled"),
    ("LSTM", {"activations": ["Sigmoid", "Relu", "Tanh"]}, "activations Sigmoid, Relu, Tanh"),
    ("GRU", {"activations": ["HardSigmoid", "Tanh"]}, "activations HardSigmoid, Tanh"),
    ("GRU", {"layout": 1}, "layout 1"),
]


@pytest.mark.parametrize(("kind", "options", "words"), REFUSED)
def test_what_is_not_supported_is_refused_by_name(kind, options, words):
    net = Tagger(batch=6)  # as many as steps, so that layout 1 is a valid model
    net.recurrent(kind, 8, **options)
    net.nodes = net.nodes[:1]
    with pytest.raises(UserError, match=words) as refusal:
        import_model(net.make(net.nodes[0].output[0]))
    assert f"the {kind} '/rnn/{kind}' is not supported" in str(refusal.value)


def test_the_usual_activations_may_be_named():
    model = layer("GRU", "bidirectional", activations=["Sigmoid", "Tanh"] * 2)
    assert verify(import_model(model), static_model(model)) < 1e-5


def test_peepholes_and_lengths_are_refused():
    net = Tagger()
    net.recurrent("LSTM", 8)
    net.weight("peepholes", 1, 24)
    net.nodes[0].input.extend(["", "", "", "peepholes"])
    with pytest.raises(UserError, match="peepholes"):
        import_model(net.make())
    net = Tagger(steps=4, batch=2)
    net.recurrent("LSTM", 8)
    net.weights["lengths"] = np.array([4, 3], np.int32)
    net.nodes[0].input.append("lengths")
    with pytest.raises(UserError, match="lengths of its sequences vary"):
        import_model(net.make())


def test_a_computed_weight_is_refused():
    net = Tagger()
    net.recurrent("LSTM", 8)
    weight = net.nodes[0].input[1]
    net.inputs.append(helper.make_tensor_value_info(weight, 1, net.weights.pop(weight).shape))
    with pytest.raises(UserError, match="its weight 'onnx::LSTM_0_W' is computed"):
        import_model(net.make())


def test_only_the_outputs_that_are_read_are_kept():
    net = Tagger(batch=2)
    _, _, last_cell = net.recurrent("LSTM", 8)
    net.nodes = net.nodes[:1]
    net.nodes[0].output[0] = ""
    model = net.make(last_cell)
    mod = import_model(model)
    assert verify(mod, static_model(model)) < 1e-5
