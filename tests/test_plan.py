import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersor.document import parse_json, to_json
from tersor.error import UserError
from tersor.mapping import Keep, Loop, Mapping
from tersor.plan import EdgePlan, GroupPlan, LayerPlan, Plan
from tersor.scheme import FP32, INT8, Scheme

MODEL = "0123456789abcdef" * 4
PLAN = Plan(
    model=MODEL,
    hardware="edge",
    layers={
        "fc1.weight": LayerPlan(Scheme.parse("int8+2:4"), reason="saves 3 ms"),
        "conv.weight": LayerPlan(
            INT8, (Mapping((Loop("K", 4, "dram"), Loop("C", 8, "rows")), (Keep("weight", "dram"),)),)
        ),
    },
    groups=(GroupPlan(("fc1.weight", "conv.weight"), (0, 1, 2, 5, 7, 8)),),
    edges=(EdgePlan("conv.weight", "fc1.weight", "NCHW16c"),),
)


def test_a_saved_plan_loads_as_itself(tmp_path: Path) -> None:
    PLAN.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == PLAN
    assert [file.name for file in tmp_path.iterdir()] == ["plan.json"]


def test_a_scheme_is_edited_as_text(tmp_path: Path) -> None:
    PLAN.save(tmp_path / "plan.json")
    text = (tmp_path / "plan.json").read_text()
    (tmp_path / "plan.json").write_text(text.replace("int8+2:4", "int8+rank16"))
    assert str(Plan.load(tmp_path / "plan.json").layers["fc1.weight"].scheme) == "int8+rank16"


@given(st.permutations(["a", "b", "c", "d"]))
def test_the_bytes_do_not_depend_on_the_order_of_the_layers(names: list[str]) -> None:
    plan = Plan(model=MODEL, hardware="cpu", layers={name: LayerPlan(FP32) for name in names})
    ordered = Plan(model=MODEL, hardware="cpu", layers={name: LayerPlan(FP32) for name in "abcd"})
    assert to_json(plan, Plan) == to_json(ordered, Plan)


def test_keys_with_defaults_may_be_left_out() -> None:
    text = json.dumps({"model": MODEL, "hardware": "cpu", "layers": {"fc": {"scheme": "int8"}}})
    assert parse_json(text, Plan, "plan.json") == Plan(MODEL, "cpu", {"fc": LayerPlan(INT8)})


def edited(**changes: object) -> str:
    return json.dumps(json.loads(to_json(PLAN, Plan)) | changes)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "plan.json is not JSON: .* line 1 column 2"),
        ("[]", "plan.json: the document must be"),
        ('{"version": 1, "version": 1}', "'version' is written twice"),
        (edited(colour="red"), "plan.json: colour is an unknown key; remove it"),
        (edited(layers={"fc": {"shceme": "int8"}}), r"layers\.fc\.scheme is missing.*\(and 1 more\)"),
        (edited(layers={"fc": {"scheme": "int8", "why": ""}}), r"layers\.fc\.why is an unknown key"),
        (edited(layers={"fc": {"scheme": "bf8"}}), r"layers\.fc\.scheme: 'bf8' is no scheme"),
        (edited(layers={"fc": {"scheme": "int8+4:2"}}), r"N:M sparsity needs 0 < n < m, got 4:2"),
        (edited(layers={"fc": {"scheme": 8}}), r"layers\.fc\.scheme: write a scheme as text"),
        (edited(layers={"fc": {"scheme": "int8", "mappings": [{"loops": ["Z=4@dram"]}]}}), "is no loop"),
        (edited(layers={"fc": {"scheme": "int8", "mappings": [{"lops": []}]}}), "write a mapping as"),
        (edited(version=1), "version must be 2, got 1"),
        (edited(recipe={"calibration": "guess"}), r"recipe\.calibration must be .*'minmax'.*, got 'guess'"),
        (edited(model="abc"), "model is a sha256"),
        (
            edited(recipe={"bias_correction": "yes"}),
            r"recipe\.bias_correction must be a .*, got 'yes'",
        ),
        (edited(statistics=float("nan")), "NaN is no JSON number"),
    ],
)
def test_a_mistake_is_one_sentence_naming_file_and_key(text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        parse_json(text, Plan, "plan.json")


def test_a_plan_that_is_not_there_is_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*none\.json: No such file"):
        Plan.load(tmp_path / "none.json")
    with pytest.raises(UserError, match="cannot read"):
        Plan.load(tmp_path)
    with pytest.raises(UserError, match=r"cannot write .*plan\.json"):
        PLAN.save(tmp_path / "none" / "plan.json")


def test_a_plan_for_another_model_is_refused() -> None:
    PLAN.check_model(MODEL)
    with pytest.raises(UserError, match="made for another model"):
        PLAN.check_model("f" * 64)


def test_a_plan_that_names_an_unknown_layer_is_refused() -> None:
    PLAN.check_layers(["conv.weight", "fc1.weight", "other"])
    with pytest.raises(UserError, match=r"'fc1\.weight', which the model does not have"):
        PLAN.check_layers(["conv.weight"])
