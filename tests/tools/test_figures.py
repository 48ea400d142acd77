"""The figures of the models: those in the docs are what the script draws, and arrows meet boxes."""

from __future__ import annotations

import xml.etree.ElementTree
from pathlib import Path

import pytest

from cvr import backbones
from tools.figures.drawing import Drawing
from tools.figures.models import FIGURES


@pytest.mark.parametrize("name", backbones.names())
def test_the_docs_have_what_the_script_draws(name: str, project_root: Path) -> None:
    text = FIGURES[name]().svg()
    assert (project_root / "docs" / "figures" / f"{name}.svg").read_text(encoding="utf-8") == text
    root = xml.etree.ElementTree.fromstring(text)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for box in root.iter("{http://www.w3.org/2000/svg}rect"):
        x, y = float(box.get("x", 0)), float(box.get("y", 0))
        assert x >= 0 and y >= 0 and x + float(box.attrib["width"]) <= width and y + float(box.attrib["height"]) <= height


def test_chains_go_straight_or_in_a_step() -> None:
    drawing = Drawing(300, 100)
    first, second = drawing.box(0, 0, "a", width=40, height=20), drawing.box(60, 0, "b < c", width=40, height=20)
    third = drawing.sign(150, 50, "+")
    drawing.chain(first, second, third)
    text = drawing.svg()
    assert 'points="40,10 60,10"' in text and 'points="100,10 119,10 119,50 138,50"' in text
    assert "b &lt; c" in text and (third.left, third.top) == ((138, 50), (150, 38))
