"""Reserve: the time that a search puts aside from its beginning, to compile what it will have found."""

from dataclasses import dataclass
from typing import Self

from tersor.stopwatch import Stopwatch

# A plan is compiled, its layers compared one by one, and the library linked: this took 1.5 (a
# network of 4 layers) to 1.9 times (ResNet-20) as long as compiling the evaluation.
_COMPILING = 2.0
# The part of it that the library takes to be linked and written: 0.33 to 0.39.
_WRITING = 0.5
# A plan that changes the network's form is calibrated before and behind that.
_CALIBRATING = 2.0
# The samples are run by the float and the integer network.
_RUNNING = 2.0
# Beside a finalist uniform int8 and fp32 are compiled where there is a race.
_BASELINES = 2


@dataclass(frozen=True)
class Reserve:
    """Seconds: the `least` for one plan, `all` for those compiled if there is time, `writing` at the end."""

    least: float
    all: float
    writing: float

    @classmethod
    def by(cls, compiling: float, calibrating: float, running: float, on_cpu: bool) -> Self:
        """What will be needed, by what was like it so far: the evaluation, which was compiled and run."""
        plan = _COMPILING * compiling + _CALIBRATING * calibrating + _RUNNING * running
        race = Stopwatch().limit if on_cpu else 0.0
        plans = 1 + _BASELINES if on_cpu else 1
        return cls(plan + race, plans * plan + race, _WRITING * compiling)
