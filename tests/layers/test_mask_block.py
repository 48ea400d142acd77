"""The MaskNet block against its equations, step by step, and what its mask must and must not see."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from cvr.layers.mask_block import MaskBlock
from tests.layers.case import Arrays, LayerCase
from tests.layers.references import dense, norm, relu


class TestMaskBlock(LayerCase):
    layer_norm = True

    def make(self) -> MaskBlock:
        return MaskBlock(width=3, aggregation=8, layer_norm=self.layer_norm)

    def inputs(self, source: np.random.Generator) -> Arrays:
        return {"first": source.normal(0, 1, (7, 4)), "current": source.normal(0, 1, (7, 5))}

    def reference(self, weights: Arrays, inputs: Arrays) -> Arrays:
        """ReLU(LN(W (mask * x) + b)), mask = U ReLU(V x0 + b1) + b2."""
        aggregated = relu(dense(weights, "aggregate", inputs["first"]))
        mask = dense(weights, "mask", aggregated)
        masked = mask * inputs["current"]
        hidden = dense(weights, "output", masked)
        normed = norm(weights, "norm", hidden) if self.layer_norm else hidden
        steps = {"aggregated": aggregated, "mask": mask, "masked": masked, "hidden": hidden, "normed": normed}
        return {**steps, "output": relu(normed)}

    def test_some_outputs_are_cut_and_some_are_not(self) -> None:
        output = self.stored("trace")["output"]
        assert (output == 0).any() and (output > 0).any()


class TestMaskBlockWithoutNorm(TestMaskBlock):
    layer_norm = False


def _inputs() -> tuple[tf.Tensor, tf.Tensor]:
    source = np.random.default_rng(0)
    return tf.constant(source.normal(0, 1, (7, 4)), tf.float32), tf.constant(source.normal(0, 1, (7, 5)), tf.float32)


def _build() -> MaskBlock:
    layer = MaskBlock(width=3, aggregation=8, layer_norm=False)
    layer(_inputs())
    source = np.random.default_rng(1)
    for variable in layer.trainable_variables:
        variable.assign(source.normal(0, 0.7, variable.shape))
    layer._output.bias.assign(tf.zeros_like(layer._output.bias))
    return layer


def test_the_mask_is_not_squashed() -> None:
    """Twice the mask's last layer gives twice the output without norm, as no sigmoid or softmax stands between."""
    layer = _build()
    before = layer(_inputs()).numpy()
    for variable in (layer._mask.kernel, layer._mask.bias):
        variable.assign(2.0 * variable)
    np.testing.assert_allclose(layer(_inputs()), 2.0 * before, rtol=1e-5)


def test_the_mask_reads_the_first_input_alone() -> None:
    layer = _build()
    first, current = _inputs()
    np.testing.assert_allclose(layer((first, 3.0 * current)), 3.0 * layer((first, current)).numpy(), rtol=1e-5)
