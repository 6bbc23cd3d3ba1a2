"""Replace: files that appear in a directory all together, or not at all."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tersor.error import UserError

UNFINISHED = ".tersor-unfinished-"  # what the names of temporary directories begin with


@contextlib.contextmanager
def replacing(directory: str | Path) -> Iterator[Path]:
    """Give a temporary directory whose files move to `directory` when the block ends without an error.

    It is where moving is renaming: in `directory`, or beside it where `directory` is yet to be made, as its
    parents are. Other files in it stay, but temporary directories that a killed process left there are
    removed. Raises UserError if it cannot be written.
    """
    target = Path(directory)
    staging = _stage(target)
    try:
        yield staging.path
        _move(staging.path, target)
    except BaseException as error:
        shutil.rmtree(staging.path, ignore_errors=True)
        _remove(staging.made)
        if isinstance(error, OSError):
            raise _unwritable(target, error) from error
        raise
    finally:
        _let_go(staging.lock)


def check_writable(directory: str | Path) -> None:
    """Raise UserError unless files could be put into `directory` now; leaves nothing behind."""
    staging = _stage(Path(directory))
    _remove([staging.path, *staging.made])
    _let_go(staging.lock)


@dataclass(frozen=True)
class _Staging:
    """The temporary directory, the parents that were made for it, the innermost first, and what locks it."""

    path: Path
    made: list[Path]
    lock: int | None


def _stage(target: Path) -> _Staging:
    made: list[Path] = []
    try:
        if target.exists() and not target.is_dir():
            raise UserError(f"cannot write to {target}: it is a file, give a directory")
        missing = [path for path in target.absolute().parents if not path.exists()]
        for path in reversed(missing):
            path.mkdir()
            made.insert(0, path)
        parent = target.absolute().parent
        _remove_abandoned(target)
        _remove_abandoned(parent)
        path, lock = _locked(target if target.is_dir() else parent)
        return _Staging(path, made, lock)
    except OSError as error:
        _remove(made)
        raise _unwritable(target, error) from error


def _locked(folder: Path) -> tuple[Path, int | None]:
    """Make a temporary directory, locked for as long as this process lives or holds what is given.

    None where directories cannot be locked: then nobody takes it for abandoned.
    """
    while True:
        path = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder))
        lock = None
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            _let_go(lock)
            lock = None
        if path.is_dir():  # nobody took it for abandoned before it was locked
            return path, lock
        _let_go(lock)


def _remove_abandoned(folder: Path) -> None:
    """Remove temporary directories whose process is no more: the system gave up its locks."""
    for path in folder.glob(f"{UNFINISHED}*"):
        with contextlib.suppress(OSError):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)


def _let_go(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def _move(staging: Path, target: Path) -> None:
    if not target.exists():
        staging.chmod(0o755)
        os.replace(staging, target)
        return
    for file in sorted(staging.iterdir()):
        os.replace(file, target / file.name)
    staging.rmdir()


def _remove(empty: list[Path]) -> None:
    for path in empty:
        with contextlib.suppress(OSError):
            path.rmdir()


def _unwritable(target: Path, error: OSError) -> UserError:
    return UserError(f"cannot write to {target}: {(error.strerror or str(error)).lower()}")
