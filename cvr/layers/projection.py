"""The input projection: the only layer after extraction that knows how wide the features are."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf


@tf.keras.utils.register_keras_serializable("cvr")
class InputProjection(tf.keras.layers.Layer):
    """x_v = ReLU(C_v c[list of the item] + I_v i + b_v) for each view v that the backbone asks for (paper 3.1, PAPERS R23).

    It equals one dense layer on the concatenation of context c and item features i, but the context product is made once per list
    instead of once per item. Kernels start as He normal with the fan-in of the concatenation.
    """

    def __init__(self, views: Mapping[str, int], **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.views = dict(views)

    @property
    def width(self) -> int:
        """Width of all views together."""
        return sum(self.views.values())

    def build(self, input_shape: tuple[tf.TensorShape, tf.TensorShape]) -> None:
        """Makes the context kernel, the item kernel and the bias of all views side by side."""
        context, item = (int(shape[-1]) for shape in input_shape)
        spread = (2.0 / (context + item)) ** 0.5 / 0.8796  # a normal cut at two standard deviations has 0.8796 of its spread

        def kernel(name: str, rows: int) -> tf.Variable:
            start = tf.keras.initializers.TruncatedNormal(stddev=spread)
            return self.add_weight(name, shape=[rows, self.width], initializer=start)

        self.context_kernel = kernel("context_kernel", context)
        self.item_kernel = kernel("item_kernel", item)
        self.bias = self.add_weight("bias", shape=[self.width], initializer="zeros")
        super().build(input_shape)

    def project_context(self, context: tf.Tensor) -> tf.Tensor:
        """C c: context `[B, Dc]` -> `[B, width]`, all views side by side."""
        return tf.matmul(context, tf.cast(self.context_kernel, context.dtype))

    def finish(self, context_projection: tf.Tensor, items: tf.Tensor) -> dict[str, tf.Tensor]:
        """Adds the item part: context_projection `[N or 1, width]`, items `[N, Di]` -> {view: `[N, width of view]`}."""
        parts = tf.split(tf.nn.relu(self._total(context_projection, items)), list(self.views.values()), axis=1)
        return dict(zip(self.views, parts, strict=True))

    def _total(self, context_projection: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        return context_projection + tf.matmul(items, tf.cast(self.item_kernel, items.dtype)) + tf.cast(self.bias, items.dtype)

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor], list_index: tf.Tensor) -> dict[str, tf.Tensor]:
        """(context `[B, Dc]`, items `[N, Di]`), list_index `[N]` -> {view: `[N, width of view]`}."""
        context, items = inputs
        return self.finish(tf.gather(self.project_context(context), list_index), items)

    def trace(self, inputs: tuple[tf.Tensor, tf.Tensor], list_index: tf.Tensor) -> dict[str, tf.Tensor]:
        """Each step by name: `context` C c `[B, width]`, `total` and `output` (all views side by side) `[N, width]`."""
        context = self.project_context(inputs[0])
        total = self._total(tf.gather(context, list_index), inputs[1])
        return {"context": context, "total": total, "output": tf.nn.relu(total)}

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "views": self.views}
