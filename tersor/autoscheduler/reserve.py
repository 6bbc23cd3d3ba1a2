"""Reserve: the time that a search puts aside from its beginning, to compile and write what it will find.

What is to come is judged by what was like it so far, in this run and beside all else that the machine does:
first by compiling the float network, then by compiling and running the evaluation, and for another plan by
the one before. The factors are of networks of 3 to 22 layers, rounded up.
"""

from dataclasses import dataclass, replace
from typing import Self

from tersor.scheduler.costs import THOROUGH
from tersor.stopwatch import Stopwatch
from tersor.targets.accelerator.mapper.mapper import EFFORT as MAPPED  # in a second, about

# The evaluation, whose tensors are open, is compiled 1.3 to 2.1 times as long as the float network.
_OPENED = 1.5
# A plan is compiled, its layers compared one by one, and on an accelerator the rest of it compiled again:
# this took 1.5 to 2.0 times as long as compiling the evaluation.
_COMPILING = 2.2
# The part of it that the library takes to be linked and written.
_WRITING = 0.5
# The report and its page, the plans of the front, and the end of the process, in s of an idle core.
_TELLING = 3.5
# A plan that changes the network's form is calibrated before and behind that.
_CALIBRATING = 2.0
# The samples are run by the float and the integer network.
_RUNNING = 2.0
# Beside a finalist uniform int8 and fp32 are compiled where there is a race.
_BASELINES = 2
# A layer's first mappings on an accelerator, in s of an idle core: of each shape 0.4 to 0.8, on two cores.
_MAPPING = 0.5
_SIMULATING = 5e-8  # of a MAC: the simulator makes 20 to 150 million in a second
_STARTING = 60.0  # when the simulator runs for the first time after it was installed, it is compiled itself
# What is named as enough, as a part of what is thought to be needed.
_ENOUGH = 1.2


@dataclass(frozen=True)
class Reserve:
    """Seconds: to search so far that there is a plan, to compile a `plan`, to race it, and for what follows.

    There are `others` to be compiled beside a plan if there is time. All takes `slow` times as long as on an
    idle core.
    """

    search: float
    plan: float
    race: float
    writing: float
    others: int = 0
    slow: float = 1.0

    @classmethod
    def expected(cls, compiling: float, on_cpu: bool) -> Self:
        """What will be needed at the least, if the float network was compiled in so many seconds."""
        opened = _OPENED * compiling
        return cls(opened, _COMPILING * opened, cls._racing(on_cpu), _WRITING * opened)

    @classmethod
    def by(
        cls, compiling: float, calibrating: float, running: float, layers: int, slow: float, on_cpu: bool
    ) -> Self:
        """What will be needed, by the evaluation, which was compiled, and run on all samples.

        `layers` are the shapes to be searched.
        """
        mapping = 0.0 if on_cpu else _MAPPING * slow * layers
        return cls(
            search=running + mapping,
            plan=_COMPILING * compiling + _CALIBRATING * calibrating + _RUNNING * running,
            race=cls._racing(on_cpu),
            writing=_WRITING * compiling + _TELLING * slow,
            others=_BASELINES if on_cpu else 0,
            slow=slow,
        )

    @property
    def least(self) -> float:
        """For one plan and what follows."""
        return self.plan + self.race + self.writing

    @property
    def all(self) -> float:
        """For all plans that are compiled if there is time."""
        return self.least + self.others * self.plan

    def rounding(self, seconds: float) -> Self:
        """What is needed if weights, which took so long to round by data, are rounded again for each plan."""
        return replace(self, plan=self.plan + seconds)

    def after(self, seconds: float) -> Self:
        """What is needed for another plan after one took so many seconds."""
        return replace(self, plan=max(self.plan, seconds))

    def refining(self, effort: int) -> float:
        """What the longest of many searches for mappings may take, each of a shape with so much effort."""
        return self.slow * THOROUGH * effort / MAPPED

    def simulating(self, macs: int) -> float:
        """What running a network of so many products takes that is simulated for the first time."""
        return self.slow * (_STARTING + _SIMULATING * macs)

    def enough(self, spent: float) -> float:
        """A budget that will do, if so much of it is spent."""
        return _ENOUGH * (spent + self.search + self.least)

    @staticmethod
    def _racing(on_cpu: bool) -> float:
        return Stopwatch().limit if on_cpu else 0.0
