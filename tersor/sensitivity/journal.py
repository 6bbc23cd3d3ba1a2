"""The journal of sensitivities: a line of JSON for each cell measured, so that a killed run goes on."""

import json
from collections.abc import Callable
from pathlib import Path

from tersor.error import UserError


class Journal:
    """What was measured of one model on the same data, in a file; without one, in memory only.

    `digest` is of all that the numbers depend on. Raises UserError if the file cannot be used, or is of
    something else.
    """

    def __init__(self, path: Path | None, digest: str) -> None:
        self._path, self._digest = path, digest
        self._known: dict[tuple[str, str], float] = {}
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else [""]
            path.write_text("\n".join([*lines[:-1], ""]), encoding="utf-8")  # without a line that a kill tore
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text file"
            raise UserError(f"cannot write to {path}: {reason}") from error
        for line in lines[:-1]:
            self._read(line)

    def measured(self, layer: str, scheme: str, measure: Callable[[], float]) -> float:
        """Give a noise that was measured before, or measure it and take it down."""
        key = layer, scheme
        if key not in self._known:
            self._known[key] = measure()
            if self._path is not None:
                line = {"of": self._digest, "layer": layer, "scheme": scheme, "noise": self._known[key]}
                try:
                    with self._path.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(line) + "\n")
                except OSError as error:
                    raise UserError(f"cannot write to {self._path}: {error.strerror}") from error
        return self._known[key]

    def _read(self, line: str) -> None:
        try:
            entry = json.loads(line)
            digest, key, noise = (
                entry["of"],
                (str(entry["layer"]), str(entry["scheme"])),
                float(entry["noise"]),
            )
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{self._path} holds no sensitivities: remove it, or give another --out"
            ) from error
        if digest != self._digest:
            raise UserError(
                f"{self._path} is of another model, other data or another recipe: "
                "remove it, or give another --out"
            )
        self._known[key] = noise
