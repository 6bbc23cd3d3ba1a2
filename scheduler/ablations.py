"""Ablations: a problem with less to choose from, to see what each freedom is worth."""

from collections.abc import Sequence

from tersor.scheduler.problem import Choice, Policy, Problem
from tersor.scheme import Scheme


def schemes_of(problem: Problem) -> tuple[Scheme, ...]:
    """All schemes that some group may have, in the order of their text."""
    return tuple(sorted({each.scheme for row in problem.choices.values() for each in row}, key=str))


def mapping_only(problem: Problem) -> Problem:
    """Nothing is compressed: each group keeps its widest format, only mappings are chosen."""
    widest = {name: _widest(row) for name, row in problem.choices.items()}
    return problem.only(lambda name, choice: choice.scheme == widest[name])


def uniform(problem: Problem, scheme: Scheme) -> Problem:
    """One scheme for all groups that may have it; the others have the next wider one that they may have.

    Wider is a scheme with no fewer bits of weights and inputs, and with the factors and the pattern of
    `scheme` or none; of those the one that leaves the fewest products of bits. Where there is none, the
    widest of all.
    """
    given = {name: _nearest(row, scheme) for name, row in problem.choices.items()}
    return problem.only(lambda name, choice: choice.scheme == given[name])


def mapped(problem: Problem, policy: Policy) -> Problem:
    """The schemes of a policy stay, only mappings are chosen."""
    return problem.only(lambda name, choice: choice.scheme == policy[name].scheme)


def _widest(row: Sequence[Choice]) -> Scheme:
    plain = [each for each in row if not (each.scheme.factor or each.scheme.sparsity)]
    return min(plain or row, key=lambda each: (-_bits(each.scheme), each.loss, str(each.scheme))).scheme


def _nearest(row: Sequence[Choice], scheme: Scheme) -> Scheme:
    if any(each.scheme == scheme for each in row):
        return scheme
    wider = [
        each
        for each in row
        if each.scheme.weight_bits >= scheme.weight_bits
        and each.scheme.input_bits >= scheme.input_bits
        and each.scheme.factor in (None, scheme.factor)
        and each.scheme.sparsity in (None, scheme.sparsity)
    ]
    if not wider:
        return _widest(row)
    return min(wider, key=lambda each: (_bits(each.scheme), each.loss, str(each.scheme))).scheme


def _bits(scheme: Scheme) -> float:
    """Products of bits for each product of the layer."""
    density = scheme.sparsity.density if scheme.sparsity else 1.0
    return scheme.weight_bits * scheme.input_bits * density
