"""AUC and average precision within lists, against scikit-learn list by list."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from pipelines.validation.within import Groups, measure


def _reference(scores: np.ndarray, labels: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    sums, ends = np.zeros(6), np.cumsum(lengths)
    for start, end in zip(ends - lengths, ends, strict=True):
        score, label = scores[start:end], labels[start:end]
        if 0 < label.sum() < len(label):
            auc = roc_auc_score(label, score)
            sums[:3] += [1, auc, auc**2]
        if label.any():
            ap = average_precision_score(label, score)
            sums[3:] += [1, ap, ap**2]
    return sums


def test_all_variants_with_ties_and_missing_values() -> None:
    rng = np.random.default_rng(3)
    lengths = rng.integers(1, 9, 100)
    scores = rng.integers(-2, 3, lengths.sum()) / 3
    labels = (rng.random(lengths.sum()) < 0.3).astype(np.int64)
    absent = rng.random(lengths.sum()) < 0.2
    given = np.where(absent, np.where(rng.random(len(absent)) < 0.5, np.nan, -np.inf), scores)
    found = measure(Groups.of(given, lengths), labels)
    expected = {
        "highest": np.where(absent, -9, scores),
        "lowest": np.where(absent, -9, -scores),
        "absent": absent.astype(float),
        "present": 1.0 - absent,
    }
    assert found.keys() == expected.keys()
    for name, score in expected.items():
        np.testing.assert_allclose(found[name], _reference(score, labels, lengths), err_msg=name)


def test_by_hand() -> None:
    # Two lists: (3, 1, 1) with the positive second, (5) all positive, (2, 1) without one. Highest first: the positive loses one pair and
    # ties one, AUC 1/4; it is found with its twin after one miss, precision 1/3.
    found = measure(Groups.of(np.array([3, 1, 1, 5, 2, 1.0]), np.array([3, 1, 2])), np.array([0, 1, 0, 1, 0, 0]))
    np.testing.assert_allclose(found["highest"], [1, 0.25, 0.0625, 2, 1 / 3 + 1, 1 / 9 + 1])
    np.testing.assert_allclose(found["lowest"][:2], [1, 0.75])
    assert set(found) == {"highest", "lowest"}


def test_no_lists() -> None:
    found = measure(Groups.of(np.zeros(0), np.zeros(0, np.int64)), np.zeros(0, np.int64))
    assert found["highest"].tolist() == [0] * 6
