"""Journal: what a search has found out, in an SQLite file, so that a run that was killed goes on from there.

Every result is committed as soon as it is there. A run with the same journal takes the same decisions:
results are read back, and the point at which the time was up is one of them.
"""

import json
import sqlite3
import time
from collections.abc import Callable
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
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            # In the name of no transaction: each statement commits by itself.
            self._file = sqlite3.connect(path or ":memory:", timeout=PATIENCE, isolation_level=None)
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute(_TABLE)
        except (OSError, sqlite3.Error) as error:
            raise self._refusal(error) from error

    def known(self, kind: str, key: str) -> Any | None:
        """Give a result that is there, or None."""
        try:
            row = self._file.execute(
                "SELECT value FROM results WHERE subject = ? AND kind = ? AND key = ?",
                (self._subject, kind, key),
            ).fetchone()
        except sqlite3.Error as error:
            raise self._refusal(error) from error
        return None if row is None else json.loads(row[0])

    def write(self, kind: str, key: str, value: Any, seconds: float = 0.0) -> None:
        """Take down a result and the seconds that it took. One that is there stays as it is."""
        try:
            self._file.execute(
                "INSERT OR IGNORE INTO results VALUES (?, ?, ?, ?, ?)",
                (self._subject, kind, key, json.dumps(value, sort_keys=True), seconds),
            )
        except sqlite3.Error as error:
            raise self._refusal(error) from error

    def remember(
        self, kind: str, key: str, find: Callable[[], Any], now: Callable[[], float] = time.monotonic
    ) -> Any:
        """Give a result that is there, or find it and take it down."""
        known = self.known(kind, key)
        if known is None:
            start = now()
            self.write(kind, key, find(), now() - start)
            known = self.known(kind, key)
        return known

    def spent(self) -> float:
        """Seconds that all results of the subject took together."""
        try:
            row = self._file.execute(
                "SELECT SUM(seconds) FROM results WHERE subject = ?", (self._subject,)
            ).fetchone()
        except sqlite3.Error as error:
            raise self._refusal(error) from error
        return float(row[0] or 0.0)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _refusal(self, error: Exception) -> UserError:
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            return UserError(f"{self._path} is no journal of a search: remove it, or give another --out")
        return UserError(f"cannot write to {self._path}: {error}; give another --out or make room")
