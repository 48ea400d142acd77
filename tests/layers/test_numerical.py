"""Numerical features: every transform by its formula, with missing and unseen values, and raw values in full precision."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from cvr.layers.numerical import NumericalFeatures
from tests.layers.case import Arrays, LayerCase, policy

STATISTICS = {"price": (1.0, 4.0, 0.5, 2.0), "another": (9.0, 9.0, 9.0, 9.0)}


class TestNumericalFeatures(LayerCase):
    """Columns: all zscores, all log1p, all zlogs, all identities, then the missing and the unseen indicators."""

    def make(self) -> NumericalFeatures:
        layer = NumericalFeatures([("price", ("zscore", "zlog")), ("shift", ("log1p", "identity"))])
        layer.build(tf.TensorShape([None, 2]))
        layer.set_statistics(STATISTICS)
        return layer

    def inputs(self, source: np.random.Generator) -> Arrays:
        return {"raw": np.array([[3.0, -1.0], [np.nan, 0.5], [-np.inf, np.inf], [1e8, 7.0], [-2.5, np.nan]])}

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        raw = inputs["raw"]
        unseen = np.isneginf(raw).astype(float)
        missing = (np.isnan(raw) | np.isposinf(raw)).astype(float)
        known = 1 - missing - unseen
        present = np.where(known > 0, raw, 0.0)
        logs = np.sign(present) * np.log(1 + np.abs(present))
        columns = [
            np.clip((present[:, 0] - 1.0) / 4.0, -10, 10) * known[:, 0],
            logs[:, 1] * known[:, 1],
            np.clip((logs[:, 0] - 0.5) / 2.0, -10, 10) * known[:, 0],
            present[:, 1],
        ]
        output = np.concatenate([np.stack(columns, axis=1), missing, unseen], axis=1)
        return {"present": present, "missing": missing, "unseen": unseen, "logs": logs, "output": output}


def test_by_hand() -> None:
    """The golden file holds these very numbers, so that the reference is not its own witness."""
    expected = [
        [0.5, -np.log(2.0), (np.log(4.0) - 0.5) / 2, -1.0, 0, 0, 0, 0],
        [0.0, np.log(1.5), 0.0, 0.5, 1, 0, 0, 0],
        [0.0, 0.0, 0.0, 0.0, 0, 1, 1, 0],
        [10.0, np.log(8.0), (np.log(1e8 + 1) - 0.5) / 2, 7.0, 0, 0, 0, 0],
        [-0.875, 0.0, (-np.log(3.5) - 0.5) / 2, 0.0, 0, 1, 0, 0],
    ]
    np.testing.assert_allclose(TestNumericalFeatures().stored("trace")["output"], expected, rtol=1e-12)


def test_statistics_are_weights_and_not_trained() -> None:
    layer = TestNumericalFeatures().make()
    assert not layer.trainable_variables and len(layer.non_trainable_variables) == 1
    np.testing.assert_array_equal(layer.statistics.numpy(), [[1, 0], [4, 1], [0.5, 0], [2, 1]])
    assert layer.width == 8 and layer.names == ("price", "shift")


def test_a_column_without_variance_gives_zero() -> None:
    layer = NumericalFeatures([("constant", ("zscore",))])
    layer(np.ones((1, 1), np.float32))
    layer.set_statistics({"constant": (5.0, 0.0, 0.0, 0.0)})
    assert layer(np.array([[5.0], [6.0]], np.float32))[:, 0].numpy().tolist() == [0.0, 0.0]


def test_raw_values_are_not_rounded_before_they_are_standardised() -> None:
    """Ages of 100,000 and 100,003 seconds are one number in bfloat16, and so would a mean of 100,001 be."""
    with policy("mixed_bfloat16"):
        layer = NumericalFeatures([("age", ("zscore",))])
        layer(np.ones((1, 1), np.float32))
        layer.set_statistics({"age": (100_001.0, 2.0, 0.0, 1.0)})
        found = layer(tf.constant([[100_000.0], [100_003.0]]))
    assert found.dtype == tf.bfloat16 and layer.statistics.dtype == tf.float32
    assert tf.cast(found[:, 0], tf.float32).numpy().tolist() == [-0.5, 1.0]
