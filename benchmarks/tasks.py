"""Trained networks with images to calibrate and to evaluate on: where accuracy is measured.

A folder of CIFAR-10 holds resnet20.onnx, mobilenetv2.onnx, test.npz and train20k.npz (arrays `images`,
uint8 [n, 32, 32, 3], and `labels`). A folder of ImageNet photographs holds .jpg files of 224x224 and
labels.csv with the columns file and class.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from models import efficientnet
from numpy.typing import NDArray
from scipy.stats import binomtest

import tersor
from tersor.compiler import Compiled
from tersor.config import Config
from tersor.data import load_samples
from tersor.error import UserError
from tersor.measure import Power
from tersor.model import Model
from tersor.plan import Plan
from tersor.preprocessing import Preprocessing
from tutorials.efficientnet_lite0 import IMAGES

CIFAR_MEAN, CIFAR_STD = (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)
CIFAR = ("resnet20", "mobilenetv2")
EFFICIENTNET = "efficientnet-lite0"
BATCH = 64  # images of CIFAR that run at once; a photograph runs alone
CIFAR_CALIBRATION, IMAGENET_CALIBRATION = 256, 128

Array = NDArray[Any]
Run = Callable[[Mapping[str, Array]], list[Array]]


@dataclass(frozen=True)
class Accuracy:
    """Top-1 [%], agreement with fp32 [%], SNR of the logits [dB], and the p-value of the difference.

    `p` is of McNemar's exact test on the images that one is right on and the other wrong.
    """

    top1: float
    agreement: float
    snr: float | None
    lost: float  # points of top-1 below fp32
    p: float


@dataclass(frozen=True)
class Task:
    """A network and its images; the first ones calibrate every tool alike, the others are evaluated."""

    name: str
    source: onnx.ModelProto
    batch: int
    images: Callable[[Any], tuple[list[dict[str, Array]], list[dict[str, Array]], Array]]

    @cached_property
    def model(self) -> Model:
        """The network as tersor has it, for a whole batch."""
        return tersor.load_model(self.source, batch=self.batch if self.batch > 1 else None)

    @cached_property
    def _data(self) -> tuple[list[dict[str, Array]], list[dict[str, Array]], Array]:
        return self.images(self.model.inputs)

    @property
    def calibration(self) -> list[dict[str, Array]]:
        """Batches that calibrate."""
        return self._data[0]

    @property
    def evaluation(self) -> list[dict[str, Array]]:
        """Batches that are evaluated."""
        return self._data[1]

    @property
    def labels(self) -> Array:
        """The class of each image that is evaluated."""
        return self._data[2]

    @cached_property
    def reference(self) -> Array:
        """The logits of the uncompressed network, [images, classes]."""
        return self.logits(self.model.float_runner)

    def logits(self, run: Run) -> Array:
        """Run all images, [images, classes]."""
        return np.concatenate([run(batch)[0] for batch in self.evaluation])

    def compiled(self, request: Config | Plan | str) -> Compiled:
        """Compress and compile, to be judged by its results alone: nothing is timed."""
        few = self.calibration[:1]
        count = len(self.calibration)
        return tersor.compile(
            self.model, self.calibration, request, calibration_samples=count, evaluation=few, measure=False
        )

    def judge(self, logits: Array) -> Accuracy:
        """Compare with fp32 on the same images."""
        power = Power()
        power.add(self.reference, logits)
        lost, p = self.behind(logits, self.reference)
        return Accuracy(
            top1=100 * float((logits.argmax(1) == self.labels).mean()),
            agreement=100 * float((logits.argmax(1) == self.reference.argmax(1)).mean()),
            snr=power.snr,
            lost=lost,
            p=p,
        )

    def behind(self, logits: Array, others: Array) -> tuple[float, float]:
        """Give by how many points of top-1 `logits` lie behind `others`, and the p-value of that."""
        right, expected = logits.argmax(1) == self.labels, others.argmax(1) == self.labels
        gained, lost = int((right & ~expected).sum()), int((expected & ~right).sum())
        p = float(binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0
        return 100 * (lost - gained) / len(right), p


def tasks(cifar: Path | None, imagenet: Path | None, limit: int | None = None) -> list[Task]:
    """Give the networks for which there are images; `limit` evaluates fewer of them."""
    found = [_cifar(cifar, name, limit) for name in CIFAR] if cifar else []
    return [*found, _imagenet(imagenet, limit)] if imagenet else found


def _cifar(folder: Path, name: str, limit: int | None) -> Task:
    def images(inputs: Any) -> tuple[list[dict[str, Array]], list[dict[str, Array]], Array]:
        (entry,) = inputs
        train, _ = cifar_images(folder / "train20k.npz", CIFAR_CALIBRATION)
        test, labels = cifar_images(folder / "test.npz", limit)
        whole = len(test) // BATCH * BATCH
        return _batches(entry, train), _batches(entry, test[:whole]), labels[:whole]

    try:
        source = onnx.load(folder / f"{name}.onnx")
    except OSError as error:
        raise UserError(f"cannot read {folder / name}.onnx: {error.strerror or error}") from error
    return Task(name, source, BATCH, images)


def cifar_images(path: Path, limit: int | None) -> tuple[Array, Array]:
    """Images as the networks want them, float32 [n, 3, 32, 32], and their classes, `limit` of them evenly."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            images, labels = arrays["images"], arrays["labels"]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    if limit is not None:  # evenly from the whole, which may be sorted by class
        chosen = np.arange(min(limit, len(labels))) * len(labels) // min(limit, len(labels))
        images, labels = images[chosen], labels[chosen]
    floats = (images.astype(np.float32) - np.float32(CIFAR_MEAN)) / np.float32(CIFAR_STD)
    return np.ascontiguousarray(floats.transpose(0, 3, 1, 2)), labels.astype(np.int64)


def _batches(name: str, images: Array) -> list[dict[str, Array]]:
    return [{name: images[start : start + BATCH]} for start in range(0, len(images), BATCH)]


def _imagenet(folder: Path, limit: int | None) -> Task:
    preprocessing = Preprocessing(mean=IMAGES.mean, std=IMAGES.std)

    def images(inputs: Any) -> tuple[list[dict[str, Array]], list[dict[str, Array]], Array]:
        calibration = load_samples(folder, inputs, preprocessing, limit=IMAGENET_CALIBRATION)
        labels = folder / "labels.csv"
        others = load_samples(folder, inputs, preprocessing, limit, labels, skip=IMAGENET_CALIBRATION)
        assert others.labels is not None
        return list(calibration), list(others), others.labels

    return Task(EFFICIENTNET, efficientnet(), 1, images)


def one_by_one(batches: Iterable[Mapping[str, Array]]) -> list[dict[str, Array]]:
    """Split batches for tools whose model takes one image."""
    return [
        {name: array[i : i + 1] for name, array in batch.items()}
        for batch in batches
        for i in range(len(next(iter(batch.values()))))
    ]
