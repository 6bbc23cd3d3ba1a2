"""Database files: the lines of MetaSchedule's JSON database, checked before TVM reads them.

TVM parses the lines in threads of its own and ends the process over one that it does not understand.
"""

import base64
import json
from pathlib import Path
from typing import Any


def drop_torn_line(path: Path) -> None:
    """Cut off a last line without its end, which a kill left; make the file if there is none."""
    with path.open("ab+") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


def ends_with_a_line(path: Path) -> bool:
    """Whether the last line of a file that is not empty has its end."""
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read() == b"\n"


def check_workloads(path: Path) -> int:
    """Count the workloads, ["hash", "module in base 64"] each. Raises ValueError for a line that is none."""
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    for line in lines:
        match line:
            case [str(digest), str(module)] if digest.isdigit():
                # Eight bytes of length, then JSON.
                json.loads(base64.b64decode(module, validate=True)[8:])
            case _:
                raise ValueError(f"{line!r} is no workload")
    return len(lines)


def check_records(path: Path, workloads: int, notes: tuple[str, ...]) -> None:
    """Check that every line is a record of a workload, its trace only annotations of the root among `notes`.

    Raises ValueError for a line that is none.
    """
    for line in map(json.loads, path.read_bytes().splitlines()):
        match line:
            case [int(workload), [[[*trace], []], None | [float()], dict(), []]] if (
                0 <= workload < workloads and _is_annotated(trace, notes)
            ):
                pass
            case _:
                raise ValueError(f"{line!r} is no record")


def _is_annotated(trace: list[Any], notes: tuple[str, ...]) -> bool:
    match trace:
        case [["GetSBlock", [], ["root", "main"], ["b0"]], *annotations]:
            return all(_is_annotation(each, notes) for each in annotations)
        case _:
            return False


def _is_annotation(instruction: Any, notes: tuple[str, ...]) -> bool:
    match instruction:
        case ["Annotate", ["b0", str(value)], [str(key)], []] if key in notes:
            return value[:1] == value[-1:] == '"'
        case _:
            return False
