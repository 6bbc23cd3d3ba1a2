"""The page of a search: whole, escaped, and without anything from outside."""

import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tersor.autoscheduler.page import search_page, write_search_page
from tersor.autoscheduler.page.heat_table import shade
from tersor.autoscheduler.report import SearchedLayer, SearchReport
from tersor.cost import Cost
from tersor.error import UserError
from tersor.scheduler.contract import Contract
from tests.searched_reports import report

REPORT = report()
PAGE = search_page(REPORT)


class Reader(HTMLParser):
    """Reads a page strictly: every element is closed where it was opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.last = ""  # the element that began just before
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in ("meta", "wbr"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.last = tag
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.last == "wbr":  # where a name may break, it is still one name
            data = self.texts.pop() + data
        self.last = ""
        self.texts.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def headings(found: SearchReport) -> list[str]:
    return re.findall("<h2>(.*?)</h2>", search_page(found))


def test_the_page_is_whole() -> None:
    reader = read(PAGE)
    identifiers = [value for name, value in reader.attributes if name == "id"]
    assert len(identifiers) == len(set(identifiers)) > 10
    assert reader.tags.count("script") == 1
    assert reader.tags.count("svg") == 3


def test_nothing_comes_from_outside() -> None:
    assert set(re.findall(r"https?://[^\s\"'<)]*", PAGE)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    for name, value in read(PAGE).attributes:
        assert name not in ("src", "srcset", "data", "action", "poster")
        assert name != "href" or (value or "").startswith("#")
    assert "@import" not in PAGE
    assert "url(" not in re.sub(r"url\(#[\w-]+\)", "", PAGE)
    assert "default-src &#x27;none&#x27;" in PAGE


def test_every_layer_and_refusal_is_there_as_text() -> None:
    texts = read(PAGE).texts
    shown = set(texts)
    for layer in REPORT.layers:
        assert {layer.name, str(layer.scheme)} <= shown
    for cell in REPORT.cells:
        assert cell.layer in shown
        assert not cell.reason or cell.reason in shown
    for fallback in REPORT.fallbacks:
        assert {fallback.name, fallback.reason} <= shown
    assert REPORT.listing in shown
    assert "<script>alert" not in PAGE


def test_plans_ablations_machines_evaluations_and_phases_are_there() -> None:
    text = "\n".join(read(PAGE).texts)
    for named in (*REPORT.plans, *REPORT.ablations, *REPORT.evaluations):
        assert named.name in text
    for transfer in REPORT.transfers:
        assert f"on {transfer.run_on}" in text
    for spent in REPORT.spent:
        assert spent.phase in text
    assert "1.20 times its own plan's" in text
    assert "44 % more than joint" in text
    assert "within 0.32 % of the best" in text
    assert "4 min 54 s in all, 98.1 % of the budget of 5 min 0 s" in text


def test_the_binding_bound_is_named() -> None:
    assert (
        "Every bound is kept. Least energy; the tightest bound is that on accuracy lost, 84.0 % used." in PAGE
    )
    strict = replace(REPORT, contract=Contract("energy", max_latency=REPORT.choice.cost.seconds / 2))
    assert "It breaks the bound on latency: 2.07 ms instead of at most 1.03 ms." in search_page(strict)
    assert "nothing was bounded" in search_page(replace(REPORT, contract=Contract("energy")))


def test_what_does_not_apply_has_no_part() -> None:
    bare = SearchReport(
        model="net",
        hardware="cpu-avx2",
        strategy="exact",
        seed=0,
        contract=Contract("latency"),
        samples=1,
        has_labels=False,
        chosen="chosen",
        plans=(replace(REPORT.choice, cost=Cost(seconds=1e-3)),),
        layers=(SearchedLayer("fc", REPORT.layers[0].scheme, Cost(seconds=1e-3)),),
    )
    assert headings(bare) == ["Contract", "Plans", "Layers of the chosen plan"]
    assert read(search_page(bare)).tags.count("svg") == 1
    assert "energy" not in re.sub("<style>.*?</style>", "", search_page(bare), flags=re.DOTALL)
    assert headings(REPORT) == [
        "Contract", "Plans", "Layers of the chosen plan", "Tensors between layers", "Sensitivity",
        "What choosing together brings", "Other machines", "Evaluations", "Time", "Refusals", "Listing",
    ]  # fmt: skip


@pytest.mark.parametrize("goal", ["latency", "energy", "edp", "size", "drop"])
def test_any_quantity_may_be_minimised(goal: str) -> None:
    contract = Contract(goal, max_latency=1.0)  # type: ignore[arg-type]
    page = search_page(replace(REPORT, contract=contract))
    assert read(page).tags.count("svg") == (4 if goal == "edp" else 3)
    assert page.count("minimised</b>") == 1


def test_equal_reports_give_equal_bytes_in_any_process(tmp_path: Path) -> None:
    write_search_page(report(), tmp_path / "here.html")
    code = (
        "import sys; from pathlib import Path; from tersor.autoscheduler.page import write_search_page;"
        "from tests.searched_reports import report; write_search_page(report(), Path(sys.argv[1]))"
    )
    there = tmp_path / "there.html"
    subprocess.run([sys.executable, "-c", code, there], check=True, cwd=Path(__file__).parents[3])
    assert (tmp_path / "here.html").read_bytes() == there.read_bytes() == PAGE.encode()


def test_fifty_layers_are_less_than_two_megabytes() -> None:
    assert len(search_page(report(50)).encode()) < 2_000_000


def test_without_matplotlib_the_tables_have_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    page = search_page(REPORT)
    assert "There are no pictures: drawing needs matplotlib: pip install" in page
    assert read(page).tags.count("svg") == 0
    assert headings(REPORT) == re.findall("<h2>(.*?)</h2>", PAGE)


def test_a_page_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write"):
        write_search_page(REPORT, tmp_path / "missing" / "report.html")


def test_colours_of_the_heat_table_go_from_dark_to_light() -> None:
    grounds, texts = zip(*(shade(ratio, 60.0) for ratio in range(-10, 80)), strict=True)
    light = [0.299 * int(c[1:3], 16) + 0.587 * int(c[3:5], 16) + 0.114 * int(c[5:], 16) for c in grounds]
    assert light == sorted(light)
    assert grounds[0] == "#440154"
    assert grounds[-1] == "#fde725"
    assert texts == tuple(sorted(texts, reverse=True))  # white on dark, black on light


def test_tensors_that_stay_on_the_chip_are_told_from_those_that_do_not() -> None:
    texts = " ".join(read(PAGE).texts)
    assert "1 tensor of 2 stay on the chip" in texts
    assert "65536 bytes do not fit <buffer>" in texts
    assert "Tensors between layers" not in search_page(replace(REPORT, tensors=()))
