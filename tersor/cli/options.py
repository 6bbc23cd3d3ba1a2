"""Options that commands share, and what their text means."""

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from tersor.error import UserError
from tersor.preprocessing import Preprocessing

Data = Annotated[
    str,
    typer.Option(metavar="NPZ|DIR", help="Samples: a .npz file, or a folder of .npz, .npy or image files."),
]
Shapes = Annotated[
    list[str] | None,
    typer.Option(
        "--shape",
        metavar="NAME=1x32[,1x128]",
        help="Shape of an input with free dimensions, or one for each of several buckets. Repeatable.",
    ),
]
Batch = Annotated[
    str | None,
    typer.Option(
        metavar="8[,16]", help="Leading dimension of the inputs, or one for each of several buckets."
    ),
]
Resize = Annotated[
    int | None, typer.Option(help="Images: what the short side becomes (default: just enough for the crop).")
]
Crop = Annotated[
    int | None, typer.Option(help="Images: side of the centre crop (default: the model's input).")
]
Mean = Annotated[
    str,
    typer.Option(
        help="Images: subtracted from pixels in 0..255; one number or one per channel: 127,116,104."
    ),
]
Std = Annotated[str, typer.Option(help="Images: then divided by; one number or one per channel.")]
Layout = Annotated[
    Literal["NCHW", "NHWC"], typer.Option(help="Images: order of the model's input dimensions.")
]


def parse_shapes(texts: list[str] | None) -> dict[str, list[tuple[int, ...]]]:
    """Read NAME=1x32,1x128 texts: the shapes of each input, one for each bucket. Raises UserError."""
    shapes = {}
    for text in texts or []:
        found = re.fullmatch(r"(.+)=(\d+(?:x\d+)*(?:,\d+(?:x\d+)*)*)", text)
        if not found:
            raise UserError(f"--shape {text!r} is not understood: write NAME=1x32, or NAME=1x32,1x128")
        shapes[found[1]] = [tuple(map(int, shape.split("x"))) for shape in found[2].split(",")]
    return shapes


def parse_batch(text: str | None) -> list[int] | None:
    """Read the batch, one for each bucket: 8 or 1,4,16. Raises UserError."""
    if text is None:
        return None
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise UserError(f"--batch {text!r} is not understood: write 8, or 1,4,16")
    return [int(size) for size in text.split(",")]


def parse_preprocessing(
    resize: int | None, crop: int | None, mean: str, std: str, layout: Literal["NCHW", "NHWC"]
) -> Preprocessing:
    """Read the options for images. Raises UserError."""
    return Preprocessing(resize, crop, _numbers("--mean", mean), _numbers("--std", std), layout)


def check_file(path: Path) -> None:
    """Raise UserError unless a file could be written at `path`."""
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a directory, give a file name")
    if not path.absolute().parent.is_dir():
        raise UserError(f"cannot write {path}: the directory {path.parent} does not exist")


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UserError(
            f"{option} {text!r} is not understood: write a number, or three as 127,116,104"
        ) from None
