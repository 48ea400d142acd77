"""Batching inside the graph: TF core's BatchFunction, the scheduler that TF Serving itself uses, around the backbone only.

TF Serving's session batching would wrap every signature with one parameter set and demand a common first dimension (ARCHITECTURE
decision 8), so it stays off and these parameters travel inside the SavedModel.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable

import tensorflow as tf

from cvr.errors import CvrError

_MAX_ROWS = 1_000_000
"""Rows in one call of the batched function; far above what a call holds, which is split into batches anyway."""


@dataclasses.dataclass(frozen=True)
class Batching:
    """How concurrent requests are merged; rows are items.

    `allowed_sizes`: batches are padded up to one of these, the last is the largest batch; larger requests are split.
    `timeout_ms`: how long an unfilled batch waits for more rows; at 0 only rows that arrive while all threads are busy are merged.
    `threads`: batches computed at a time. `max_enqueued`: batches that may wait; beyond it a request fails at once (UNAVAILABLE).
    `max_request_items`: most items in one raw request; time and memory of features across a list grow with its square.
    """

    allowed_sizes: tuple[int, ...] = (32, 128, 512)
    timeout_ms: float = 0.0
    threads: int = 2
    max_enqueued: int = 128
    max_request_items: int = 2_000

    def __post_init__(self) -> None:
        """Raises CvrError naming the flag whose value cannot work."""
        sizes = self.allowed_sizes
        if not sizes or sizes[0] < 1 or any(a >= b for a, b in zip(sizes, sizes[1:], strict=False)):
            raise CvrError(f"--allowed_batch_sizes={','.join(map(str, sizes))} must be positive and rising, such as 32,128,512")
        if self.timeout_ms < 0:
            raise CvrError(f"--batch_timeout_ms={self.timeout_ms} must not be negative")
        if self.threads < 1:
            raise CvrError(f"--batch_threads={self.threads} must be at least 1")
        if self.max_request_items < 1:
            raise CvrError(f"--max_request_items={self.max_request_items} must be at least 1")
        if self.max_enqueued < 1:
            raise CvrError(f"--max_enqueued_batches={self.max_enqueued} must be at least 1")


def batched(function: Callable[..., tf.Tensor], batching: Batching) -> Callable[..., tf.Tensor]:
    """A function of tensors [n, ...] -> float32 [n, T] whose concurrent calls are merged along the first dimension.

    It must treat rows independently. `tf.nondifferentiable_batch_function` names all its queues `batch/`, and queues of one name are one
    queue within a process, whichever model they came from; so two loaded versions would answer for each other. Here each has its own name.
    """

    def call(*arguments: tf.Tensor) -> tf.Tensor:
        specs = [tf.TensorSpec(x.shape, x.dtype, name=f"batch_{i}") for i, x in enumerate(arguments)]
        concrete = tf.function(function, autograph=False).get_concrete_function(*specs)
        (result,) = tf.raw_ops.BatchFunction(
            in_tensors=list(arguments),
            captured_tensors=concrete.captured_inputs,
            f=concrete,
            num_batch_threads=batching.threads,
            max_batch_size=_MAX_ROWS,
            batch_timeout_micros=int(1000 * batching.timeout_ms),
            allowed_batch_sizes=list(batching.allowed_sizes),
            max_enqueued_batches=batching.max_enqueued,
            enable_large_batch_splitting=True,
            shared_name=f"cvr_{uuid.uuid4().hex}",
            Tout=[concrete.outputs[0].dtype],
        )
        return tf.ensure_shape(result, concrete.outputs[0].shape)

    return call
