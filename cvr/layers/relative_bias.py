"""A bias of attention for how far apart two events are, in places and in time."""

from __future__ import annotations

import tensorflow as tf

GROWTH = 0.301
"""Of time buckets: each is exp(0.301) = 1.35 times as long as the one before."""


@tf.keras.utils.register_keras_serializable("cvr")
class RelativeBias(tf.keras.layers.Layer):
    """b_ij = p[ min(distance_ij, K) ] + t[ min(floor( ln(max(|age_i - age_j|, 1)) / 0.301 ), T) ]   (HSTU; SUAN's code, PAPERS 3.8).

    p has a number for each distance 0 .. K in places (SUAN's 2 K + 1 also has those of newer tokens, which nothing sees), t for each of the
    time buckets 0 .. T; ages are in seconds. Both start as N(0, 0.02). All heads and all layers share the bias.
    """

    def __init__(self, length: int, time_buckets: int = 128, **kwargs: object) -> None:
        super().__init__(autocast=False, **kwargs)  # half precision does not tell close ages apart
        self.length, self.time_buckets = length, time_buckets

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes p [K + 1, 1] and t [T + 1, 1]."""
        for name, rows in (("place_table", self.length + 1), ("time_table", self.time_buckets + 1)):
            start = tf.keras.initializers.RandomNormal(stddev=0.02)
            setattr(self, name, self.add_weight(name, shape=[rows, 1], initializer=start, experimental_autocast=False))
        super().build(input_shape)

    def call(self, query_age: tf.Tensor, key_age: tf.Tensor, distance: tf.Tensor) -> tf.Tensor:
        """query_age `[..., Lq]`, key_age `[..., Lk]`, distance int32 `[..., Lq, Lk]` (fewer axes in front will do) -> `[..., Lq, Lk]`."""
        return self.trace(query_age, key_age, distance)["output"]

    def trace(self, query_age: tf.Tensor, key_age: tf.Tensor, distance: tf.Tensor) -> dict[str, tf.Tensor]:
        """Each step by name: `bucket` int32 and `output`, both `[..., Lq, Lk]`."""
        query, key = (tf.cast(age, self.variable_dtype) for age in (query_age, key_age))
        apart = tf.abs(query[..., :, None] - key[..., None, :])
        bucket = tf.cast(tf.math.log(tf.maximum(apart, 1.0)) / tf.constant(GROWTH, apart.dtype), tf.int32)
        bucket = tf.minimum(bucket, self.time_buckets)
        place = tf.clip_by_value(distance, 0, self.length)
        # the reshape makes gradients of the tables dense: they have few rows, which are all read at each step
        places, times = (tf.cast(tf.reshape(table, [-1]), self.compute_dtype) for table in (self.place_table, self.time_table))
        return {"bucket": bucket, "output": tf.gather(times, bucket) + tf.gather(places, place)}

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "length": self.length, "time_buckets": self.time_buckets}
