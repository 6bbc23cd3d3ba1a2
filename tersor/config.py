"""Config: what a user asks of the compiler when there is no plan yet.

It has a file of its own, for which no model needs to be known:

    {
      "rules": [
        {"kind": "first", "scheme": "int8"},
        {"layers": "layer1.*", "scheme": "w4a8"}
      ],
      "scheme": "int8",
      "recipe": {"rounding": "mse"}
    }
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, Self, get_args

from pydantic import ConfigDict

from tersor.document import read_json, read_toml
from tersor.rank_rule import parse_request
from tersor.recipe import Recipe
from tersor.rule import Rule

Objective = Literal["seconds", "energy", "size"]


@dataclass(frozen=True)
class Config:
    """One scheme for every layer that can have it, or `auto`: a scheme for each, chosen by the scheduler.

    The ranks in `scheme` may be left to a rule, as in `int8+rank-macs50` (`tersor.rank_rule`).
    `rules` give layers other schemes; the first that matches a layer is taken. `min_snr` (dB) is what `auto`
    must leave of the signal, by the additive estimate of its sensitivity; `objective` is what it makes least;
    `recipe` says by which algorithms it is all carried out.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    scheme: str = "int8"
    min_snr: float = 30.0  # dB
    objective: Objective = "seconds"
    recipe: Recipe = field(default_factory=Recipe)
    rules: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        if self.scheme != "auto":
            parse_request(self.scheme)
        elif self.rules:
            raise ValueError("auto chooses for every layer: give rules a scheme for the others, as int8")
        if self.objective not in get_args(Objective):
            known = ", ".join(get_args(Objective))
            raise ValueError(f"an objective is one of {known}, got {self.objective!r}")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a JSON file, or a TOML file by its ending.

        Raises UserError naming the file, the key and what to change.
        """
        return read_toml(path, cls) if Path(path).suffix == ".toml" else read_json(path, cls)
