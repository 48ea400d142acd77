"""Target attention against its equations, candidate by candidate and event by event."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.layers.target_attention import TargetAttention
from tests.layers.gradients import assert_gradients, float64

INDEX = np.array([0, 0, 1, 2])
REAL = np.array([[True, True, False], [True, True, True], [False, False, False]])
MATCH = np.array([[False, True, False], [True, False, False], [False, False, False], [False, False, False]])
Arguments = tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]


def _arguments(dtype: tf.DType = tf.float32, padding: int = 0) -> Arguments:
    source = np.random.default_rng(0)
    queries, events = source.normal(0, 1, (4, 5)), source.normal(0, 1, (3, 3, 5))
    wide = [(0, 0), (0, padding)]
    return (
        tf.constant(queries, dtype),
        tf.constant(np.pad(events, [*wide, (0, 0)]), dtype),
        tf.constant(np.pad(REAL, wide)),
        tf.constant(np.pad(MATCH, wide)),
        tf.constant(INDEX, tf.int32),
    )


def _build(dtype: tf.DType = tf.float32) -> TargetAttention:
    layer = TargetAttention(dim=4)
    layer(*_arguments(dtype))
    source = np.random.default_rng(1)
    for variable in layer.trainable_variables:
        variable.assign(source.normal(0, 0.8, variable.shape))
    return layer


def _reference(layer: TargetAttention) -> np.ndarray:
    weight = {v.name.split("/")[-1].split(":")[0]: v.numpy().astype(np.float64) for v in layer.trainable_variables}
    queries, events = (x.numpy().astype(np.float64) for x in _arguments()[:2])
    out = []
    for i, row in enumerate(INDEX):
        scores, values = [0.0], [weight["empty"]]
        for k in np.flatnonzero(REAL[row]):
            event, match = events[row, k], float(MATCH[i, k])
            scores.append(
                (queries[i] @ weight["query_kernel"]) @ (event @ weight["key_kernel"]) / 2.0
                + event @ weight["event_bias"]
                + match * weight["match_bias"]
            )
            values.append(event @ weight["value_kernel"] + match * weight["match_value"])
        shares = np.exp(scores) / np.exp(scores).sum()
        out.append(shares @ np.array(values))
    return np.array(out)


def test_equals_the_equations() -> None:
    layer = _build()
    np.testing.assert_allclose(layer(*_arguments()), _reference(layer), rtol=1e-4, atol=1e-5)


def test_an_empty_history_gives_the_empty_vector() -> None:
    layer = _build()
    np.testing.assert_allclose(layer(*_arguments())[3], layer.empty, rtol=1e-6)


@pytest.mark.parametrize("padding", [1, 6])
def test_longer_padding_changes_nothing(padding: int) -> None:
    layer = _build()
    np.testing.assert_allclose(layer(*_arguments(padding=padding)), layer(*_arguments()), rtol=1e-5, atol=1e-6)


def test_gradients() -> None:
    with float64():
        layer = _build(tf.float64)
    assert_gradients(lambda: layer(*_arguments(tf.float64)), layer.trainable_variables)
