"""Vector operators: what the vector unit makes of whole tensors of uint8 codes, without the array.

Each is what the function of `tersor.arithmetic` that it names computes, to the last bit. Tensors are
[N, C, H, W]; where no window is involved, any of that many elements.
"""

from dataclasses import dataclass
from typing import ClassVar

from pydantic import ConfigDict

from tersor.layer import Layer
from tersor.targets.accelerator.isa.epilogue import UINT8, Bounds, check_codes, check_multipliers

Shape = tuple[int, int, int, int]


@dataclass(frozen=True)
class Add:
    """The sum of two tensors of one shape, each brought to the output's scale first (`arithmetic.add`)."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    a_multiplier: float
    a_zero_point: int
    b_multiplier: float
    b_zero_point: int
    zero_point: int
    bounds: Bounds = UINT8

    def __post_init__(self) -> None:
        check_multipliers(self.a_multiplier, self.b_multiplier)
        check_codes(self.a_zero_point, self.b_zero_point, self.zero_point, *self.bounds)


@dataclass(frozen=True)
class MaxPool:
    """The largest code of each window (`arithmetic.max_pool`); padding is top, left, bottom, right."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)

    def __post_init__(self) -> None:
        _check_window(self.kernel, self.stride)
        if min(self.padding) < 0:
            raise ValueError(f"a pooling's padding is not negative, got {self.padding}")


@dataclass(frozen=True)
class AveragePool:
    """The mean of each window, in another scale (`arithmetic.average_pool`)."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    multiplier: float
    in_zero_point: int
    zero_point: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    bounds: Bounds = UINT8

    def __post_init__(self) -> None:
        check_multipliers(self.multiplier)
        check_codes(self.in_zero_point, self.zero_point, *self.bounds)
        _check_window(self.kernel, self.stride)


@dataclass(frozen=True)
class Recode:
    """Codes of another scale and zero point (`arithmetic.rescale`)."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    multiplier: float
    in_zero_point: int
    zero_point: int
    bounds: Bounds = UINT8

    def __post_init__(self) -> None:
        check_multipliers(self.multiplier)
        check_codes(self.in_zero_point, self.zero_point, *self.bounds)


VectorOperator = Add | MaxPool | AveragePool | Recode


def loop_nest(name: str, operator: VectorOperator, shape: Shape) -> Layer:
    """The loops of an operator on an input of `shape`: those of a depthwise convolution.

    N, G (channels), P and Q are those of the output, R and S those of the window. Raises ValueError where
    the window is larger than the padded input.
    """
    batch, channels, height, width = shape
    padding = operator.padding if isinstance(operator, MaxPool) else (0, 0, 0, 0)
    pools = isinstance(operator, MaxPool | AveragePool)
    kernel, stride = (operator.kernel, operator.stride) if pools else ((1, 1), (1, 1))
    rows = height + padding[0] + padding[2] - kernel[0]
    columns = width + padding[1] + padding[3] - kernel[1]
    if min(rows, columns) < 0:
        raise ValueError(f"{name}: a window of {kernel} is larger than its input of {height} by {width}")
    return Layer(
        name,
        "conv2d",
        N=batch,
        G=channels,
        P=rows // stride[0] + 1,
        Q=columns // stride[1] + 1,
        R=kernel[0],
        S=kernel[1],
        stride=stride,
        padding=padding,
        weight_bearing=False,
    )


def _check_window(kernel: tuple[int, int], stride: tuple[int, int]) -> None:
    if min(*kernel, *stride) < 1:
        raise ValueError(f"a pooling's window and stride are at least 1, got {kernel} and {stride}")
