"""What tests of data share: images on disk, and the inputs of networks that take them."""

import numpy as np
import pytest
from PIL import Image

from tersor.error import UserError

IMAGE = {"x": ((1, 3, 8, 8), "float32")}
VECTOR = {"x": ((1, 4), "float32")}
TEXT = {"ids": ((1, 6), "int64"), "mask": ((1, 6), "int64")}


def refused(message):
    return pytest.raises(UserError, match=message)


def save_images(folder, names, size=(8, 8), mode="RGB", seed=0):
    random = np.random.default_rng(seed)
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
        Image.fromarray(random.integers(0, 256, shape).astype(np.uint8), mode).save(file)


def only(samples):
    return [batch["x"] for batch in samples]
