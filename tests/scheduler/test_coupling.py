"""Who reads one tensor reads it with the same bits: what a compiler widens is found, and not chosen."""

from collections.abc import Mapping
from dataclasses import replace

from tersor.cost import Cost
from tersor.scheduler.coupling import no_narrower
from tersor.scheduler.problem import Choice, Problem
from tersor.scheduler.search import solve
from tersor.scheme import INT8, Scheme

NARROW = Scheme.parse("int4")


def problem(groups: Mapping[str, tuple[str, ...]]) -> Problem:
    row = tuple(Choice(scheme, Cost(), 0.0) for scheme in (INT8, NARROW))
    return Problem(dict.fromkeys(groups, row), groups, carried_out=carried_out)


def carried_out(schemes: Mapping[str, Scheme]) -> Mapping[str, Scheme]:
    """q and k read one tensor; what `first` reads is added to the result of `last`; floats read `head`'s."""
    found = dict(schemes)
    if INT8 in (schemes["q"], schemes["k"]):
        found |= {name: replace(schemes[name], input=INT8.input) for name in "qk"}
    if schemes["last"].input == INT8.input:
        found["first"] = replace(schemes["first"], input=INT8.input)
    found["head"] = replace(schemes["head"], input=INT8.input)
    return found


SINGLE = {name: (name,) for name in ("q", "k", "first", "last", "head")}


def test_readers_of_one_tensor_are_coupled_both_ways_and_a_sum_one_way() -> None:
    assert no_narrower(problem(SINGLE)) == {"q": ("k",), "k": ("q",), "first": ("last",)}


def test_what_has_only_wide_formats_keeps_wide_what_reads_the_same() -> None:
    free = problem(SINGLE)
    wide = replace(free, choices={**free.choices, "k": free.choices["k"][:1]})
    choices = {
        name: tuple(replace(each, cost=Cost(energy=float(each.scheme.input_bits))) for each in row)
        for name, row in wide.choices.items()
    }
    coupled = replace(wide, choices=choices, no_narrower=no_narrower(wide))
    chosen = solve(coupled, "energy").policy
    bits = {name: choice.scheme.input_bits for name, choice in chosen.items()}
    assert bits == {"q": 8, "k": 8, "first": 4, "last": 4, "head": 4}


def test_tied_layers_are_narrow_together() -> None:
    groups = {"q": ("q", "first"), "k": ("k",), "last": ("last",), "head": ("head",)}
    assert no_narrower(problem(groups)) == {"q": ("k", "last"), "k": ("q",)}


def test_where_all_is_carried_out_as_it_is_nothing_is_coupled() -> None:
    assert no_narrower(replace(problem(SINGLE), carried_out=dict)) == {}
