"""Coupling: whose inputs can only be narrow where others' are, since they read the same tensors.

A tensor is as wide as its widest reader, and a layer computes with what is there. What the compiler makes of
schemes says it all: if a layer of many narrow ones is the only wide one, those that become wide are no
narrower than it.
"""

from collections.abc import Mapping

from tersor.scheduler.problem import Problem
from tersor.scheme import INT8, Scheme

NARROW = Scheme.parse("int4")


def no_narrower(problem: Problem) -> dict[str, tuple[str, ...]]:
    """Of each group those that its inputs are carried out no narrower than.

    A group whose inputs are wide whatever the schemes are is not among them.
    """
    every = {layer: NARROW for group in problem.groups.values() for layer in group}
    able = _narrow(problem, problem.carried_out(every))
    found: dict[str, list[str]] = {name: [] for name in problem.groups}
    for name, group in problem.groups.items():
        left = _narrow(problem, problem.carried_out({**every, **dict.fromkeys(group, INT8)}))
        for other in able - left - {name}:
            found[other].append(name)
    return {name: tuple(others) for name, others in found.items() if others}


def _narrow(problem: Problem, schemes: Mapping[str, Scheme]) -> set[str]:
    """The groups all of whose layers have narrow inputs."""
    return {
        name
        for name, group in problem.groups.items()
        if all(schemes[layer].input_bits < INT8.input_bits for layer in group)
    }
