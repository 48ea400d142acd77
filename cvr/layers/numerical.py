"""Numerical features: standardisation, logarithm and missing-value indicators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from cvr import transforms

Statistics = tuple[float, float, float, float]
"""(mean, std, mean of the signed log, std of the signed log) of a feature over the training split."""


@tf.keras.utils.register_keras_serializable("cvr")
class NumericalFeatures(tf.keras.layers.Layer):
    """Turns raw numbers `[R, C]` into model inputs `[R, W]` (paper section 2.1, PAPERS R3, R36).

    The chosen transforms, one after the other, each of all columns that have it and 0 where a value is missing or unseen,

        zscore    (x - mean) / std, cut to [-10, 10]        log1p     sign(x) * log(1 + |x|)
        zlog      the log1p value, standardised             identity  x

    then per column an indicator of a missing value, and one of an unseen feature, so that the model tells 0, missing and unseen apart.
    Statistics are non-trainable weights, so they travel with every checkpoint and export. Under a mixed policy raw numbers are not cast
    before they are standardised (bfloat16 would tell 1,000 seconds from 1,003 no more); only the inputs that come out of it are.
    """

    def __init__(self, columns: Sequence[tuple[str, Sequence[str]]], **kwargs: object) -> None:
        super().__init__(autocast=False, **kwargs)
        self._columns = [(name, tuple(chosen)) for name, chosen in columns]
        self._index = {
            kind: [i for i, (_, chosen) in enumerate(self._columns) if kind in chosen]
            for kind in ("zscore", "log1p", "zlog", "identity")
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' feature names."""
        return tuple(name for name, _ in self._columns)

    @property
    def width(self) -> int:
        """W: transforms of all columns, and two indicators per column."""
        return sum(len(chosen) + 2 for _, chosen in self._columns)

    @property
    def columns(self) -> dict[str, list[int]]:
        """Places in the output of each feature's transforms and indicators, by its name."""
        owners = [place for places in self._index.values() for place in places] + 2 * list(range(len(self._columns)))
        return {name: [at for at, owner in enumerate(owners) if owner == place] for place, name in enumerate(self.names)}

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes the statistics [4, C]: mean 0 and std 1 until `set_statistics`."""
        count = len(self._columns)

        def start(shape: tf.TensorShape, dtype: tf.DType | None = None, **kwargs: object) -> tf.Tensor:
            return tf.tile(tf.constant([[0.0], [1.0], [0.0], [1.0]], dtype or tf.float32), [1, count])

        self.statistics = self.add_weight(
            "statistics", shape=[4, count], initializer=start, trainable=False, experimental_autocast=False
        )
        super().build(input_shape)

    def set_statistics(self, statistics: Mapping[str, Statistics]) -> None:
        """Stores each column's training-split statistics; columns not named keep theirs."""
        values = self.statistics.numpy()
        for place, name in enumerate(self.names):
            if name in statistics:
                values[:, place] = np.asarray(statistics[name], np.float32)
        self.statistics.assign(values)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """`[R, C]` raw values -> `[R, W]`."""
        return self.trace(inputs)["output"]

    def trace(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Each step by name: `present`, `missing`, `unseen` and `logs` `[R, C]`, `output` `[R, W]`."""
        present, missing, unseen = transforms.split_states(tf.cast(inputs, self.variable_dtype))
        known = 1.0 - missing - unseen
        logs = transforms.signed_log1p(present)
        mean, std, log_mean, log_std = tf.unstack(self.statistics)
        all_values = {
            "zscore": transforms.standardise(present, mean, std),
            "log1p": logs,
            "zlog": transforms.standardise(logs, log_mean, log_std),
            "identity": present,
        }
        parts = [
            tf.gather(all_values[kind] * known, places, axis=1) for kind, places in self._index.items() if places
        ]
        output = tf.cast(tf.concat([*parts, missing, unseen], axis=1), self.compute_dtype)
        return {"present": present, "missing": missing, "unseen": unseen, "logs": logs, "output": output}

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "columns": self._columns}
