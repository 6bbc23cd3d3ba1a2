"""Presets: names for what is often asked, as the table `presets.toml`. A row of it is all that one takes."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict

from tersor.config import Config
from tersor.document import read_toml
from tersor.error import UserError

TABLE = Path(__file__).with_name("presets.toml")


@dataclass(frozen=True)
class Preset:
    """A config, and in a sentence what it is for."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    about: str
    config: Config


def presets(table: Path = TABLE) -> dict[str, Preset]:
    """Read the presets by name, in the table's order."""
    return read_toml(table, dict[str, Preset])


def preset(name: str) -> Config:
    """Give the config of a name. Raises UserError listing the names if there is no such preset."""
    known = presets()
    if name not in known:
        raise UserError(f"there is no preset {name!r}: it is one of {', '.join(known)}")
    return known[name].config
