"""Replace: files that appear in a directory all together, or not at all."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tersor.error import UserError


@contextlib.contextmanager
def replacing(directory: str | Path) -> Iterator[Path]:
    """Give a temporary directory whose files move to `directory` when the block ends without an error.

    It is where moving is renaming: in `directory`, or beside it where `directory` is yet to be made, as its
    parents are. Other files in it stay. Raises UserError if it cannot be written.
    """
    target = Path(directory)
    staging, made = _stage(target)
    try:
        yield staging
        _move(staging, target)
    except BaseException as error:
        shutil.rmtree(staging, ignore_errors=True)
        _remove(made)
        if isinstance(error, OSError):
            raise _unwritable(target, error) from error
        raise


def check_writable(directory: str | Path) -> None:
    """Raise UserError unless files could be put into `directory` now; leaves nothing behind."""
    staging, made = _stage(Path(directory))
    _remove([staging, *made])


def _stage(target: Path) -> tuple[Path, list[Path]]:
    """Make the temporary directory; give it and the parents that were made for it, the innermost first."""
    made: list[Path] = []
    try:
        if target.exists() and not target.is_dir():
            raise UserError(f"cannot write to {target}: it is a file, give a directory")
        missing = [path for path in target.absolute().parents if not path.exists()]
        for path in reversed(missing):
            path.mkdir()
            made.insert(0, path)
        beside = target if target.is_dir() else target.absolute().parent
        return Path(tempfile.mkdtemp(prefix=".tersor-", dir=beside)), made
    except OSError as error:
        _remove(made)
        raise _unwritable(target, error) from error


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
