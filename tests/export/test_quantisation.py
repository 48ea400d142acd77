from __future__ import annotations

import numpy as np
import pytest

from cvr.scoring import ScoredLists
from export.quantisation import compare_scores, table


def _scored(scores: list[float], lengths: list[int], labels: list[int]) -> ScoredLists:
    rows, lists = len(scores), np.arange(len(lengths))
    column, zeros = np.array(scores, np.float32)[:, None], np.zeros(rows)
    return ScoredLists(lists, lists, np.array(lengths), np.arange(rows), zeros, zeros, np.array(labels)[:, None], zeros[:, None], column)


def test_worked_out_by_hand() -> None:
    """List 1: 3 items, two neighbours swap (tau 1/3), the first stays; list 2: the order of 2 turns round (tau -1); list 3: one item."""
    labels = [0, 1, 0, 1, 0, 1]
    before = _scored([3.0, 2.0, 1.0, 5.0, 4.0, 0.0], [3, 2, 1], labels)
    after = _scored([3.0, 1.0, 2.0, 4.0, 4.5, 0.0], [3, 2, 1], labels)
    found = compare_scores(before, after, ("buy",))["buy"]
    assert found["max_abs_diff"] == 1.0 and found["mean_abs_diff"] == pytest.approx(3.5 / 6)
    assert found["kendall"] == pytest.approx((1 / 3 - 1) / 2) and found["top1"] == pytest.approx(2 / 3)
    assert found["map_before"] == pytest.approx((1 / 2 + 1 + 1) / 3) and found["map_after"] == pytest.approx((1 / 3 + 1 / 2 + 1) / 3)
    mean, low, high = found["map_difference"]
    assert mean == pytest.approx((-1 / 6 - 1 / 2) / 3) and -0.5 <= low < mean < high <= 0.0


def test_equal_scores_are_no_difference() -> None:
    same = _scored([3.0, 2.0, 2.0], [2, 1], [1, 0, 0])
    found = compare_scores(same, same, ("buy",))["buy"]
    assert found["max_abs_diff"] == 0.0 and found["kendall"] == found["top1"] == 1.0 and found["map_difference"] == [0.0, 0.0, 0.0]


def test_other_lists_are_refused() -> None:
    with pytest.raises(ValueError, match="other lists"):
        compare_scores(_scored([1.0, 2.0], [2], [0, 1]), _scored([1.0, 2.0], [1, 1], [0, 1]), ("buy",))


def test_table_shows_every_number() -> None:
    same = _scored([3.0, 2.0], [2], [1, 0])
    sizes = {"before": {"tables": 40, "other": 8}, "after": {"tables": 14, "other": 8}}
    storage = {"tables": "int8", "weights": "float32"}
    text = table({"storage": storage, "bytes": sizes, "tasks": compare_scores(same, same, ("buy",))})
    assert "bytes 48 -> 22 (tables 40 -> 14)" in text and "mAP 1.0000 -> 1.0000" in text and "same first item 100.00%" in text
