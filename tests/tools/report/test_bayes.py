"""The Bayes ceiling: mAP of the true utility, and the share of the gap that is closed, on lists worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cvr.errors import CvrError
from tools.report.bayes import ceiling, gap_closed

# Two lists of two items, the second shown and bought in both; the model finds it in the first list only.
SCORES = pd.DataFrame(
    {
        "search_id": ["b", "b", "a", "a"],
        "item": [10, 11, 10, 12],
        "position": [1, 2, 1, 2],
        "label_purchase": [0, 1, 0, 1],
        "score_purchase": [0.1, 0.9, 0.8, 0.2],
    }
)
TRUTH = pd.DataFrame(
    {
        "search_id": ["a", "a", "b", "b", "c"],
        "position": [1, 2, 1, 2, 1],
        "bayes_score": [0.0, 1.0, 0.0, 1.0, 5.0],
    }
)


def _files(folder: Path, truth: pd.DataFrame) -> tuple[Path, Path]:
    SCORES.to_parquet(folder / "scores.parquet")
    (folder / "truth").mkdir()
    truth.iloc[:2].to_parquet(folder / "truth" / "2026-01-01.parquet")
    truth.iloc[2:].to_parquet(folder / "truth" / "2026-01-02.parquet")
    return folder / "scores.parquet", folder / "truth"


def test_ceiling_by_hand(tmp_path: Path) -> None:
    """Bayes ranks both right: mAP 1. Display order has mAP 1/2, the model (1 + 1/2) / 2: half of the gap."""
    found = ceiling(*_files(tmp_path, TRUTH), "purchase")
    assert found.map == 1.0
    assert found.gap_closed == pytest.approx(0.5)
    assert found.gap_closed_ci == pytest.approx((0.0, 1.0))  # both lists may be drawn twice


def test_a_truth_of_other_logs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CvrError, match="knows nothing of search 'b'"):
        ceiling(*_files(tmp_path, TRUTH[TRUTH["search_id"] != "b"]), "purchase")


def test_lists_without_a_metric_do_not_count() -> None:
    nan = np.nan
    share, interval = gap_closed(np.array([0.75, nan]), np.array([0.5, nan]), np.array([1.0, nan]))
    assert share == pytest.approx(0.5) and interval == pytest.approx((0.5, 0.5))
    assert np.isnan(gap_closed(np.array([nan]), np.array([nan]), np.array([nan]))[0])
