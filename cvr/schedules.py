"""Learning-rate schedules."""

from __future__ import annotations

import math

import tensorflow as tf


class WarmupCosine(tf.keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then cosine decay to the end of training (paper 2.2, PAPERS R15).

    peak * (s + 1) / warmup for step s < warmup, then floor + (peak - floor) * (1 + cos(pi (s - warmup) / (total - warmup))) / 2.
    """

    def __init__(self, peak: float, warmup_steps: int, total_steps: int, floor: float = 0.0) -> None:
        if not 0 <= warmup_steps < total_steps:
            raise ValueError(f"warm-up of {warmup_steps} steps does not fit into {total_steps} steps")
        self.peak, self.floor = peak, floor
        self.warmup_steps, self.total_steps = warmup_steps, total_steps

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Learning rate at an integer step, float32."""
        place = tf.cast(step, tf.float32)
        rising = self.peak * (place + 1.0) / max(self.warmup_steps, 1)
        share = tf.clip_by_value((place - self.warmup_steps) / (self.total_steps - self.warmup_steps), 0.0, 1.0)
        falling = self.floor + (self.peak - self.floor) * 0.5 * (1.0 + tf.cos(math.pi * share))
        return tf.where(place < self.warmup_steps, rising, falling)

    def get_config(self) -> dict[str, float]:
        """Keras configuration."""
        return {"peak": self.peak, "warmup_steps": self.warmup_steps, "total_steps": self.total_steps, "floor": self.floor}
