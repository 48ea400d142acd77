"""Numerical features: every transform by hand, with missing and unseen values."""

from __future__ import annotations

import numpy as np

from cvr.layers.numerical import NumericalFeatures

RAW = np.array([[3.0, -1.0], [np.nan, 0.0], [-np.inf, np.inf], [1e8, 7.0]], np.float32)
LOG = np.log1p


def _layer() -> NumericalFeatures:
    layer = NumericalFeatures([("price", ("zscore", "zlog")), ("shift", ("log1p", "identity"))])
    layer(RAW)
    layer.set_statistics({"price": (1.0, 4.0, 0.5, 2.0), "unknown": (9.0, 9.0, 9.0, 9.0)})
    return layer


def test_by_hand() -> None:
    """Columns: all zscores, all log1p, all zlogs, all identities, then the missing and the unseen indicators."""
    expected = [
        [0.5, -LOG(1.0), (LOG(3.0) - 0.5) / 2, -1.0, 0, 0, 0, 0],
        [0.0, 0.0, 0.0, 0.0, 1, 0, 0, 0],
        [0.0, 0.0, 0.0, 0.0, 0, 1, 1, 0],
        [10.0, LOG(7.0), (LOG(1e8) - 0.5) / 2, 7.0, 0, 0, 0, 0],
    ]
    layer = _layer()
    np.testing.assert_allclose(layer(RAW), expected, rtol=1e-5, atol=1e-6)
    assert layer.width == 8 and layer.names == ("price", "shift")


def test_statistics_are_weights_and_not_trained() -> None:
    layer = _layer()
    assert not layer.trainable_variables and len(layer.non_trainable_variables) == 1
    np.testing.assert_array_equal(layer.statistics.numpy(), [[1, 0], [4, 1], [0.5, 0], [2, 1]])


def test_a_column_without_variance_gives_zero() -> None:
    layer = NumericalFeatures([("constant", ("zscore",))])
    layer(np.ones((1, 1), np.float32))
    layer.set_statistics({"constant": (5.0, 0.0, 0.0, 0.0)})
    assert layer(np.array([[5.0], [6.0]], np.float32))[:, 0].numpy().tolist() == [0.0, 0.0]
