"""Options that commands share, and what their text means."""

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from tersor.data import Preprocessing
from tersor.error import UserError

Data = Annotated[
    str,
    typer.Option(metavar="NPZ|DIR", help="Samples: a .npz file, or a folder of .npz, .npy or image files."),
]
Shapes = Annotated[
    list[str] | None,
    typer.Option("--shape", metavar="NAME=1x32", help="Shape of an input with free dimensions. Repeatable."),
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


def parse_shapes(texts: list[str] | None) -> dict[str, tuple[int, ...]]:
    """Read NAME=1x32 texts. Raises UserError."""
    shapes = {}
    for text in texts or []:
        found = re.fullmatch(r"(.+)=(\d+(?:x\d+)*)", text)
        if not found:
            raise UserError(f"--shape {text!r} is not understood: write NAME=1x32")
        shapes[found[1]] = tuple(int(size) for size in found[2].split("x"))
    return shapes


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
