"""Journal: what a search has found out, in an SQLite file, so that a run that was killed goes on from there.

Every result is committed as soon as it is there. A run with the same journal takes the same decisions:
results are read back, and the point at which the time was up is one of them.
"""

import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tersor.error import UserError

_TABLE = """CREATE TABLE IF NOT EXISTS results (
    subject TEXT NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, seconds REAL NOT NULL,
    PRIMARY KEY (subject, kind, key)) WITHOUT ROWID"""
PATIENCE = 60.0  # s that a process waits for another one to finish writing


class Journal:
    """Results of one `subject`, a digest of all that they depend on, by kind and key; JSON values.

    Without a path they are kept in memory only. Raises UserError for a file that is no journal or cannot be
    written, here and in every call.
    """

    def __init__(self, path: Path | None, subject: str) -> None:
        self._path, self._subject = path, subject
        with self._said():
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            # Each statement is a transaction of its own.
            self._file = sqlite3.connect(path or ":memory:", timeout=PATIENCE, isolation_level=None)
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute(_TABLE)

    def known(self, kind: str, key: str) -> Any | None:
        """Give a result that is there, or None."""
        with self._said():
            row = self._file.execute(
                "SELECT value FROM results WHERE subject = ? AND kind = ? AND key = ?",
                (self._subject, kind, key),
            ).fetchone()
        return None if row is None else json.loads(row[0])

    def write(self, kind: str, key: str, value: Any, seconds: float = 0.0) -> None:
        """Take down a result and the seconds that it took, in place of one that is there."""
        with self._said():
            self._file.execute(
                "INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?)",
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

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    @contextmanager
    def _said(self) -> Any:
        """Say in one sentence what is wrong with the file."""
        try:
            yield
        except (OSError, sqlite3.OperationalError) as error:
            raise UserError(f"cannot use {self._path}: {error}; make room, or give another place") from error
        except (sqlite3.Error, json.JSONDecodeError) as error:
            raise UserError(f"{self._path} is no journal of a search: remove it, or give another") from error
