"""Config: what a user asks of the compiler when there is no plan yet."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from tersor.recipe import Recipe
from tersor.scheme import Scheme

Objective = Literal["seconds", "energy", "size"]


@dataclass(frozen=True)
class Config:
    """One scheme for every layer that can have it, or `auto`: a scheme for each, chosen by the scheduler.

    `min_snr` (dB) is what `auto` must leave of the signal, by the additive estimate of its sensitivity;
    `objective` is what it makes least; `recipe` says by which algorithms it is all carried out.
    """

    scheme: str = "int8"
    min_snr: float = 30.0  # dB
    objective: Objective = "seconds"
    recipe: Recipe = field(default_factory=Recipe)

    def __post_init__(self) -> None:
        if self.scheme != "auto":
            Scheme.parse(self.scheme)
        if self.objective not in get_args(Objective):
            known = ", ".join(get_args(Objective))
            raise ValueError(f"an objective is one of {known}, got {self.objective!r}")
