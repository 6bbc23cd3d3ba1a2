"""Steps: the fewest that any spatial unrolling leaves of a layer, what does not divide rounded up.

With f_d units over dimension d, a step covers at most f_d of its iterations, so there are at least the
product of ceil(size_d / f_d) steps. The least of them is found dimension by dimension, by what is left of
each axis.
"""

from functools import cache
from itertools import product
from math import ceil, prod

from tersor.hardware import Hardware
from tersor.layer import Layer

JOINT = (
    2  # axes that are looked at together; the smallest of more are taken for one, which only lessens steps
)


def least_steps(layer: Layer, hardware: Hardware) -> int:
    """The fewest steps of the array, at least 1."""
    axes = [(axis.size, frozenset(axis.unrolls)) for axis in hardware.axes]
    while len(axes) > JOINT:
        first, second, *axes = sorted(axes, key=lambda axis: axis[0])
        axes.append((first[0] * second[0], first[1] | second[1]))
    dims = [dim for dim in "NGKCPQRS" if layer.size(dim) > 1]

    @cache
    def least(place: int, left: tuple[int, ...]) -> int:
        if place == len(dims):
            return 1
        dim, size = dims[place], layer.size(dims[place])
        ways = [
            _worth(units, size) if dim in unrolls else [1]
            for units, (_, unrolls) in zip(left, axes, strict=True)
        ]
        return min(
            ceil(size / prod(chosen))
            * least(place + 1, tuple(units // used for units, used in zip(left, chosen, strict=True)))
            for chosen in product(*ways)
        )

    return least(0, tuple(size for size, _ in axes))


def _worth(units: int, size: int) -> list[int]:
    """How many of `units` may be used: as many as leave the same to others, no more than `size`."""
    return sorted({min(units // left, size) for left in range(1, units + 1)})
