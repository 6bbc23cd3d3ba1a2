"""Recipe: by which algorithms a plan's schemes are carried out. A scheme says what, a recipe says how."""

from dataclasses import dataclass
from math import inf
from typing import ClassVar, Literal, get_args

from pydantic import ConfigDict

Calibration = Literal["minmax", "percentile", "mse", "kl"]
Rounding = Literal["nearest", "mse", "gptq", "adaround", "entropy"]
Criterion = Literal["magnitude", "global", "wanda", "obc", "taylor", "bn"]


@dataclass(frozen=True)
class Recipe:
    """The algorithms that choose and mend the numbers of a compressed network.

    - `calibration`: how activation ranges are read from the statistics (`passes.quantization.ranges`).
    - `bias_correction`: biases take up the mean error of rounded weights.
    - `equalize`: weights of neighbouring layers are scaled to like ranges first (cross-layer equalization).
    - `smooth`: how much of the spread of an input's channels goes into the weights, 0 to 1 (SmoothQuant's
      alpha); 0 leaves all of it in the input.
    - `rounding`: how a weight finds its codes: the nearest within the extremes or within the range of least
      squared error, or by what the layer's output loses (GPTQ, AdaRound), or by that and by how few bits the
      codes take when they are entropy coded.
    - `rate`: what a bit must be worth to that last rounding: the part of a layer's output power by which it
      has to lower the noise.
    - `criterion`: which weights or channels are dropped.
    - `repair`: what is kept is fitted to the layer's output on calibration data.
    - `data_aware`: factors minimize the error of the layer's output instead of the weight's.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    calibration: Calibration = "mse"
    bias_correction: bool = True
    equalize: bool = False
    smooth: float = 0.0
    rounding: Rounding = "nearest"
    rate: float = 3e-7
    criterion: Criterion = "magnitude"
    repair: bool = True
    data_aware: bool = True

    def __post_init__(self) -> None:
        for what, value, kind in (
            ("calibration", self.calibration, Calibration),
            ("rounding", self.rounding, Rounding),
            ("criterion", self.criterion, Criterion),
        ):
            if value not in get_args(kind):
                raise ValueError(f"{what} is one of {', '.join(get_args(kind))}, got {value!r}")
        if not 0 <= self.rate < inf:
            raise ValueError(f"rate is a number not below 0, got {self.rate}")
        if not 0 <= self.smooth <= 1:
            raise ValueError(f"smooth is a share from 0 to 1, got {self.smooth}")
