"""Markup: what is text stays text."""

from html import unescape

from hypothesis import given
from hypothesis import strategies as st

from tersor.autoscheduler.page.markup import Cell, Markup, bar, code, element, section, table


@given(st.text())
def test_text_is_escaped_once(text: str) -> None:
    inner = element("b", text)
    assert unescape(inner.removeprefix("<b>").removesuffix("</b>")) == text
    assert not set(inner[3:-4]) & set('<>"')
    assert element("p", inner) == f"<p>{inner}</p>"


def test_attributes_are_escaped_and_named_as_in_html() -> None:
    assert element("td", class_="a", data_value='"1" & 2') == (
        '<td class="a" data-value="&quot;1&quot; &amp; 2"></td>'
    )
    assert element("meta", name="viewport") == '<meta name="viewport">'


def test_a_name_may_break_behind_dots_and_is_escaped() -> None:
    assert code("a.b::<c>_") == "<code>a.<wbr>b::<wbr>&lt;c&gt;_</code>"


def test_a_section_without_content_is_none() -> None:
    assert section("a", "A", Markup(), "") == ""
    assert section("a", "A", "text") == '<section id="a"><h2>A</h2>text</section>'


def test_columns_of_numbers_are_aligned_to_the_right() -> None:
    rows = [("", ["x", Cell("1 s", 1.0), Cell("-")]), ("best", ["y", Cell("2 s", 2.0), Cell("1", 1.0)])]
    found = table(("name", "time", "mixed"), rows)
    assert '<th scope="col" class="number">time</th>' in found
    assert '<th scope="col">mixed</th>' in found
    assert '<tr class="best"><th scope="row">y</th><td class="number" data-value="2">2 s</td>' in found


def test_a_bar_ends_where_its_place_does() -> None:
    assert "width:100.0%" in bar(7.0)
    assert "width:0.0%" in bar(-1.0)
    assert "width:12.5%" in bar(0.125)
