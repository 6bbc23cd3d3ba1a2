"""Precision: which layers lose by integers, when changing between formats costs time as well.

    minimize  sum over layers of the time in its format  +  sum over edges between two formats of a conversion

Two formats make this a minimum cut (Greig, Porteous and Seheult 1989), which is exact and takes no time.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

# Capacities are integers: this many of them are the sum of all times, as near as 32 bits allow.
RESOLUTION = 1 << 29


@dataclass(frozen=True)
class Times:
    """Seconds that a layer takes in each format, with the conversions that it alone would need there."""

    integer: float
    floating: float

    def __post_init__(self) -> None:
        if not (self.integer >= 0 and self.floating >= 0):
            raise ValueError(f"times are not negative, got {self.integer} and {self.floating} s")


def better_in_float(
    times: Mapping[str, Times], conversions: Mapping[tuple[str, str], float]
) -> frozenset[str]:
    """Give the layers that run in float in the fastest choice; of equal ones that with the fewest.

    `conversions` are seconds by pairs of layers, spent if just one of the two runs in integers; pairs with a
    layer that has no times are left out.
    """
    names = list(times)
    total = sum(each.integer + each.floating for each in times.values()) + sum(conversions.values())
    if not names or total == 0:
        return frozenset()
    node = {name: 2 + i for i, name in enumerate(names)}
    floating, integer = 0, 1  # the two ends: a layer runs in the format of the end that it stays with
    capacities = np.zeros((len(names) + 2,) * 2)
    for name, each in times.items():
        capacities[floating, node[name]] = each.integer
        capacities[node[name], integer] = each.floating
    for (one, other), seconds in conversions.items():
        if one in node and other in node:
            capacities[node[one], node[other]] += seconds
            capacities[node[other], node[one]] += seconds
    scaled = csr_array(np.round(capacities * (RESOLUTION / total)).astype(np.int32))
    residual = csr_array(scaled - maximum_flow(scaled, floating, integer).flow)
    residual.eliminate_zeros()
    reached = breadth_first_order(residual, floating, return_predecessors=False)
    return frozenset(names[i - 2] for i in reached if i >= 2)
