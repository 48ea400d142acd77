"""Figures: valid, self-contained, reproducible SVG that shows what it is given."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from tools.report import figures
from tools.report.figures import Curve, Score


def _scores() -> str:
    return figures.scores_figure(
        {
            "purchase": [
                Score("this model", 0.61, (0.60, 0.62), "model"),
                Score("display order", 0.45, (0.44, 0.46), "baseline"),
                Score("Bayes ceiling", 0.70, None, "ceiling"),
            ],
            "click": [Score("this model", 0.5, (0.4, 0.6), "model")],
        }
    )


def _all() -> dict[str, str]:
    generator = np.random.default_rng(1)
    return {
        "scores": _scores(),
        "lines": figures.lines_figure({"loss": {"train": Curve([1, 2], [3.0, 2.0], [2.5, 1.5], [3.5, 2.5])}}, "step"),
        "delays": figures.delay_figure({"purchase": generator.integers(0, 10**8, 50)}, {"purchase": 259_200_000}),
        "lengths": figures.lengths_figure({"train": generator.integers(5, 30, 100), "test": np.array([3, 4])}),
    }


@pytest.mark.parametrize("name", ["scores", "lines", "delays", "lengths"])
def test_a_figure_is_svg_that_needs_no_other_file(name: str) -> None:
    text = _all()[name]
    assert ElementTree.fromstring(text).tag.endswith("svg")
    outside = [line for line in text.splitlines() if 'href="http' in line or "@import" in line]
    assert not outside


def test_the_same_figure_gives_the_same_text() -> None:
    assert _scores() == _scores()


def test_a_task_without_any_engagement_still_draws() -> None:
    assert figures.delay_figure({"purchase": np.array([], np.int64)}, {"purchase": 1000}).startswith("<svg")
