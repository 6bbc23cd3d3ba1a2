import pytest

from tersor.layer import Layer
from tersor.rank_rule import RankRule, on_grid, parse_request
from tersor.scheme import Scheme

FILTER = Layer("w", "conv2d", K=128, C=64, P=14, Q=14, R=3, S=3, padding=(1, 1, 1, 1))


@pytest.mark.parametrize(
    ("text", "scheme", "rule"),
    [
        ("int8+rank-macs50", "int8", RankRule("rank", "macs", 50)),
        ("ternary-a8+tucker-vbmf", "ternary-a8", RankRule("tucker", "vbmf")),
        ("fp32+spatial-energy95", "fp32", RankRule("spatial", "energy", 95)),
        ("int8+2:4+cp-macs30", "int8+2:4", RankRule("cp", "macs", 30)),
        ("int8+rank16", "int8+rank16", None),
    ],
)
def test_ranks_may_be_left_to_a_rule(text: str, scheme: str, rule: RankRule | None) -> None:
    assert parse_request(text) == (Scheme.parse(scheme), rule)
    if rule:
        assert str(rule) in text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("int8+rank-macs", "takes a percentage"),
        ("int8+rank-vbmf50", "takes a percentage"),
        ("int8+rank-macs0", "from 1 to 100 percent, got 0"),
        ("int8+rank-luck50", "by macs, energy, vbmf, got 'luck'"),
        ("int8+cp-energy50", "cp has no singular values"),
        ("int8+nonsense-macs50", "ranks are chosen for rank, spatial"),
        ("int8+rank16+cp-macs50", "names two factorizations"),
        ("int8+rank-macs50+cp-macs50", "names two rules"),
    ],
)
def test_a_wrong_rule_says_what_is_wrong(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse_request(text)


@pytest.mark.parametrize("name", ["rank", "spatial", "filtergroups", "tucker", "cp"])
def test_what_is_on_the_grid_multiplies_less_and_ascends(name: str) -> None:
    costs = [sum(part.macs for part in FILTER.factored(each)) for each in on_grid(name, FILTER)]
    assert len(costs) >= 3
    assert costs == sorted(costs)
    assert costs[-1] < FILTER.macs


def test_ranks_fill_vectors() -> None:
    inner = [part.G * part.K for each in on_grid("tucker", FILTER) for part in FILTER.factored(each)[:-1]]
    assert all(width % 8 == 0 for width in inner)
    assert all(FILTER.factored(each)[0].K % 16 == 0 for each in on_grid("rank", FILTER))


def test_nothing_is_on_the_grid_of_what_cannot_be_factored() -> None:
    assert on_grid("spatial", Layer("w", "matmul", K=64, C=64)) == ()
    assert on_grid("rank", Layer("w", "conv2d", G=64, P=8, Q=8, R=3, S=3)) == ()
