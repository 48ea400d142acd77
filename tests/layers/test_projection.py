"""The input projection equals one dense layer on the concatenation of context and item features."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cvr.layers.projection import InputProjection
from tests.layers.case import Arrays, LayerCase
from tests.layers.references import relu


class TestInputProjection(LayerCase):
    def make(self) -> InputProjection:
        return InputProjection({"cross": 7, "deep": 2})

    def inputs(self, source: np.random.Generator) -> Arrays:
        lists, items = source.normal(0, 1, (3, 4)), source.normal(0, 1, (5, 6))
        return {"context": lists, "items": items, "list_index": np.array([0, 0, 1, 2, 2])}

    def arguments(self, tensors: list) -> tuple:
        return (tuple(tensors[:2]), tensors[2])

    def result(self, found: dict[str, tf.Tensor]) -> tf.Tensor:
        assert list(found) == ["cross", "deep"] and [view.shape[1] for view in found.values()] == [7, 2]
        return tf.concat(list(found.values()), axis=1)

    def rows(self, inputs: Arrays, order: np.ndarray) -> Arrays:
        return {**inputs, "items": inputs["items"][order], "list_index": inputs["list_index"][order]}

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        context = inputs["context"] @ weights["context_kernel"]
        joined = np.concatenate([inputs["context"][inputs["list_index"]], inputs["items"]], axis=1)
        total = joined @ np.concatenate([weights["context_kernel"], weights["item_kernel"]]) + weights["bias"]
        return {"context": context, "total": total, "output": relu(total)}


def test_in_two_steps_and_for_one_list() -> None:
    case = TestInputProjection()
    layer, inputs = case.build(), case.stored("inputs")
    context, items = (tf.constant(inputs[name], tf.float32) for name in ("context", "items"))
    one = layer.finish(layer.project_context(context)[:1], items[:2])
    np.testing.assert_allclose(case.result(one), case._run(layer, inputs)[:2], rtol=1e-5, atol=1e-6)


def test_initial_spread_is_that_of_the_concatenation() -> None:
    """He normal over both inputs: the two kernels differ, with a standard deviation of sqrt(2 / (context + item))."""
    tf.random.set_seed(0)
    layer = InputProjection({"cross": 300})
    layer.build((tf.TensorShape([None, 100]), tf.TensorShape([None, 100])))
    for kernel in (layer.context_kernel.numpy(), layer.item_kernel.numpy()):
        assert kernel.std() == pytest.approx(0.1, rel=0.02) and abs(kernel.mean()) < 0.005
    assert abs(np.corrcoef(layer.context_kernel.numpy().ravel(), layer.item_kernel.numpy().ravel())[0, 1]) < 0.05
