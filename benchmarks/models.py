"""The networks that are measured, by their slugs, with data that exercises them."""

import importlib.util
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the seeded networks of the tests

from tersor.data import Inputs, load_samples
from tersor.error import UserError
from tests import models as seeded
from tutorials import efficientnet_lite0

DIGITS = "digit-recognizer-py==0.1.0"


@dataclass(frozen=True)
class Network:
    """A network: `build` raises UserError if its package is missing; `samples` calibrate it."""

    build: Callable[[], onnx.ModelProto]
    samples: Callable[[Inputs], Iterable[dict[str, Any]]]


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


NETWORKS = {
    "resnet18": Network(seeded.resnet18, normals),
    "efficientnet-lite0": Network(efficientnet, photographs),
    "digit-cnn": Network(digit_cnn, normals),
    "mlp": Network(lambda: seeded.mlp(features=(784, 512, 512, 10)), normals),
}
