"""Packing: the tensors that save the most by staying on the chip, if programs are to have a part of it left.

An exact integer program: the bytes that tensors do not move outside are to be the most, and wherever several
are there at once, they have to fit together.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from tersor.silence import quiet_stdout
from tersor.targets.accelerator.passing import Passed, Programs

STEPS = 16  # into which what is left of a memory is rounded down, so that more layers are searched alike


def pack(
    programs: Programs, part: float, given: Iterable[Passed] | None = None, beside: Sequence[Passed] = ()
) -> tuple[Passed, ...]:
    """The tensors that save the most together and leave each program `part` of the memory.

    They are some of those `given`, all that programs pass on if none are, and lie `beside` others.
    """
    able = [each for each in (programs.passed if given is None else given) if not programs.why_not(each)]
    room = programs.capacity * (1 - part)
    left = [max(room - sum(taken), 0.0) for taken in _taken(programs, beside)]
    chosen = _knapsack([programs.saved(each) for each in able], _taken(programs, able), left)
    found = [able[place] for place in chosen]
    while found and programs.rooms([*beside, *found]) is None:  # there is room, but not in one piece
        found.remove(min(found, key=programs.saved))
    return tuple(found)


def _taken(programs: Programs, tensors: Sequence[Passed]) -> list[list[int]]:
    """Bytes [programs, tensors] that each tensor takes while a program runs."""
    there = [programs.order.while_there(each.tensor) for each in tensors]
    return [
        [
            each.size if while_there >> number & 1 else 0
            for each, while_there in zip(tensors, there, strict=True)
        ]
        for number in range(len(programs.names))
    ]


def rounded(left: int, capacity: int) -> int:
    """What is left of a memory beside tensors that stay, rounded down to steps of it if it is one or more."""
    step = capacity // STEPS
    return max(left // step * step, min(left, step))


def _knapsack(worth: Sequence[float], taken: Sequence[Sequence[float]], left: Sequence[float]) -> list[int]:
    """The places of what is worth the most together and takes no more than is left anywhere."""
    if not worth:
        return []
    limits: Any = np.asarray(left)  # of which pyright takes one alone
    within = LinearConstraint(np.asarray(taken), -np.inf, limits)
    with quiet_stdout():
        solved = milp(
            -np.asarray(worth, np.float64),
            integrality=np.ones(len(worth)),
            bounds=Bounds(0, 1),
            constraints=within,
        )
    return [] if solved.x is None else [place for place, x in enumerate(solved.x) if x > 0.5]
