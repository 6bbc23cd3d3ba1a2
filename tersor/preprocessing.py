"""Preprocessing: how an image file becomes an input of a network."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tersor.error import UserError

Array = NDArray[Any]


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes an input: resize, centre crop, then (pixel - mean) / std with pixels in 0..255.

    `resize` is what the short side becomes (bicubic), by default just enough for the crop; `crop` is the side
    of the centre crop and must be the model's; `mean` and `std` hold one number, or one per channel.
    """

    resize: int | None = None
    crop: int | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: Literal["NCHW", "NHWC"] = "NCHW"

    def __post_init__(self) -> None:
        for option, size in (("--resize", self.resize), ("--crop", self.crop)):
            if size is not None and size < 1:
                raise UserError(f"{option} must be at least 1, got {size}")
        if self.resize is not None and self.crop is not None and self.resize < self.crop:
            raise UserError(f"--resize {self.resize} leaves no room for --crop {self.crop}")
        for option, values in (("--mean", self.mean), ("--std", self.std)):
            if len(values) not in (1, 3) or not np.all(np.isfinite(values)):
                raise UserError(f"{option} needs one number, or three for RGB, got {_list(values)}")
        if 0 in self.std:
            raise UserError("--std must not be 0: pixels are divided by it")
        if self.layout not in ("NCHW", "NHWC"):
            raise UserError(f"--layout must be NCHW or NHWC, got {self.layout}")

    def image(self, file: Path, shape: Sequence[int]) -> Array:
        """Read an image as float32 of `shape`, [C, H, W] or [H, W, C] by the layout."""
        channels, height, width = shape if self.layout == "NCHW" else (shape[2], shape[0], shape[1])
        try:
            with Image.open(file) as opened:
                picture = opened.convert("RGB" if channels == 3 else "L")
        except Exception as error:
            raise UserError(f"the image {str(file)!r} is broken or of an unknown format") from error
        pixels = np.asarray(self._cut(picture, height, width), np.float32).reshape(height, width, channels)
        pixels = (pixels - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)) if self.layout == "NCHW" else pixels

    def check(self, name: str, shape: Sequence[int]) -> None:
        """Raise UserError unless images can become the records of the input `name`, of this shape."""
        channels_at = 0 if self.layout == "NCHW" else 2
        if len(shape) != 3 or shape[channels_at] not in (1, 3):
            raise UserError(
                f"images do not fit the input {name!r}, whose samples are {list(shape)}: "
                f"give arrays in a .npz, or another --layout than {self.layout}"
            )
        channels = shape[channels_at]
        for option, values in (("--mean", self.mean), ("--std", self.std)):
            if len(values) not in (1, channels):
                raise UserError(
                    f"{option} {_list(values)} has three numbers, but the model's images have one channel"
                )
        height, width = [size for axis, size in enumerate(shape) if axis != channels_at]
        if self.crop is not None and (height, width) != (self.crop, self.crop):
            raise UserError(
                f"--crop {self.crop} does not give the {height}x{width} images that the model takes"
            )
        if self.resize is not None and self.resize < max(height, width):
            raise UserError(
                f"--resize {self.resize} is less than the {height}x{width} images that the model takes"
            )

    def _cut(self, picture: Image.Image, height: int, width: int) -> Image.Image:
        if self.resize is None:
            scale = max(height / picture.height, width / picture.width)
            size = max(width, round(picture.width * scale)), max(height, round(picture.height * scale))
        else:
            short = min(picture.size)
            size = self.resize * picture.width // short, self.resize * picture.height // short
        if size != picture.size:
            picture = picture.resize(size, Image.Resampling.BICUBIC)
        left, top = round((picture.width - width) / 2), round((picture.height - height) / 2)
        return picture.crop((left, top, left + width, top + height))


def _list(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)
