"""Lines that TVM would end the process over are found before it reads them."""

import base64
import json
from pathlib import Path

import pytest

from tersor.tuning.database_files import check_records, check_workloads, drop_torn_line, ends_with_a_line

MODULE = base64.b64encode(b"\x02" + bytes(7) + b"{}").decode()
TRACE = [["GetSBlock", [], ["root", "main"], ["b0"]], ["Annotate", ["b0", '"K=4@cache"'], ["note"], []]]
RECORD = [0, [[TRACE, []], [0.5], {"kind": "llvm"}, []]]


def lines(path: Path, *values: object) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


def test_right_lines_are_let_through(tmp_path: Path) -> None:
    assert check_workloads(lines(tmp_path / "w", ["12", MODULE], ["13", MODULE])) == 2
    failed = [1, [[TRACE, []], None, {}, []]]
    check_records(lines(tmp_path / "r", RECORD, failed), 2, ("note",))


@pytest.mark.parametrize("value", [{}, [0], ["12"], ["a", MODULE], ["12", "???"], ["12", MODULE[:9]]])
def test_what_is_no_workload_is_found(tmp_path: Path, value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # of json, base64 and here
        check_workloads(lines(tmp_path / "w", value))


@pytest.mark.parametrize(
    "value",
    [
        {},
        [2, RECORD[1]],
        [0, [[TRACE, []], ["fast"], {}, []]],
        [0, [[TRACE[:1] * 2, []], [0.5], {}, []]],
        [0, [[TRACE[1:], []], [0.5], {}, []]],
        [0, [[[TRACE[0], ["Annotate", ["b0", "3"], ["note"], []]], []], [0.5], {}, []]],
        [0, [[[TRACE[0], ["Annotate", ["b0", '"x"'], ["other"], []]], []], [0.5], {}, []]],
    ],
)
def test_what_is_no_record_is_found(tmp_path: Path, value: object) -> None:
    with pytest.raises(ValueError, match="is no record"):
        check_records(lines(tmp_path / "r", value), 2, ("note",))


def test_only_a_torn_line_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "file"
    drop_torn_line(path)
    assert path.read_bytes() == b""
    for text, left in ((b"one\ntwo\n", b"one\ntwo\n"), (b"one\ntw", b"one\n"), (b"on", b"")):
        path.write_bytes(text)
        drop_torn_line(path)
        assert path.read_bytes() == left
    path.write_bytes(b"one\n")
    assert ends_with_a_line(path)
    path.write_bytes(b"one\ntw")
    assert not ends_with_a_line(path)
