"""Rules: layers by name and kind, the first that matches wins, and none that gets nothing passes unseen."""

from pathlib import Path

import pytest

from tersor.config import Config
from tersor.error import UserError
from tersor.layer import Layer
from tersor.network import Network
from tersor.rule import Kind, Rule, assign
from tersor.scheme import INT8, Scheme

NETWORK = Network(
    (
        Layer("words", "gather", C=100, K=16),
        Layer("stem.weight", "conv2d", C=3, K=16, R=3, S=3),
        Layer("block1.dw[0]", "conv2d", G=16, R=3, S=3),
        Layer("block1.pw", "conv2d", C=16, K=32),
        Layer("attention", "matmul", C=8, K=8, weight_bearing=False),
        Layer("lstm", "matmul", C=8, K=32, recurrent=True),
        Layer("fc", "matmul", C=32, K=10),
    )
)
W4 = Scheme.parse("w4a8")


def named(layers: str = "*", kind: Kind = "any") -> list[str]:
    return list(assign((Rule(INT8, layers, kind),), NETWORK))


@pytest.mark.parametrize(
    ("kind", "layers"),
    [
        ("conv2d", ["stem.weight", "block1.dw[0]", "block1.pw"]),
        ("depthwise", ["block1.dw[0]"]),
        ("pointwise", ["block1.pw"]),
        ("dense", ["fc"]),
        ("recurrent", ["lstm"]),
        ("table", ["words"]),
        ("product", ["attention"]),
        ("first", ["stem.weight"]),
        ("last", ["fc"]),
        ("any", [layer.name for layer in NETWORK.layers]),
    ],
)
def test_a_rule_is_about_a_kind_of_layer(kind: Kind, layers: list[str]) -> None:
    assert named(kind=kind) == layers


def test_a_name_is_matched_whole_and_only_stars_and_question_marks_are_wild() -> None:
    assert named("block1.*") == ["block1.dw[0]", "block1.pw"]
    assert named("block?.dw[0]") == ["block1.dw[0]"]
    assert named("*", "conv2d") == named("*.weight", "conv2d") + named("block1.*", "conv2d")
    with pytest.raises(UserError, match="matches no layer"):
        named("block1")


def test_the_first_rule_that_matches_is_taken_and_others_have_none() -> None:
    first, second = Rule(W4, "block1.*"), Rule(INT8, kind="conv2d")
    assert assign((first, second), NETWORK) == {
        "stem.weight": second,
        "block1.dw[0]": first,
        "block1.pw": first,
    }


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ((Rule(W4, "layer9.*"),), r"the rule for layer9.\* matches no layer"),
        ((Rule(W4, "fc", "conv2d"),), r"the rule for fc \(conv2d\) matches no layer"),
        ((Rule(INT8), Rule(W4, "fc")), "earlier rules have all layers that fc matches"),
    ],
)
def test_a_rule_that_names_layers_and_gets_none_is_refused(rules: tuple[Rule, ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        assign(rules, NETWORK)


def test_a_rule_about_a_kind_may_find_none() -> None:
    assert assign((Rule(W4, kind="depthwise"),), Network((Layer("fc", "matmul"),))) == {}


JSON = (
    '{"rules": [{"layers": "layer1.*", "scheme": "w4a8"}, {"scheme": "int8"}], "recipe": {"rounding": "mse"}}'
)
TOML = """
recipe.rounding = "mse"
[[rules]]
layers = "layer1.*"
scheme = "w4a8"
[[rules]]
scheme = "int8"
"""


@pytest.mark.parametrize(("ending", "text"), [("json", JSON), ("toml", TOML)])
def test_rules_are_read_from_a_file(ending: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / f"rules.{ending}"
    path.write_text(text)
    config = Config.load(path)
    assert config.rules == (Rule(W4, "layer1.*"), Rule(INT8))
    assert config.recipe.rounding == "mse"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"rules": [{"layer": "fc", "scheme": "int8"}]}', "rules.0.layer is an unknown key"),
        ('{"rules": [{"layers": "fc"}]}', "rules.0.scheme is missing"),
        ('{"rules": [{"layers": "fc", "scheme": "magic"}]}', "'magic' is no scheme"),
        ('{"rules": [{"kind": "big", "scheme": "int8"}]}', "rules.0.kind must be"),
        ('{"rules": [{"scheme": "int8"}], "scheme": "auto"}', "auto chooses for every layer"),
    ],
)
def test_a_mistake_in_a_file_is_named(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "rules.json"
    path.write_text(text)
    with pytest.raises(UserError, match=said) as raised:
        Config.load(path)
    assert str(path) in str(raised.value)
