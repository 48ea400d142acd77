"""Batches cut into shares: nothing lost, nothing twice, and within the static sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from cvr.data import Budget, Shuffle, batches, split_files
from cvr.manifest import load_manifest
from cvr.sharing import groups, share_budget, share_of, shares
from tests.support import LEAN, tiny_spec


def test_the_longest_lists_are_dealt_out_by_turns() -> None:
    """9 7 | 5 4 | 3: the first of two replicas gets 9, 5 and 3; where two are as long, the one that comes first goes first."""
    sizes = tf.constant([4, 9, 3, 7, 5], tf.int64)
    assert [share_of(sizes, replica, 2).numpy().tolist() for replica in (0, 1)] == [[1, 2, 4], [0, 3]]
    assert [share_of(tf.ones(5, tf.int64), replica, 3).numpy().tolist() for replica in range(3)] == [[0, 3], [1, 4], [2]]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 12), max_size=30), st.integers(1, 5), st.integers(12, 80))
def test_shares_are_disjoint_whole_and_within_their_budget(drawn: list[int], replicas: int, items: int) -> None:
    sizes = np.array(drawn, np.int64)
    sizes = sizes[np.cumsum(sizes) <= items]
    budget = share_budget(Budget(items, len(sizes) + 1), replicas, 12)
    found = [share_of(tf.constant(sizes), replica, replicas).numpy() for replica in range(replicas)]
    assert sorted(np.concatenate(found).tolist()) == list(range(len(sizes)))
    assert all(np.all(np.diff(places) > 0) for places in found)
    assert max(sizes[places].sum() for places in found) <= budget.items
    assert max(len(places) for places in found) <= budget.lists - 1  # the last list is kept empty


def test_replicas_together_have_the_batches_of_one_process(lists: Path) -> None:
    spec, manifest = tiny_spec(LEAN), load_manifest(lists)
    files, budget, shuffle = split_files(lists, manifest, ["train"]), Budget.for_manifest(manifest, ["train"], 24), Shuffle(3, 100)
    alone = list(batches(spec, files, budget, shuffle, skip=1))
    tf.random.set_seed(20260101)
    together = list(shares(spec, groups(files, budget, shuffle, skip=1), share_budget(budget, 3, 6), [0, 1, 2], 3))
    assert len(alone) == len(together) > 3
    for whole, (items, parts) in zip(alone, together, strict=True):
        assert int(items) == int(tf.reduce_sum(whole["list_size"]))
        for key in ("search_id", "item"):
            real = [part[key].numpy()[(part["list_size" if key == "search_id" else "item_mask"]).numpy() > 0] for part in parts]
            expected = whole[key].numpy()[(whole["list_size" if key == "search_id" else "item_mask"]).numpy() > 0]
            assert sorted(np.concatenate(real).tolist()) == sorted(expected.tolist())


def test_a_batch_with_fewer_lists_than_replicas(lists: Path) -> None:
    """The replica that has none gets a batch of padding."""
    spec, files = tiny_spec(LEAN), split_files(lists, load_manifest(lists), ["train"])
    single = groups(files, Budget(6, 2), Shuffle(0, 10)).take(1)
    (_, (first, second)) = next(iter(shares(spec, single, share_budget(Budget(6, 2), 2, 6), [0, 1], 2)))
    assert int(tf.math.count_nonzero(first["list_size"])) == 1
    assert not second["list_size"].numpy().any() and not second["item_mask"].numpy().any()
