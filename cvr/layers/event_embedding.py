"""Vectors of behaviour events: what was touched, how, and how long ago."""

from __future__ import annotations

import math

import tensorflow as tf

from cvr import transforms

AGE_BUCKETS = 32


@tf.keras.utils.register_keras_serializable("cvr")
class EventEmbedding(tf.keras.layers.Layer):
    """e_k = item_k + action_k + age_k: a history event's item vector plus learned vectors of its action and age (PAPERS R6).

    Ages fall into buckets floor(log2(1 + seconds)), 0..31. Padding events (item id 0) give the zero vector. Without `ages` there is no
    age_k, and no table of them: an age counts back from a search, so that it tells a sequence that is to go on how long it will.
    """

    def __init__(self, actions: int, dim: int, ages: bool = True, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.actions, self.dim, self.ages = actions, dim, ages

    def build(self, input_shape: tf.TensorShape) -> None:
        """Makes the action table [actions + 4, dim] and the age table [32, dim]."""
        rows = self.actions + transforms.RESERVED_ROWS
        self.action_table = self.add_weight("action_table", shape=[rows, self.dim], initializer="uniform")
        if self.ages:
            self.age_table = self.add_weight("age_table", shape=[AGE_BUCKETS, self.dim], initializer="uniform")
        super().build(input_shape)

    def call(self, item_vectors: tf.Tensor, item: tf.Tensor, action: tf.Tensor, age: tf.Tensor) -> tf.Tensor:
        """item_vectors `[B, K, dim]`, item, action int64 `[B, K]`, age float32 seconds `[B, K]` -> `[B, K, dim]`."""
        return self.trace(item_vectors, item, action, age)["output"]

    def trace(self, item_vectors: tf.Tensor, item: tf.Tensor, action: tf.Tensor, age: tf.Tensor) -> dict[str, tf.Tensor]:
        """Each step by name: `bucket` of the age int32 `[B, K]`, `action` and `age` vectors, `output` `[B, K, dim]`."""
        # one-hot products, not gathers: the tables are tiny, and their gradients stay dense
        actions = tf.one_hot(action, self.actions + transforms.RESERVED_ROWS, dtype=item_vectors.dtype)
        steps = {"action": tf.matmul(actions, self.action_table)}
        events = item_vectors + steps["action"]
        if self.ages:
            steps |= self._age(age, item_vectors.dtype)
            events += steps["age"]
        return {**steps, "output": events * tf.cast(tf.not_equal(item, transforms.PAD), events.dtype)[..., None]}

    def _age(self, age: tf.Tensor, kind: tf.DType) -> dict[str, tf.Tensor]:
        buckets = tf.cast(tf.math.log1p(tf.maximum(age, 0.0)) / math.log(2.0), tf.int32)
        buckets = tf.minimum(buckets, AGE_BUCKETS - 1)
        return {"bucket": buckets, "age": tf.matmul(tf.one_hot(buckets, AGE_BUCKETS, dtype=kind), self.age_table)}

    def list_multiply_adds(self, length: int) -> int:
        """Of a list with K events: the one-hot products, K (actions + 4 + 32) d, without ages K (actions + 4) d."""
        return length * (self.actions + transforms.RESERVED_ROWS + AGE_BUCKETS * self.ages) * self.dim

    def get_config(self) -> dict[str, object]:
        """Keras configuration."""
        return {**super().get_config(), "actions": self.actions, "dim": self.dim, "ages": self.ages}
