"""What the head's gates do while a ranker trains: how evenly each task uses the experts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import tensorflow as tf

from cvr.layers.mmoe import MMoE


class GateUse(tf.Module):
    """The gates' entropy and the experts' shares in the last training step. A collapsed gate has an entropy near 0 (PAPERS 3.6)."""

    def __init__(self, head: MMoE) -> None:
        super().__init__(name="gate_use")
        self._experts = head.experts
        self._last = tf.Variable(tf.zeros([head.tasks, 1 + head.experts]), trainable=False, name="gate_use")

    def note(self, use: tf.Tensor) -> None:
        """Notes a step's `cvr.layers.mmoe.gate_use`, inside its graph."""
        self._last.assign(use)

    def values(self, tasks: Sequence[str]) -> dict[str, float]:
        """By name: `gate_entropy/<task>` in nats, `gate_entropy_share/<task>` of log E (1 for a single expert), `expert_use/<task>/<e>`."""
        found: dict[str, float] = {}
        highest = math.log(self._experts)
        for task, (entropy, *shares) in zip(tasks, self._last.numpy().tolist(), strict=True):
            found[f"gate_entropy/{task}"] = entropy
            found[f"gate_entropy_share/{task}"] = entropy / highest if highest else 1.0
            found |= {f"expert_use/{task}/{expert}": share for expert, share in enumerate(shares)}
        return found
