"""Optimizers: Adam or row-wise Adagrad for the embedding rows that a batch used, beside ordinary Adam for dense weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import tensorflow as tf
import tensorflow_recommenders as tfrs

from cvr.gradients import Gradient, Summed, global_norm, scaled, sum_of_squares, sum_rows

Schedule: TypeAlias = tf.keras.optimizers.schedules.LearningRateSchedule
Variables = Callable[[], Sequence[tf.Variable]]


class FusedAdam(tf.keras.optimizers.Adam):
    """Keras Adam with the update of a dense gradient as one operation, which reads and writes weight and moments once.

        m <- m + (1 - b1) (g - m)        v <- v + (1 - b2) (g^2 - v)        w <- w - lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps)
    """

    def update_step(self, gradient: Gradient, variable: tf.Variable) -> None:
        """One update of one variable."""
        if isinstance(gradient, tf.IndexedSlices) or self.amsgrad:
            super().update_step(gradient, variable)
            return
        place = self._index_dict[self._var_key(variable)]
        kind = variable.dtype.base_dtype
        beta_1, beta_2, step = tf.cast(self.beta_1, kind), tf.cast(self.beta_2, kind), tf.cast(self.iterations + 1, kind)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[place].handle,
            v=self._velocities[place].handle,
            beta1_power=tf.pow(beta_1, step),
            beta2_power=tf.pow(beta_2, step),
            lr=tf.cast(self.learning_rate, kind),
            beta1=beta_1,
            beta2=beta_2,
            epsilon=tf.cast(self.epsilon, kind),
            grad=gradient,
            use_locking=False,
        )


class _RowOptimizer(tf.keras.optimizers.Optimizer):
    """What optimizers of tables have in common: they set the rows of a sparse gradient and leave all others as they are.

    `row_decay` decays each used row by rate * row_decay * row. `repeats` says how rows come that a batch used more than once: "unique"
    or "sort" for raw gradients, which are then summed (`cvr.gradients.sum_rows`), "summed" where they already stand with their sums.
    """

    def __init__(self, *args: Any, row_decay: float = 0.0, repeats: str = "unique", **kwargs: Any) -> None:
        super().__init__(*args, **{"weight_decay": None, **kwargs, "jit_compile": False})  # a decay of 0 would rewrite the whole table
        self.row_decay, self.repeats = row_decay, repeats

    def _deduplicate_sparse_grad(self, grads: Sequence[Gradient]) -> Sequence[Gradient]:
        if self.repeats == "summed":
            return grads
        sparse = [isinstance(gradient, tf.IndexedSlices) for gradient in grads]
        by_sorting = self.repeats == "sort"
        return [sum_rows(gradient, by_sorting).gradient if rows else gradient for gradient, rows in zip(grads, sparse, strict=True)]

    def _set_rows(self, variable: tf.Variable, rows: tf.Tensor, change: tf.Tensor) -> None:
        """Sets each row to row - rate * (change + row_decay * row).

        A row is read and set, never added to: TensorFlow's scatter_sub takes several times as long on a CPU, and setting a row twice to
        the same value is harmless.
        """
        old = tf.gather(variable, rows)
        if self.row_decay:
            change += self.row_decay * old
        variable.scatter_update(tf.IndexedSlices(old - tf.cast(self.learning_rate, variable.dtype) * change, rows))

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "row_decay": self.row_decay, "repeats": self.repeats}


class LazyAdam(_RowOptimizer, tf.keras.optimizers.Adam):
    """Adam whose step touches only the rows of a sparse gradient (ARCHITECTURE decision 5, PAPERS R17).

    For each row r in the batch, its gradients summed once into g, at global step t (1 at the first):

        m_r <- b1 m_r + (1 - b1) g          v_r <- b2 v_r + (1 - b2) g^2
        w_r <- w_r - lr * (sqrt(1 - b2^t) / (1 - b1^t) * m_r / (sqrt(v_r) + eps) + row_decay * w_r)

    Rows that a batch does not use keep weight and moments, so a step costs the same for any table size. Where every row is used at each
    step this is Keras Adam. The bias correction counts steps, not uses of a row: the first update of a row that first comes late is up to
    (1 - b1) / sqrt(1 - b2) lr, 3.2 lr at the defaults. Dense gradients are Keras Adam's (without `row_decay`).
    """

    def update_step(self, gradient: Gradient, variable: tf.Variable) -> None:
        """One update of one variable."""
        if not isinstance(gradient, tf.IndexedSlices):
            super().update_step(gradient, variable)
            return
        place = self._index_dict[self._var_key(variable)]
        first, second = self._momentums[place], self._velocities[place]
        rows, values = gradient.indices, gradient.values
        step = tf.cast(self.iterations + 1, variable.dtype)
        correction = tf.sqrt(1.0 - tf.pow(self.beta_2, step)) / (1.0 - tf.pow(self.beta_1, step))
        new_first = self.beta_1 * tf.gather(first, rows) + (1.0 - self.beta_1) * values
        new_second = self.beta_2 * tf.gather(second, rows) + (1.0 - self.beta_2) * tf.square(values)
        first.scatter_update(tf.IndexedSlices(new_first, rows))
        second.scatter_update(tf.IndexedSlices(new_second, rows))
        self._set_rows(variable, rows, correction * new_first / (tf.sqrt(new_second) + self.epsilon))


class RowwiseAdagrad(_RowOptimizer):
    """Adagrad with one accumulator per row: 1 / dim of Adagrad's state, 1 / (2 dim) of Adam's (as in DLRM and FBGEMM).

    For each row r in the batch, its gradients summed once into g of dim D:

        a_r <- a_r + 1/D sum_d g_d^2        w_r <- w_r - lr * (g / sqrt(a_r + eps) + row_decay * w_r)

    a starts at `initial_accumulator_value`. At dim 1 this is Keras Adagrad; FBGEMM starts at 0 and divides by sqrt(a_r) + eps.
    """

    def __init__(
        self, learning_rate: float | Schedule = 1e-3, initial_accumulator_value: float = 0.1, epsilon: float = 1e-7, **kwargs: Any
    ) -> None:
        super().__init__(name=kwargs.pop("name", "RowwiseAdagrad"), **kwargs)
        self._learning_rate = self._build_learning_rate(learning_rate)
        self.initial_accumulator_value, self.epsilon = initial_accumulator_value, epsilon

    def build(self, var_list: Sequence[tf.Variable]) -> None:
        """Makes an accumulator [rows] per table."""
        super().build(var_list)
        if getattr(self, "_built", False):
            return
        self._accumulators = [self._accumulator(variable) for variable in var_list]
        self._built = True

    def _accumulator(self, variable: tf.Variable) -> tf.Variable:
        start = tf.fill(variable.shape[:1], tf.constant(self.initial_accumulator_value, variable.dtype))
        return self.add_variable_from_reference(variable, "accumulator", initial_value=start)

    def update_step(self, gradient: Gradient, variable: tf.Variable) -> None:
        """One update of one table; a dense gradient is one of all its rows."""
        if not isinstance(gradient, tf.IndexedSlices):
            gradient = tf.IndexedSlices(gradient, tf.range(tf.shape(gradient)[0]))
        accumulator = self._accumulators[self._index_dict[self._var_key(variable)]]
        rows, values = gradient.indices, gradient.values
        total = tf.gather(accumulator, rows) + tf.reduce_mean(tf.square(values), axis=1)
        accumulator.scatter_update(tf.IndexedSlices(total, rows))
        self._set_rows(variable, rows, values * tf.math.rsqrt(total + self.epsilon)[:, None])

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        rate = self._serialize_hyperparameter(self._learning_rate)
        start = self.initial_accumulator_value
        return {**super().get_config(), "learning_rate": rate, "initial_accumulator_value": start, "epsilon": self.epsilon}


TABLE_OPTIMIZERS = {"lazy_adam": LazyAdam, "rowwise_adagrad": RowwiseAdagrad}


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """The optimizers beside their rates. `clip_norm` 0 does not clip; `by_sorting` sums repeated rows in the way that suits XLA."""

    table_optimizer: str = "lazy_adam"
    weight_decay: float = 0.0
    row_decay: float = 0.0
    clip_norm: float = 0.0
    by_sorting: bool = False


class RankerOptimizer(tfrs.experimental.optimizers.CompositeOptimizer):
    """One optimizer for the tables and one for all else, behind a clip of all gradients by their global norm.

        n = sqrt( sum_v |g_v|^2 ),      g_v <- g_v * min(1, clip_norm / n)

    over dense and sparse gradients together; |g_v| of a table is that of its summed gradient: a row used twice counts as the square of
    the sum, not as the sum of squares. A variable with no owner or two raises ValueError.
    """

    def __init__(self, dense: tuple[tf.Module, Variables], tables: tuple[tf.Module, Variables], config: OptimizerConfig) -> None:
        super().__init__([dense, tables])
        self._tables, self._config = tables[1], config

    def apply_gradients(
        self,
        grads_and_vars: Iterable[tuple[Gradient | None, tf.Variable]],
        name: str | None = None,
        experimental_aggregate_gradients: bool = True,
    ) -> tf.Tensor:
        """One step; gives n, the global norm before the clip, a float32 scalar. A variable without a gradient (None) stays as it is."""
        pairs = list(grads_and_vars)
        tables = {variable.ref() for variable in self._tables()}
        summed = [None if gradient is None else self._summed(gradient, variable.ref() in tables) for gradient, variable in pairs]
        norm = global_norm([found.squares for found in summed if found])
        factor = self._config.clip_norm / tf.maximum(norm, self._config.clip_norm) if self._config.clip_norm else None
        ready = [found and (found.gradient if factor is None else scaled(found.gradient, factor)) for found in summed]
        variables = [variable for _, variable in pairs]
        super().apply_gradients(zip(ready, variables, strict=True), name, experimental_aggregate_gradients)
        return norm

    def _summed(self, gradient: Gradient, is_table: bool) -> Summed:
        if is_table and isinstance(gradient, tf.IndexedSlices):
            return sum_rows(gradient, self._config.by_sorting)
        dense = tf.convert_to_tensor(gradient)
        return Summed(dense, sum_of_squares(dense))


def make_optimizer(
    tables: Variables, dense: Variables, schedule: Schedule, table_schedule: Schedule, config: OptimizerConfig | None = None
) -> RankerOptimizer:
    """The tables' optimizer and Adam (AdamW with a decay) for all else, each variable owned by exactly one.

    A variable with no owner or two makes TFRS's CompositeOptimizer raise ValueError. Biases, norms and statistics are not decayed.
    """
    config = config or OptimizerConfig()
    inner = FusedAdam(schedule, weight_decay=config.weight_decay or None, jit_compile=False)
    if config.weight_decay:
        inner.exclude_from_weight_decay(var_names=["bias", "norm", "gamma", "beta"])
    rows = TABLE_OPTIMIZERS[config.table_optimizer](table_schedule, row_decay=config.row_decay, repeats="summed")
    inner.build(dense())  # now, so that a graph of the training step is traced once
    rows.build(tables())
    return RankerOptimizer((inner, dense), (rows, tables), config)
