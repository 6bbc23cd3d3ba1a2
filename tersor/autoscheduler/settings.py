"""Settings: how to search, beside what is asked for."""

from dataclasses import dataclass, field
from pathlib import Path

from tersor.hardware import Hardware
from tersor.recipe import Recipe
from tersor.scheduler.costs import EFFORT as COSTS_EFFORT
from tersor.scheduler.strategies.exact import Exact
from tersor.scheduler.trial import Strategy


@dataclass(frozen=True)
class Settings:
    """How to search: by which strategy and recipe, on how many samples, and where results are kept.

    Without a recipe weights are rounded by GPTQ where the machine has use for fewer than 8 bits of them. The
    `trials` are full validations of the network with other weights; those of finalists, two or three, come on
    top. A loss is measured on `loss_samples`. Without a file the journal lasts as long as the search. About
    `effort` mappings of each shape under each scheme are tried, of those of the finalists `last_effort`. On a
    CPU kernels are measured for `measuring` seconds. With `ablations` the report also says what searches
    reach that may choose less, with as many trials each; and what is chosen for the accelerators `also` is
    set beside what is chosen for the model's own. Of these there is as much as the budget has time for.
    """

    strategy: Strategy = field(default_factory=Exact)
    recipe: Recipe | None = None
    calibration_samples: int = 128
    trials: int = 7
    loss_samples: int = 64
    journal: Path | None = None
    seed: int = 0
    effort: int = COSTS_EFFORT
    last_effort: int = 12 * COSTS_EFFORT
    measuring: float = 60.0
    ablations: bool = False
    also: tuple[Hardware, ...] = ()

    @property
    def kernels(self) -> Path | None:
        """Where times of kernels are kept, beside the journal."""
        return self.journal and self.journal.with_suffix(".kernels")
