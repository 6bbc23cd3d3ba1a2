"""Labels: the classes of image files, from a CSV file or from the files' names."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tersor.error import UserError

FILENAME = "filename"


def classes_of(files: Sequence[Path], folder: Path, labels: str | Path) -> NDArray[np.int64]:
    """Give one class for each file, [files].

    `labels` is a CSV file with the columns file and class, the file within `folder` or by its name alone, or
    `filename` for the last number in each name. Raises UserError for a file without a class.
    """
    if str(labels) == FILENAME:
        return np.array([_number_in_name(file) for file in files], np.int64)
    classes = _read_csv(Path(labels))
    return np.array([_class_of(file, folder, classes, labels) for file in files], np.int64)


def _number_in_name(file: Path) -> int:
    numbers = re.findall(r"\d+", file.stem)
    if not numbers:
        raise UserError(f"--labels filename finds no number in the name {file.name!r}")
    return int(numbers[-1])


def _class_of(file: Path, folder: Path, classes: Mapping[str, int], labels: str | Path) -> int:
    relative = file.relative_to(folder).as_posix() if folder.is_dir() else file.name
    for key in (relative, file.name):
        if key in classes:
            return classes[key]
    raise UserError(f"{str(labels)!r} has no class for the file {file.name!r}")


def _read_csv(path: Path) -> dict[str, int]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the labels {str(path)!r} cannot be read; give a CSV file, or 'filename'") from error
    rows = csv.DictReader(io.StringIO(text))
    if not {"file", "class"} <= set(rows.fieldnames or ()):
        raise UserError(f"the labels {str(path)!r} need a first line with the columns file and class")
    classes = {}
    for row in rows:
        try:
            classes[row["file"]] = int(row["class"])
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{str(path)!r}, line {rows.line_num}: the class must be a number, got {row['class']!r}"
            ) from error
    return classes
