"""Modules of PyTorch become the same Relax form as ONNX models, and compute what PyTorch computes."""

import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm

import tersor
from tersor.error import UserError
from tersor.frontend.torch_import import import_torch
from tersor.ir.graph import Graph, operator, weights_of
from tersor.ir.recurrent import find_recurrences
from tersor.passes.extract import extract

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from tests.torch_modules import (  # noqa: E402
    CrossAttention,
    Encoder,
    Function,
    ResNet,
    Tagger,
    normal,
    seeded,
    tokens,
)


def operators(mod: tvm.IRModule) -> set[str]:
    return {operator(value) for _, value in Graph(mod).bindings}


@pytest.mark.parametrize(
    ("build", "inputs"),
    [
        (ResNet, (normal(1, 3, 16, 16),)),
        (Encoder, (normal(2, 5, 16),)),
        (CrossAttention, (normal(1, 5, 16), normal(1, 7, 16, seed=1))),
        (lambda: Tagger(nn.LSTM), (tokens(1, 4),)),
        (lambda: Tagger(nn.GRU), (tokens(2, 3),)),
        (lambda: Tagger(nn.LSTM, layers=2, both=False), (tokens(1, 3),)),
    ],
    ids=["resnet", "encoder", "cross attention", "lstm", "gru", "two layers"],
)
def test_networks_compute_what_pytorch_does(build: Callable[[], nn.Module], inputs: tuple[Any, ...]) -> None:
    assert import_torch(seeded(build), inputs).verify() <= 1e-4


IMAGE = normal(1, 4, 8, 8)


@pytest.mark.parametrize(
    "function",
    [
        functional.gelu,
        functional.silu,
        functional.selu,
        lambda x: functional.layer_norm(x, (8,)),
        lambda x: functional.softmax(x, 1),
        lambda x: functional.avg_pool2d(x, 3, 2, 1),
        lambda x: functional.max_pool2d(x, 3, 2, ceil_mode=True),
        lambda x: functional.interpolate(x, size=(5, 11)),
        lambda x: functional.interpolate(x, scale_factor=2, mode="bilinear"),
        lambda x: torch.logsumexp(x, 1),
        lambda x: x[:, -2:, ::2].amin((-1, -2)),
        lambda x: torch.stack([x[:, [-1, 0]], x[:, :2]], -1),
        lambda x: x.masked_fill(x > 0, -1.0).transpose(1, 2).flatten(1).cumsum(-1),
    ],
)
def test_functions_compute_what_pytorch_does(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    assert import_torch(Function(function).eval(), (IMAGE,)).verify() <= 1e-4


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"is_causal": True},
        {"scale": 0.3},
        {"attn_mask": torch.arange(25).reshape(5, 5) % 3 > 0},
        {"attn_mask": normal(5, 5)},
    ],
)
def test_attention_is_written_out(options: dict[str, Any]) -> None:
    def attention(x: torch.Tensor) -> torch.Tensor:
        return functional.scaled_dot_product_attention(x, x + 1, x * 2, **options)

    imported = import_torch(Function(attention).eval(), (normal(2, 2, 5, 8),))
    assert imported.verify() <= 1e-4
    assert {"matmul", "nn.softmax"} <= operators(imported.mod)


