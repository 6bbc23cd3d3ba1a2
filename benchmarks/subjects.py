"""Networks that are searched: samples that calibrate, others for trials, and others that judge."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from meanings import meanings
from models import efficientnet, minilm, stored_file
from numpy.typing import NDArray
from sentences import ALL
from tasks import cifar_images

import tersor
from tersor.data import load_samples
from tersor.model import Model
from tersor.preprocessing import Preprocessing
from tutorials.efficientnet_lite0 import IMAGES

Array = NDArray[Any]
Samples = Sequence[Mapping[str, Array]]


@dataclass(frozen=True)
class Data:
    """Samples and the class of each, [samples]."""

    samples: Samples
    labels: Array


@dataclass(frozen=True)
class Sizes:
    """How many samples there are for each purpose, at most; a loss looks at the first `losses` of `tried`."""

    calibration: int = 128
    losses: int = 64
    tried: int = 1024
    judged: int = 4000


@dataclass(frozen=True)
class Subject:
    """A network for one sample at a time; no sample is in two of its sets."""

    name: str
    model: Model
    calibration: Samples
    tried: Data
    judged: Data
    losses: int

    def shortened(self, tried: int) -> "Subject":
        """With so many samples for trials at most."""
        return replace(self, tried=Data(self.tried.samples[:tried], self.tried.labels[:tried]))


def resnet20(cifar: Path, sizes: Sizes) -> Subject:
    """`resnet20` on CIFAR-10: training images calibrate, one part of the test images is tried on, one judges.

    It is not tried on what it was trained on: there it is right more often than elsewhere, and loses less.
    """
    model = tersor.load_model(onnx.load(cifar / "resnet20.onnx"), check=False)
    (entry,) = model.inputs
    images, _ = cifar_images(cifar / "train20k.npz", sizes.calibration)
    test, classes = cifar_images(cifar / "test.npz", sizes.tried + sizes.judged)
    order = np.random.default_rng(0).permutation(len(test))
    tried, judged = np.sort(order[: sizes.tried]), np.sort(order[sizes.tried :])
    return Subject(
        "resnet20",
        model,
        _singly(entry, images),
        Data(_singly(entry, test[tried]), classes[tried]),
        Data(_singly(entry, test[judged]), classes[judged]),
        sizes.losses,
    )


def efficientnet_lite0(imagenet: Path, sizes: Sizes) -> Subject:
    """EfficientNet-Lite0 on photographs, in the order of their folder."""
    model = tersor.load_model(efficientnet(), check=False)
    preprocessing = Preprocessing(mean=IMAGES.mean, std=IMAGES.std)
    labels = imagenet / "labels.csv"

    def photographs(count: int, skip: int) -> Data:
        found = load_samples(imagenet, model.inputs, preprocessing, count, labels, skip=skip)
        assert found.labels is not None
        return Data(list(found), found.labels)

    first = photographs(sizes.calibration, 0)
    tried = photographs(sizes.tried, sizes.calibration)
    judged = photographs(sizes.judged, sizes.calibration + sizes.tried)
    return Subject("efficientnet-lite0", model, first.samples, tried, judged, sizes.losses)


def minilm_l3(sizes: Sizes, length: int = 32) -> Subject:
    """MiniLM-L3 that says which of many sentences another one means.

    A last layer has the float vectors of the sentences for its weight, so the class is the sentence whose
    vector is the nearest. The sentences calibrate; of what means the same a half each is tried on and judges.
    """
    known, others = meanings()
    encoder = minilm(length)
    inputs = [value.name for value in encoder.graph.input]
    plain = tersor.load_model(encoder, check=False)
    first = _tokens([said for said, _ in known], inputs, length)
    vectors = np.concatenate([np.asarray(plain.float_runner(sample)[0]) for sample in first])
    model = tersor.load_model(_with_head(encoder, vectors), check=False)
    order = np.random.default_rng(0).permutation(len(others))
    samples = _tokens([others[i][0] for i in order], inputs, length)
    labels = np.array([others[i][1] for i in order])
    half = min(len(order) // 2, sizes.tried)
    end = half + sizes.judged
    return Subject(
        "minilm-l3",
        model,
        first[:: max(1, len(first) // sizes.calibration)][: sizes.calibration],
        Data(samples[:half], labels[:half]),
        Data(samples[half:end], labels[half:end]),
        sizes.losses,
    )


def _singly(entry: str, images: Array) -> list[dict[str, Array]]:
    return [{entry: images[i : i + 1]} for i in range(len(images))]


def _tokens(said: Sequence[str], names: Sequence[str], length: int) -> list[dict[str, Array]]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(stored_file(ALL, "tokenizer.json")))
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length)
    return [
        dict(zip(names, (np.array([each.ids]), np.array([each.attention_mask])), strict=True))
        for each in tokenizer.encode_batch(list(said))
    ]


def _with_head(encoder: onnx.ModelProto, vectors: Array) -> onnx.ModelProto:
    """The encoder and a dense layer that multiplies its vector by these, each made of length 1."""
    model = onnx.ModelProto()
    model.CopyFrom(encoder)
    graph = model.graph
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).T.astype(np.float32)
    graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(unit), "sentences"))
    graph.node.append(onnx.helper.make_node("MatMul", [graph.output[0].name, "sentences"], ["nearness"]))
    del graph.output[:]
    shape = [1, len(vectors)]
    graph.output.append(onnx.helper.make_tensor_value_info("nearness", onnx.TensorProto.FLOAT, shape))
    return model
