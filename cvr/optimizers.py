"""Optimizers: Adam that touches only the embedding rows a batch used, beside ordinary Adam for dense weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf
import tensorflow_recommenders as tfrs


class LazyAdam(tf.keras.optimizers.Adam):
    """Adam whose step touches only the rows of a sparse gradient (ARCHITECTURE decision 5, PAPERS R17).

    For each row r in the batch, its gradients summed once into g (the base class does that), at global step t:

        m_r <- b1 m_r + (1 - b1) g          v_r <- b2 v_r + (1 - b2) g^2
        w_r <- w_r - lr * (sqrt(1 - b2^t) / (1 - b1^t) * m_r / (sqrt(v_r) + eps) + row_decay * w_r)

    Rows that a batch does not use keep weight and moments, so a step costs the same for any table size. Where every row is used at each
    step this is Keras Adam. Dense gradients are Keras Adam's (without `row_decay`).
    """

    def __init__(self, *args: object, row_decay: float = 0.0, **kwargs: object) -> None:
        super().__init__(*args, **{**kwargs, "jit_compile": False})
        self.row_decay = row_decay

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        """One update of one variable."""
        if not isinstance(gradient, tf.IndexedSlices):
            super().update_step(gradient, variable)
            return
        place = self._index_dict[self._var_key(variable)]
        first, second = self._momentums[place], self._velocities[place]
        rows, values = gradient.indices, gradient.values
        step = tf.cast(self.iterations + 1, variable.dtype)
        rate = tf.cast(self.learning_rate, variable.dtype)
        correction = tf.sqrt(1.0 - tf.pow(self.beta_2, step)) / (1.0 - tf.pow(self.beta_1, step))
        new_first = self.beta_1 * tf.gather(first, rows) + (1.0 - self.beta_1) * values
        new_second = self.beta_2 * tf.gather(second, rows) + (1.0 - self.beta_2) * tf.square(values)
        change = correction * new_first / (tf.sqrt(new_second) + self.epsilon)
        if self.row_decay:
            change += self.row_decay * tf.gather(variable, rows)
        first.scatter_update(tf.IndexedSlices(new_first, rows))
        second.scatter_update(tf.IndexedSlices(new_second, rows))
        variable.scatter_sub(tf.IndexedSlices(rate * change, rows))

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "row_decay": self.row_decay}


def make_optimizer(
    tables: Callable[[], Sequence[tf.Variable]],
    dense: Callable[[], Sequence[tf.Variable]],
    schedule: tf.keras.optimizers.schedules.LearningRateSchedule,
    table_schedule: tf.keras.optimizers.schedules.LearningRateSchedule,
    weight_decay: float = 0.0,
    row_decay: float = 0.0,
) -> tf.keras.optimizers.legacy.Optimizer:
    """LazyAdam for the embedding tables and Adam (AdamW with a decay) for all else, each variable owned by exactly one.

    A variable with no owner or two makes TFRS's CompositeOptimizer raise ValueError. Biases, norms and statistics are not decayed.
    """
    inner = tf.keras.optimizers.Adam(schedule, weight_decay=weight_decay or None, jit_compile=False)
    if weight_decay:
        inner.exclude_from_weight_decay(var_names=["bias", "norm", "gamma", "beta"])
    lazy = LazyAdam(table_schedule, row_decay=row_decay)
    inner.build(dense())  # now, so that a graph of the training step is traced once
    lazy.build(tables())
    return tfrs.experimental.optimizers.CompositeOptimizer([(inner, dense), (lazy, tables)])
