"""Scores of files: every list once, in file order, the same whatever the batch size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cvr.data import Budget, dummy_batch, split_files
from cvr.errors import CvrError
from cvr.manifest import load_manifest
from cvr.ranker import Ranker, RankerConfig, build_ranker
from cvr.scoring import ScoredLists, compile_scorer, score_files
from tests.support import LEAN, batch_of, random_columns, tiny_spec

SPEC = tiny_spec(LEAN)


@pytest.fixture(scope="module")
def ranker() -> Ranker:
    factors = {"cross_width": 8, "deep_width": 4, "parallel_blocks": 1}
    return build_ranker(SPEC, RankerConfig("masknet", factors, experts=2, expert_width=4), dummy_batch(SPEC))


def _score(ranker: Ranker, lists: Path, budget: Budget) -> ScoredLists:
    files = split_files(lists, load_manifest(lists), ["train"])
    return score_files(compile_scorer(ranker), SPEC, files, budget)


@pytest.fixture(scope="module")
def scored(ranker: Ranker, lists: Path) -> ScoredLists:
    return _score(ranker, lists, Budget(30, 12))


def test_every_list_once_in_file_order(scored: ScoredLists, ranker: Ranker) -> None:
    parts = [random_columns(SPEC, 20, seed) for seed in (1, 2)]
    assert [s.decode() for s in scored.search_id] == [s for part in parts for s in part.search_id]
    for key in ("time", "lengths", "item", "position", "popularity", "labels", "delay"):
        np.testing.assert_array_equal(
            getattr(scored, key), np.concatenate([getattr(part, key) for part in parts]), err_msg=key
        )
    expected = np.concatenate([ranker(batch_of(SPEC, part)).numpy() for part in parts])
    np.testing.assert_allclose(scored.scores, expected, rtol=1e-5, atol=1e-6)


def test_batch_size_does_not_matter(scored: ScoredLists, ranker: Ranker, lists: Path) -> None:
    other = _score(ranker, lists, Budget(200, 60))
    np.testing.assert_array_equal(other.search_id, scored.search_id)
    np.testing.assert_allclose(other.scores, scored.scores, rtol=1e-5, atol=1e-6)


def test_foreign_records_are_an_error(lists: Path, ranker: Ranker) -> None:
    files = split_files(lists, load_manifest(lists), ["train"])
    other = tiny_spec(LEAN.replace("item.price", "item.cost"))
    with pytest.raises(CvrError, match="record 0: .*another feature spec"):
        score_files(compile_scorer(ranker), other, files, Budget(30, 12))
