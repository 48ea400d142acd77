"""Ranking metrics against scikit-learn, TF-Ranking and values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_ranking as tfr
from sklearn.metrics import average_precision_score, roc_auc_score

from cvr.metrics import METRICS, Ranked, mean_interval, rank_metrics, tie_breaker


def _metrics(scores: list[list[float]], labels: list[list[int]]) -> Ranked:
    flat = np.concatenate(scores).astype(np.float32)
    return rank_metrics(flat, np.concatenate(labels), np.array([len(s) for s in scores]), np.arange(len(flat)))


def _random(seed: int, ties: bool) -> tuple[list[np.ndarray], list[np.ndarray]]:
    source = np.random.default_rng(seed)
    lengths = source.integers(1, 15, 60)
    draw = (lambda n: source.integers(0, 4, n).astype(float)) if ties else (lambda n: source.permutation(n) / 7.0)
    return [draw(n) for n in lengths], [(source.random(n) < 0.25).astype(int) for n in lengths]


def test_by_hand() -> None:
    """Ranks of the positives: 2 and 3 of four; 1 of two; none; all."""
    found = _metrics([[0.1, 0.4, 0.3, 0.2], [5.0, 1.0], [1.0, 2.0], [3.0, 4.0]], [[0, 0, 1, 1], [1, 0], [0, 0], [1, 1]])
    np.testing.assert_allclose(found.map, [(1 / 2 + 2 / 3) / 2, 1.0, np.nan, 1.0])
    np.testing.assert_allclose(found.mrr, [1 / 2, 1.0, np.nan, 1.0])
    gain = (1 / np.log2(3) + 1 / np.log2(4)) / (1 / np.log2(2) + 1 / np.log2(3))
    np.testing.assert_allclose(found.ndcg_at_10, [gain, 1.0, np.nan, 1.0])
    np.testing.assert_allclose(found.gauc, [2 / 4, 1.0, np.nan, np.nan])  # no pair of a positive and a negative


def test_ndcg_stops_at_rank_ten() -> None:
    scores = [[float(-i) for i in range(12)]] * 2
    deep, many = [0] * 12, [1] * 12
    deep[10] = 1
    np.testing.assert_allclose(_metrics(scores, [deep, many]).ndcg_at_10, [0.0, 1.0])


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_equals_sklearn_without_ties(seed: int) -> None:
    scores, labels = _random(seed, ties=False)
    found = _metrics(scores, labels)
    for place, (s, y) in enumerate(zip(scores, labels, strict=True)):
        if y.any():
            assert found.map[place] == pytest.approx(average_precision_score(y, s), abs=1e-12)
        else:
            assert np.isnan(found.map[place])


@pytest.mark.parametrize("seed", range(3))
def test_auc_equals_sklearn_with_ties(seed: int) -> None:
    scores, labels = _random(seed, ties=True)
    found = _metrics(scores, labels)
    for place, (s, y) in enumerate(zip(scores, labels, strict=True)):
        if 0 < y.sum() < len(y):
            assert found.gauc[place] == pytest.approx(roc_auc_score(y, s), abs=1e-12)
        else:
            assert np.isnan(found.gauc[place])


def test_means_equal_tf_ranking() -> None:
    scores, labels = _random(3, ties=False)
    kept = [place for place, y in enumerate(labels) if y.any()]
    found = _metrics([scores[i] for i in kept], [labels[i] for i in kept])
    widest = max(len(labels[i]) for i in kept)
    y = np.stack([np.pad(labels[i].astype(float), (0, widest - len(labels[i])), constant_values=-1.0) for i in kept])
    s = np.stack([np.pad(scores[i], (0, widest - len(scores[i]))) for i in kept])
    peers = {
        "map": tfr.keras.metrics.MeanAveragePrecisionMetric(),
        "mrr": tfr.keras.metrics.MRRMetric(),
        "ndcg_at_10": tfr.keras.metrics.NDCGMetric(topn=10),
    }
    for name, peer in peers.items():
        peer.update_state(tf.constant(y, tf.float32), tf.constant(s, tf.float32))
        assert float(getattr(found, name).mean()) == pytest.approx(float(peer.result()), abs=1e-5), name


def test_mrr_equals_map_with_one_positive() -> None:
    source = np.random.default_rng(5)
    scores = [source.random(n) for n in source.integers(1, 9, 40)]
    labels = [np.eye(len(s), dtype=int)[source.integers(len(s))] for s in scores]
    found = _metrics(scores, labels)
    np.testing.assert_allclose(found.mrr, found.map)


def test_ties_fall_in_the_order_of_the_tie_breaker() -> None:
    lengths, labels = np.array([3]), np.array([1, 0, 0])
    assert rank_metrics(np.zeros(3), labels, lengths, np.array([5, 1, 2])).mrr[0] == pytest.approx(1 / 3)
    assert rank_metrics(np.zeros(3), labels, lengths, np.array([0, 1, 2])).mrr[0] == 1.0


def test_tie_breaker_depends_on_the_item_alone_and_not_on_its_size() -> None:
    items = np.arange(4, 4004)
    ties = tie_breaker(items)
    np.testing.assert_array_equal(tie_breaker(items[::-1]), ties[::-1])
    assert len(np.unique(ties)) == len(items)
    assert abs(np.corrcoef(items, np.argsort(np.argsort(ties)))[0, 1]) < 0.05


def test_order_of_lists_and_batch_mates_do_not_matter() -> None:
    scores, labels = _random(7, ties=True)
    forward, backward = _metrics(scores, labels), _metrics(scores[::-1], labels[::-1])
    for name in METRICS:
        np.testing.assert_allclose(getattr(forward, name), getattr(backward, name)[::-1])


def test_no_lists() -> None:
    found = rank_metrics(np.zeros(0), np.zeros(0), np.zeros(0, np.int64), np.zeros(0))
    assert all(len(getattr(found, name)) == 0 for name in METRICS)


def test_mean_interval_ignores_undefined_lists() -> None:
    values = np.array([0.0, 1.0, np.nan, 1.0, np.nan])
    mean, (low, high) = mean_interval(values, replicates=200)
    assert mean == pytest.approx(2 / 3)
    assert 0.0 <= low < mean < high <= 1.0
    assert mean_interval(values, seed=3, replicates=200) == mean_interval(values, seed=3, replicates=200)


def test_mean_interval_of_none_and_one() -> None:
    mean, (low, high) = mean_interval(np.array([np.nan]))
    assert np.isnan([mean, low, high]).all()
    assert mean_interval(np.array([0.3, np.nan])) == (0.3, (0.3, 0.3))


def test_mean_interval_covers_the_truth() -> None:
    """95 % intervals of 300 samples of 80 uniform values: 270 to 297 cover 1/2 but for one seed in thousands."""
    source = np.random.default_rng(11)
    intervals = [mean_interval(source.random(80), seed, replicates=300)[1] for seed in range(300)]
    assert 270 <= sum(low <= 0.5 <= high for low, high in intervals) <= 297
