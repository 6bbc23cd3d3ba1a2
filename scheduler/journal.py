"""Journal: what was found out, by kind and key in an SQLite file, so that a killed run goes on there.

Every result is one row, committed as soon as it is there: a process that is killed loses only what it was
working on. A run with the same journal takes the same decisions: results are read back, and the point at
which the time was up is one of them. Several processes may use a file at a time.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from tersor.error import UserError

_TABLE = """CREATE TABLE IF NOT EXISTS results (
    subject TEXT NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, seconds REAL NOT NULL,
    PRIMARY KEY (subject, kind, key)) WITHOUT ROWID"""
_COLUMNS = "subject, kind, key, value, seconds"
_VERSION = 0  # of the table, in the file's header; a table of another form gets another
PATIENCE = 60.0  # s that a process waits for another one to finish writing
# What the system does not let be done, not what is wrong with the file.
_REFUSED = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
)
_ADVICE = "make room, let it be written, or give another place"
AT_ONCE = 500  # keys in a query


class Journal:
    """Results of one `subject`, a digest of all that they depend on, by kind and key; JSON values.

    Without a path they are kept in memory only. Raises UserError for a file that is no journal or cannot be
    read or written, here and in every call. It is a context that lets go of the file at its end.
    """

    def __init__(self, path: Path | None = None, subject: str = "") -> None:
        self._path, self._subject = path, subject
        with self._said():
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            # Each statement is a transaction of its own.
            self._file = sqlite3.connect(path or ":memory:", timeout=PATIENCE, isolation_level=None)
            (version,) = self._file.execute("PRAGMA user_version").fetchone()
            if version != _VERSION:
                raise UserError(f"{path} is the journal of another version: remove it, or give another")
            self._file.execute("PRAGMA journal_mode = WAL")
            # A kill loses nothing that was committed, a failure of the power at most the last rows.
            self._file.execute("PRAGMA synchronous = NORMAL")
            self._file.execute(_TABLE)
            self._file.execute(f"SELECT {_COLUMNS} FROM results LIMIT 1")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def of(self, subject: str) -> "Journal":
        """The results of another subject in the same file, which is closed with this one."""
        other = object.__new__(Journal)
        other._path, other._subject, other._file = self._path, subject, self._file
        return other

    def known(self, kind: str, key: str) -> Any | None:
        """Give a result that is there, or None."""
        return self.all_known(kind, [key]).get(key)

    def all_known(self, kind: str, keys: Sequence[str]) -> dict[str, Any]:
        """Give the results that are there of these keys."""
        found: dict[str, Any] = {}
        with self._said():
            for start in range(0, len(keys), AT_ONCE):
                some = keys[start : start + AT_ONCE]
                rows = self._file.execute(
                    "SELECT key, value FROM results WHERE subject = ? AND kind = ? "
                    f"AND key IN ({', '.join('?' * len(some))})",
                    (self._subject, kind, *some),
                )
                found.update((key, json.loads(value)) for key, value in rows)
        return found

    def write(self, kind: str, key: str, value: Any, seconds: float = 0.0) -> None:
        """Take down a result and the seconds that it took, in place of one that is there."""
        with self._said():
            self._file.execute(
                f"INSERT OR REPLACE INTO results ({_COLUMNS}) VALUES (?, ?, ?, ?, ?)",
                (self._subject, kind, key, json.dumps(value, sort_keys=True), seconds),
            )

    def remember(
        self, kind: str, key: str, find: Callable[[], Any], now: Callable[[], float] = time.monotonic
    ) -> Any:
        """Give a result that is there, or find it and take it down."""
        if self.known(kind, key) is None:
            start = now()
            self.write(kind, key, find(), now() - start)
        return self.known(kind, key)

    def seconds(self, kind: str, key: str) -> float:
        """How long a result took when it was found; 0 if it is not there."""
        with self._said():
            row = self._file.execute(
                "SELECT seconds FROM results WHERE subject = ? AND kind = ? AND key = ?",
                (self._subject, kind, key),
            ).fetchone()
        return 0.0 if row is None else float(row[0])

    def count(self, kind: str) -> int:
        """How many results of a kind are there."""
        with self._said():
            (number,) = self._file.execute(
                "SELECT COUNT(*) FROM results WHERE subject = ? AND kind = ?", (self._subject, kind)
            ).fetchone()
        return number

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    @contextmanager
    def _said(self) -> Iterator[None]:
        """Say in one sentence what is wrong with the file."""
        try:
            yield
        except OSError as error:
            raise UserError(f"cannot use {self._path}: {error.strerror}; {_ADVICE}") from error
        except (sqlite3.Error, json.JSONDecodeError) as error:
            code = getattr(error, "sqlite_errorcode", None)
            if code is not None and code & 0xFF in _REFUSED:  # the rest of the code says more of it
                raise UserError(f"cannot use {self._path}: {error}; {_ADVICE}") from error
            raise UserError(f"{self._path} is no journal ({error}): remove it, or give another") from error
