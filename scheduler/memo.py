"""Memo: results by a key in a SQLite file that survives runs; several processes may use it at a time.

A result is one row, written in one transaction as soon as it is there, so a process that is killed loses
only what it was working on.
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tersor.error import UserError

WAIT = 60.0  # s that a process waits for the transaction of another
AT_ONCE = 500  # keys in a query


class Memo:
    """The table `name` of the file `path`, or of none: then what is put is kept as long as this object.

    Raises UserError if the file cannot be used.
    """

    def __init__(self, name: str, path: Path | None = None) -> None:
        self._name = name
        self._path = path
        with self._said():
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path or ":memory:", timeout=WAIT, isolation_level=None)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute(f"CREATE TABLE IF NOT EXISTS {name} (key TEXT PRIMARY KEY, value TEXT)")
            self._database.execute(f"SELECT key, value FROM {name} LIMIT 1")

    def get(self, keys: Sequence[str]) -> dict[str, Any]:
        """What is known of these keys. Raises UserError if the file cannot be read."""
        found: dict[str, Any] = {}
        with self._said():
            for start in range(0, len(keys), AT_ONCE):
                some = keys[start : start + AT_ONCE]
                asked = ", ".join("?" * len(some))
                rows = self._database.execute(
                    f"SELECT key, value FROM {self._name} WHERE key IN ({asked})", some
                )
                found.update((key, json.loads(value)) for key, value in rows)
        return found

    def put(self, key: str, value: Any) -> None:
        """Keep what can be written as JSON. Raises UserError if the file cannot be written."""
        with self._said():
            self._database.execute(f"INSERT OR REPLACE INTO {self._name} VALUES (?, ?)", (key, _json(value)))

    def __len__(self) -> int:
        with self._said():
            return self._database.execute(f"SELECT COUNT(*) FROM {self._name}").fetchone()[0]

    @contextmanager
    def _said(self) -> Iterator[None]:
        """Say in one sentence what is wrong with the file."""
        try:
            yield
        except (OSError, sqlite3.Error, json.JSONDecodeError) as error:
            raise UserError(f"{self._path} cannot be used ({error}): remove it or give another") from error


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
