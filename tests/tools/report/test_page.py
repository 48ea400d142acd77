"""The report page: complete, escaped, without anything from outside."""

from __future__ import annotations

from tools.report.page import Page, Section, render

PAGE = Page(
    title="Run <one>",
    subtitle="a & b",
    tiles=[("mAP", "0.61", "purchase")],
    sections=[Section("Ranking", "intro", ["task", "mAP"], [["purchase", "0.61"]], "<svg id='s'></svg>", "note")],
)


def test_texts_are_escaped_and_figures_are_not() -> None:
    html = render(PAGE)
    assert "<title>Run &lt;one&gt;</title>" in html and "a &amp; b" in html
    assert "<svg id='s'></svg>" in html


def test_all_parts_are_there_in_order() -> None:
    html = render(PAGE)
    parts = ["mAP", "Ranking", "intro", "<svg", "<th>task</th>", "<td>purchase</td>", "note"]
    places = [html.index(part) for part in parts]
    assert places == sorted(places)


def test_nothing_comes_from_outside() -> None:
    html = render(PAGE)
    assert "http:" not in html and "https:" not in html and "<script" not in html and "<link" not in html
