"""Linking: with which compiler, and what happens without one."""

import contextlib
import multiprocessing
import os
import re
import resource
import shutil
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from tersor import linking
from tersor.error import UserError
from tersor.linking import export_library, find_linker
from tersor.silence import quiet_stderr


class Executable:
    """Stands for TVM's: links one object file, which is as good as empty, and warns as TVM does."""

    def __init__(self, folder: Path) -> None:
        self.source = folder / "empty.c"
        self.source.write_text("int answer(void) { return 42; }\n")

    def export_library(self, path: str, fcompile: Any) -> None:
        os.write(2, b"Warning: Scope Saving:\n")
        fcompile(path, [str(self.source)])


def no_compiler(_name: str) -> None:
    return None


def test_the_compiler_of_the_system_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if name == "clang++" else None)
    assert find_linker() == ["/usr/bin/clang++"]


def test_then_the_one_that_pip_installs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", no_compiler)
    monkeypatch.setattr(linking.importlib.util, "find_spec", lambda name: name == "ziglang")
    assert find_linker() == [sys.executable, "-m", "ziglang", "cc"]


def test_without_any_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", no_compiler)
    monkeypatch.setattr(linking.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"install g\+\+ or clang\+\+, or `pip install ziglang`"):
        find_linker()


def test_a_library_is_written_without_a_word(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    export_library(Executable(tmp_path), tmp_path / "model.so")
    assert (tmp_path / "model.so").read_bytes().startswith(b"\x7fELF")
    assert capfd.readouterr().err == ""


def test_equal_objects_give_equal_bytes_wherever_they_lie(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        export_library(Executable(tmp_path / name), tmp_path / name / "model.so")
    assert (tmp_path / "a" / "model.so").read_bytes() == (tmp_path / "b" / "model.so").read_bytes()


def test_a_linker_that_fails_leaves_no_file(tmp_path: Path) -> None:
    executable = Executable(tmp_path)
    executable.source.write_text("this is no C\n")
    with pytest.raises(UserError, match=r"linking with .* failed"):
        export_library(executable, tmp_path / "model.so")
    assert [path.name for path in tmp_path.iterdir()] == ["empty.c"]


def test_a_missing_directory_is_a_mistake_of_the_user(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write .*model\.so"):
        export_library(Executable(tmp_path), tmp_path / "missing" / "model.so")


def test_silence_ends_with_its_block(capfd: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(KeyError), quiet_stderr():
        os.write(2, b"unheard\n")
        raise KeyError
    os.write(2, b"heard\n")
    assert capfd.readouterr().err == "heard\n"


def _exports_to_a_full_disk(path: Path, said: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 14, 1 << 14))
    try:
        export_library(object(), path)
    except UserError as error:
        said.send(str(error))


def test_a_full_disk_is_said_before_llvm_ends_the_process(tmp_path: Path) -> None:
    forked = multiprocessing.get_context("fork")
    heard, said = forked.Pipe(duplex=False)
    process = forked.Process(target=_exports_to_a_full_disk, args=(tmp_path / "model.so", said))
    process.start()
    sentence = heard.recv()
    process.join()
    assert re.fullmatch(r"cannot write .*model\.so: .*large.*", sentence)
    assert not list(tmp_path.iterdir())