class Stateful(nn.Module):
    """A recurrent net without biases that takes and gives its states."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(4, 6, bias=False, bidirectional=True)

    def forward(self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> Any:
        return self.rnn(x, (h, c))


def test_recurrent_nets_are_a_product_and_one_loop_for_each_direction() -> None:
    """As those of ONNX, whatever the number of steps."""
    for kind in (nn.LSTM, nn.GRU):
        mod = import_torch(seeded(lambda kind=kind: Tagger(kind)), (tokens(2, 9),)).mod
        loops = {found.layer for found in find_recurrences(Graph(mod))}
        assert loops == {"rnn.weight_hh_l0", "rnn.weight_hh_l0_reverse"}
        assert {"rnn.weight_ih_l0", "rnn.weight_ih_l0_reverse"} <= {
            layer.name for layer in extract(mod).layers
        }


def test_recurrent_states_come_in_and_out() -> None:
    inputs = (normal(3, 2, 4), normal(2, 2, 6, seed=1), normal(2, 2, 6, seed=2))
    imported = import_torch(seeded(Stateful), inputs)
    assert imported.verify() <= 1e-4
    assert list(imported.reference) == ["output0", "output1", "output2"]


def test_tvm_still_takes_the_wrong_end_for_negative_indices() -> None:
    """When this fails TVM has learnt it: drop `_selected` from the importer."""
    from tvm.relax.frontend.torch import from_exported_program

    from tersor.frontend.verification import relative_error, run_plainly

    module = Function(lambda x: x[:, -1]).eval()
    x = normal(3, 4, 2)
    stock: Any = from_exported_program(torch.export.export(module, (x,)))
    (result,) = run_plainly(stock, {"x": x.numpy()})
    assert relative_error(result, module(x).numpy()) > 0.1
    assert import_torch(module, (x,)).verify() <= 1e-4


def test_names_are_those_of_the_state_dict_and_of_forward() -> None:
    module = seeded(Encoder)
    mod = tersor.import_model(module, (normal(1, 3, 16),))
    assert [var.name for var in Graph(mod).inputs] == ["x"]
    assert set(weights_of(mod)) <= set(module.state_dict())
    assert "layer.linear1.weight" in weights_of(mod)


def test_buffers_are_weights_and_masks_are_not() -> None:
    class Buffers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("shift", normal(4))
            self.register_buffer("keep", torch.tensor([True, False, True, True]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.where(self.keep, x + self.shift, x)

    imported = import_torch(Buffers().eval(), (normal(2, 4),))
    assert list(weights_of(imported.mod)) == ["shift"]
    assert imported.verify() <= 1e-4


def test_a_tensor_shared_by_two_layers_is_one_weight() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(20, 8)
            self.decoder = nn.Linear(8, 20, bias=False)
            self.decoder.weight = self.embedding.weight

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.decoder(self.embedding(ids))

    assert import_torch(seeded(Tied), (tokens(1, 4),)).verify() <= 1e-4


def test_every_dense_layer_and_convolution_is_a_layer() -> None:
    """Also where the fused projection of queries, keys and values is taken apart."""
    for module, inputs, count in (
        (seeded(ResNet), (normal(1, 3, 16, 16),), 6),
        (seeded(Encoder), (normal(1, 5, 16),), 5),
        (seeded(CrossAttention), (normal(1, 5, 16), normal(1, 7, 16)), 3),
    ):
        network = extract(import_torch(module, inputs).mod)
        assert sum(layer.weight_bearing for layer in network.layers) == count


def test_batch_norms_are_folded_and_pooling_has_an_integer_form() -> None:
    graph = Graph(import_torch(seeded(ResNet), (normal(1, 3, 16, 16),)).mod)
    assert "nn.batch_norm" not in operators(graph.mod)
    (mean,) = (value for _, value in graph.bindings if operator(value) == "mean")
    assert [int(axis) for axis in mean.attrs.axis] == [2, 3]


def test_examples_by_name_and_outputs_by_key() -> None:
    class Keyed(nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> dict[str, Any]:
            return {"total": a + b, "nothing": None, "parts": (a - b,)}

    model = tersor.load_model(Keyed().eval(), example_inputs={"b": normal(2), "a": normal(2, seed=1)})
    assert list(model.inputs) == ["a", "b"]
    assert [spec.name for spec in model.outputs] == ["output0", "output1"]
    inputs = {"a": np.array([3, 4], np.float32), "b": np.array([1, 1], np.float32)}
    total, difference = model.float_runner(inputs)
    assert (total.tolist(), difference.tolist()) == ([4, 5], [2, 3])


def test_a_module_in_training_mode_is_imported_for_inference_and_left_alone() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.BatchNorm1d(4)).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert import_torch(module, (normal(3, 4),)).verify() <= 1e-4
    assert module.training
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_examples_that_tell_nothing_are_replaced_for_the_comparison() -> None:
    imported = import_torch(Function(lambda x: x * 2).eval(), (torch.zeros(8),))
    assert np.abs(imported.inputs["x"]).max() > 0.5


@pytest.mark.parametrize(
    ("build", "draw"),
    [
        (ResNet, lambda seed: normal(1, 3, 16, 16, seed=seed)),
        (Encoder, lambda seed: normal(1, 5, 16, seed=seed)),
        (lambda: Tagger(nn.LSTM), lambda seed: tokens(1, 6, seed=seed)),
    ],
    ids=["resnet", "encoder", "lstm"],
)
def test_int8_stays_near_fp32(build: Callable[[], nn.Module], draw: Callable[[int], torch.Tensor]) -> None:
    model = tersor.load_model(seeded(build), example_inputs=(draw(0),))
    (name,) = model.inputs
    report = tersor.compile(model, [{name: draw(seed).numpy()} for seed in range(6)], measure=False).report
    assert {layer.scheme for layer in report.layers} <= {"int8", "w8a32"}  # a table has no activations
    assert report.totals.snr_db is not None
    assert report.totals.snr_db >= 25


def test_the_pipeline_of_tvm_compile_takes_it() -> None:
    mod = tersor.import_model(seeded(ResNet), (normal(1, 3, 16, 16),))
    target = tvm.target.Target({"kind": "llvm", "num-cores": 1})
    tvm.compile(mod, target, relax_pipeline=tersor.pipeline("fp32"))


class Unsupported(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.spectrum = Function(lambda x: torch.fft.rfft(x).real)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.spectrum(x)


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("module", "inputs", "said"),
    [
        (Unsupported(), (normal(8),), r"aten\._fft_r2c.*'spectrum'"),
        (Branching(), (normal(8),), "torch.export cannot trace"),
        (nn.LSTM(4, 6, proj_size=2), (normal(3, 1, 4),), r"aten\.lstm.*proj_size"),
        (nn.Linear(4, 2), (normal(3, 5),), "torch.export cannot trace"),
        (nn.Linear(4, 2), (normal(1, 4), normal(1, 4)), "do not fit forward"),
        (nn.Linear(4, 2), {"y": normal(1, 4)}, r"do not fit forward\(input\)"),
        (nn.Linear(4, 2), normal(1, 4), "tuple of tensors"),
        (nn.Linear(4, 2), (3,), "'input' is a int"),
        (nn.Linear(4, 2), (normal(1, 4).double(),), "'input' is float64"),
        (nn.Linear(4, 2).half(), (normal(1, 4),), "'weight' is float16.*float"),
        (nn.Linear(4, 2), None, "needs example_inputs"),
        (torch.jit.script(nn.Linear(4, 2)), (normal(1, 4),), "cannot be traced"),
    ],
)
def test_what_cannot_be_imported_is_said_in_one_sentence(module: nn.Module, inputs: Any, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        tersor.import_model(module.eval(), example_inputs=inputs)
    assert "\n" not in str(caught.value)


def test_a_wrong_result_is_named() -> None:
    imported = import_torch(Function(lambda x: {"twice": x * 2, "same": x + 0.0}).eval(), (normal(8),))
    with pytest.raises(UserError, match="'same', by 2 "):
        imported.verify(lambda _, arrays: [arrays["x"] * 2, -arrays["x"]])


def test_without_torch_the_extra_is_named() -> None:
    code = """
        import sys

        class NoTorch:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] == "torch":
                    raise ModuleNotFoundError(name)

        sys.meta_path.insert(0, NoTorch())
        import tersor
        try:
            tersor.import_model(object(), example_inputs=())
        except tersor.UserError as error:
            print(error)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert "tersor[torch]" in run.stdout
