"""Reports of scored lists: baselines, summaries and tables, on two lists worked out by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cvr.reports import evaluate_task, score_frame, table
from cvr.scoring import ScoredLists


@pytest.fixture
def scored() -> ScoredLists:
    """List a: the positive is displayed third and scored first. List b: no click, and two purchases."""
    return ScoredLists(
        search_id=np.array([b"a", b"b"], object),
        time=np.array([10, 20]),
        lengths=np.array([3, 2]),
        item=np.array([11, 12, 13, 14, 15]),
        position=np.array([1, 2, 3, 1, 2], np.int32),
        popularity=np.array([0.0, 5.0, 3.0, 1.0, 2.0], np.float32),
        labels=np.array([[0, 1], [0, 0], [1, 0], [1, 0], [1, 0]], np.float32),
        delay=np.full((5, 2), -1),
        scores=np.array([[0.1, 0.9], [0.2, 0.1], [0.7, 0.2], [0.5, 0.5], [0.4, 0.6]], np.float32),
    )


def test_summary_and_baselines(scored: ScoredLists) -> None:
    summary, frame = evaluate_task(scored, 0, replicates=20)
    assert (summary["lists"], summary["positives"]) == (2, 3)
    assert summary["map"] == 1.0 and summary["map_ci"] == [1.0, 1.0]
    assert summary["baselines"]["display_order"]["map"] == pytest.approx((1 / 3 + 1) / 2)
    assert summary["baselines"]["popularity"]["mrr"] == pytest.approx((1 / 2 + 1) / 2)
    assert summary["gauc"] == 1.0  # of list a alone: list b has no negative
    assert (
        frame.search_id.tolist() == ["a", "b"]
        and frame.positives.tolist() == [1, 2]
        and frame["items"].tolist() == [3, 2]
    )
    np.testing.assert_allclose(frame.map_display_order, [1 / 3, 1.0])
    np.testing.assert_allclose(frame.map_popularity, [1 / 2, 1.0])


def test_lists_without_popularity_have_no_such_baseline(scored: ScoredLists) -> None:
    scored = dataclasses.replace(scored, popularity=np.full(5, np.nan, np.float32))
    summary, frame = evaluate_task(scored, 0, replicates=20)
    assert set(summary["baselines"]) == {"display_order"} and "map_popularity" not in frame


def test_a_list_without_a_positive_counts_in_no_mean(scored: ScoredLists) -> None:
    summary, frame = evaluate_task(scored, 1, replicates=20)
    assert (summary["lists"], summary["positives"], summary["map"]) == (1, 1, 1.0)
    assert np.isnan(frame["map"][1]) and frame.positives.tolist() == [1, 0]


def test_scores_by_item(scored: ScoredLists) -> None:
    frame = score_frame(scored, ("purchase", "click"))
    assert frame.search_id.tolist() == ["a", "a", "a", "b", "b"]
    assert frame["item"].tolist() == [11, 12, 13, 14, 15] and frame.label_click.tolist() == [1, 0, 0, 0, 0]
    np.testing.assert_array_equal(frame.score_purchase, scored.scores[:, 0])


def test_table_shows_every_ranking(scored: ScoredLists) -> None:
    text = table({"purchase": evaluate_task(scored, 0, 20)[0]})
    assert "purchase: 2 lists with a positive" in text
    assert "1.0000 [1.0000, 1.0000]" in text
    rows = [line.split()[0] for line in text.splitlines()[2:]]
    assert rows == ["model", "display_order", "popularity"]
