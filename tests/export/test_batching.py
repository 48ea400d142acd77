from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from cvr.errors import CvrError
from export.batching import Batching, batched


def _rows(factor: float, batching: Batching) -> Any:
    """x [n, 1] -> [n, 1]: factor * number of rows computed together."""
    call = batched(lambda x: factor * tf.cast(tf.shape(x)[0], tf.float32) * tf.ones_like(x), batching)
    return tf.function(call, input_signature=[tf.TensorSpec([None, 1])])


def test_batches_are_padded_to_the_next_size_and_cut_again() -> None:
    function = _rows(1.0, Batching(allowed_sizes=(4, 8)))
    assert function(tf.zeros([3, 1])).numpy().tolist() == [[4.0]] * 3
    assert function(tf.zeros([5, 1])).numpy().tolist() == [[8.0]] * 5


def test_large_requests_are_split() -> None:
    result = _rows(1.0, Batching(allowed_sizes=(4, 8)))(tf.zeros([19, 1])).numpy()
    assert result.shape == (19, 1) and result.max() == 8.0


def test_concurrent_calls_are_merged() -> None:
    function = _rows(1.0, Batching(allowed_sizes=(4, 8), timeout_ms=60_000.0, threads=1))
    function.get_concrete_function()
    results: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: results.append(function(tf.zeros([4, 1])).numpy())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result.tolist() for result in results] == [[[8.0]] * 4] * 2


def test_two_functions_do_not_share_a_queue() -> None:
    one, two = (_rows(factor, Batching(allowed_sizes=(4,))) for factor in (1.0, 10.0))
    assert one(tf.zeros([2, 1])).numpy().max() == 4.0 and two(tf.zeros([2, 1])).numpy().max() == 40.0


@pytest.mark.parametrize(
    ("settings", "flag"),
    [
        ({"allowed_sizes": ()}, "allowed_batch_sizes"),
        ({"allowed_sizes": (8, 4)}, "allowed_batch_sizes"),
        ({"allowed_sizes": (0, 4)}, "allowed_batch_sizes"),
        ({"timeout_ms": -1.0}, "batch_timeout_ms"),
        ({"threads": 0}, "batch_threads"),
        ({"max_enqueued": 0}, "max_enqueued_batches"),
        ({"max_request_items": 0}, "max_request_items"),
    ],
)
def test_settings_that_cannot_work(settings: dict[str, Any], flag: str) -> None:
    with pytest.raises(CvrError, match=flag):
        Batching(**settings)
