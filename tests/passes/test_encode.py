"""Encoded networks compute, on plain llvm and before any target sees them, what the rounded ones do."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from tvm import relax

from tersor.compression import canonical
from tersor.error import UserError
from tersor.formats.encoded import Encoded
from tersor.formats.matrix import matrix_of, weight_of
from tersor.formats.size import stored_bytes
from tersor.ir.decoders import read_decoder
from tersor.ir.graph import Graph, operator, replace_weights, weights_of
from tersor.passes.encode import encode, thinned_floats
from tersor.passes.extract import extract
from tersor.passes.integerize import integerize
from tersor.passes.quantization.quantize import quantize
from tersor.passes.quantization.weights import Weights
from tersor.scheme import FP32, Scheme
from tersor.sparsity import Block
from tests.numpy_semantics import Meaning
from tests.relax_modules import Net, attention_net, he, run, samples, statistics_of, token_samples

INTEGER = [
    "w4a8", "w3a8", "w2a8", "w4g4a8", "w3g4a8", "ternary-a8", "ternaryg4-a8", "binary-a8", "codebook4-a8",
    "codebook8-a8", "pot4-a8", "int8+2:4", "w4a8+1:4", "int8+sparse50", "codebook4-a8+sparse90",
    "int8+block2x2-50",
]  # fmt: skip
FLOAT = [
    "w8a32", "w4a32", "w4g4", "ternary", "binaryg4", "codebook4", "pot3", "fp16", "bf16", "e4m3", "e5m2",
    "mxfp4", "mxint8", "fp32+2:4", "fp32+sparse90", "bf16+block2x2-50", "w4g4+sparse50",
]  # fmt: skip


@cache
def network(name: str) -> tuple[Any, Any]:
    """A convolution and a dense layer, or attention behind a table, with its statistics."""
    mod = canonical(attention_net() if name == "attention" else small_net())
    return mod, statistics_of(mod, inputs_of(name))


def small_net() -> Any:
    rng = np.random.default_rng(0)
    net = Net((1, 8, 4, 4))
    x = net.emit(relax.op.nn.relu(net.conv(net.inputs[0], "conv", he(rng, 8, 8, 3, 3))))
    x = net.emit(relax.op.reshape(x, (1, 32)))
    return net.finish(net.dense(x, "fc", he(rng, 32, 12, fan_in=32), rng.normal(0, 0.1, 12).astype("f4")))


def inputs_of(name: str) -> list[np.ndarray]:
    return token_samples() if name == "attention" else samples(1, 8, 4, 4)


def thinned(weight: np.ndarray, scheme: Scheme) -> np.ndarray:
    """A weight with zeros where its scheme has them: of every so many inputs only the first is kept."""
    if scheme.sparsity is None:
        return weight
    matrix = matrix_of(weight, axis := 1 if weight.ndim == 2 else 0)
    width = scheme.sparsity.inputs if isinstance(scheme.sparsity, Block) else 1
    places = np.arange(matrix.shape[1]) // width % round(1 / scheme.sparsity.density)
    return weight_of(matrix * (places == 0), weight.shape, axis)


def compressed(name: str, text: str) -> tuple[Any, Any, dict[str, Encoded], dict[str, Scheme]]:
    """The network under a scheme: with its weights dense, and as they are stored."""
    mod, statistics = network(name)
    scheme = Scheme.parse(text)
    schemes = {
        layer.name: scheme for layer in extract(mod).layers if layer.weight_bearing and layer.name != "table"
    }
    values = weights_of(mod)
    mod = replace_weights(mod, {layer: thinned(values[layer], scheme) for layer in schemes})
    weights = Weights()
    weights.encoded.update(thinned_floats(mod, schemes))
    dense = mod
    if scheme.weight:
        dense = integerize(quantize(mod, schemes, statistics, weights=weights))
    return dense, encode(dense, weights.encoded), weights.encoded, schemes


@pytest.mark.parametrize(
    ("name", "text"),
    [*(("small", text) for text in INTEGER + FLOAT), *(("attention", text) for text in ("w4g4a8", "mxfp4"))],
)
def test_what_is_decoded_computes_what_was_rounded(name: str, text: str) -> None:
    dense, packed, encoded, schemes = compressed(name, text)
    [x, *_] = inputs_of(name)
    (expected,), (result,) = run(dense, x), run(packed, x)
    assert result.tobytes() == expected.tobytes()
    graph = Graph(packed)
    assert any(read_decoder(packed, value) for _, value in graph.bindings)
    assert not set(schemes) & {var.name for var in graph.weights}
    for layer in extract(network(name)[0]).layers:
        if layer.name in schemes:
            stored = encoded[layer.name]
            kept = [
                var for var in graph.weights if var.name in {f"{layer.name}.{each}" for each in stored.arrays}
            ]
            assert len(kept) == len(stored.arrays)
            assert stored.nbytes == stored_bytes(layer, schemes[layer.name], bias=False, kept=stored.kept)


@pytest.mark.parametrize("text", ["w4g4a8", "codebook4-a8+sparse90", "mxfp4"])
def test_a_decoded_weight_is_what_numpy_decodes(text: str) -> None:
    _, packed, encoded, _ = compressed("small", text)
    graph = Graph(packed)
    [weight] = [value.args[1] for _, value in graph.bindings if operator(value) == "nn.conv2d"]
    assert np.array_equal(Meaning(packed, {}).of(weight), encoded["conv.weight"].decode())


def test_dense_int8_codes_stay_as_they_are() -> None:
    dense, packed, _, _ = compressed("small", "int8")
    assert packed is dense


def test_a_table_is_stored_in_any_format() -> None:
    mod, statistics = network("attention")
    [indices, *_] = inputs_of("attention")
    for text in ("w4a32", "w4g4", "codebook4", "bf16", "mxfp4"):
        weights = Weights()
        dense = integerize(quantize(mod, {"table": Scheme.parse(text)}, statistics, weights=weights))
        packed = encode(dense, weights.encoded)
        (expected,), (result,) = run(dense, indices), run(packed, indices)
        assert result.tobytes() == expected.tobytes()
        assert "table.values" in weights_of(packed)


def test_float_layers_are_not_touched() -> None:
    mod, _ = network("small")
    assert encode(mod, thinned_floats(mod, {"conv.weight": FP32})) is mod


def test_weights_without_the_zeros_of_their_pattern_are_refused() -> None:
    mod, statistics = network("small")
    with pytest.raises(
        UserError, match=r"'conv.weight' cannot be stored as int8.2:4: 2:4 weights have at most 2"
    ):
        quantize(mod, {"conv.weight": Scheme.parse("int8+2:4")}, statistics)
    with pytest.raises(
        UserError, match=r"'conv.weight' cannot be stored as fp32.block3x8-50: .*do not divide"
    ):
        thinned_floats(mod, {"conv.weight": Scheme.parse("fp32+block3x8-50")})
