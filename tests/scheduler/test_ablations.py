from tersor.cost import Cost
from tersor.scheduler.ablations import mapped, mapping_only, schemes_of, uniform
from tersor.scheduler.problem import Choice, Problem
from tersor.scheme import Scheme


def row(*texts: str) -> tuple[Choice, ...]:
    """Two mappings of each scheme."""
    return tuple(
        Choice(Scheme.parse(text), Cost(seconds=seconds), 0.1) for text in texts for seconds in (1.0, 2.0)
    )


PROBLEM = Problem(
    {
        "stem": row("int8", "w4a8"),
        "body": row("int8", "w4a8", "w2a8", "int8+2:4", "w4a8+2:4", "int8+rank16"),
        "head": row("fp32", "int8", "int8+2:4"),
    },
    {name: (name,) for name in ("stem", "body", "head")},
)


def left(problem: Problem) -> dict[str, set[str]]:
    return {name: {str(each.scheme) for each in row} for name, row in problem.choices.items()}


def test_all_schemes_of_a_problem() -> None:
    texts = [str(scheme) for scheme in schemes_of(PROBLEM)]
    assert texts == ["fp32", "int8", "int8+2:4", "int8+rank16", "w2a8", "w4a8", "w4a8+2:4"]


def test_mapping_only_leaves_the_widest_format_with_all_its_mappings() -> None:
    only = mapping_only(PROBLEM)
    assert left(only) == {"stem": {"int8"}, "body": {"int8"}, "head": {"fp32"}}
    assert {len(row) for row in only.choices.values()} == {2}


def test_uniform_gives_the_next_wider_where_a_group_may_not_have_the_scheme() -> None:
    assert left(uniform(PROBLEM, Scheme.parse("w4a8"))) == {
        "stem": {"w4a8"},
        "body": {"w4a8"},
        "head": {"int8"},
    }
    assert left(uniform(PROBLEM, Scheme.parse("w2a8"))) == {
        "stem": {"w4a8"},
        "body": {"w2a8"},
        "head": {"int8"},
    }
    assert left(uniform(PROBLEM, Scheme.parse("w4a8+2:4"))) == {
        "stem": {"w4a8"},
        "body": {"w4a8+2:4"},
        "head": {"int8+2:4"},
    }
    assert left(uniform(PROBLEM, Scheme.parse("int8+rank16")))["stem"] == {"int8"}


def test_where_nothing_is_wider_the_widest_stays() -> None:
    assert left(uniform(PROBLEM, Scheme.parse("fp32"))) == {
        "stem": {"int8"},
        "body": {"int8"},
        "head": {"fp32"},
    }


def test_a_policy_may_be_mapped_anew() -> None:
    policy = {name: row[0] for name, row in PROBLEM.choices.items()}
    again = mapped(PROBLEM, policy)
    assert left(again) == {"stem": {"int8"}, "body": {"int8"}, "head": {"fp32"}}
    assert again.size == 8
