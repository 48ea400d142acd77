"""A batch cut into shares, one for each replica, so that all of them together train on exactly the lists of one process's batch."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from cvr import records
from cvr.data import Batch, Budget, Shuffle, assemble, pack, read_records
from cvr.schema import FeatureSpec


def share_budget(budget: Budget, replicas: int, longest: int) -> Budget:
    """The static size of a share: ceil(N / n) + L items, ceil((B - 1) / n) + 1 lists, of n replicas and lists of at most L items.

    `share_of` never needs more.
    """
    return Budget(-(-budget.items // replicas) + longest, -(-(budget.lists - 1) // replicas) + 1)


def share_of(sizes: tf.Tensor, replica: int, replicas: int) -> tf.Tensor:
    """Places of a replica's lists in a batch of lists of `sizes` `[R]`, ascending int32: dealt out by turns, the longest first.

    Numbers of lists differ by one at most. The first replica has the most items and no more than L above any other: with sizes in falling
    order, what it has more than the last in one round, the last has had more or as much than it has in the next.
    """
    order = tf.argsort(sizes, direction="DESCENDING", stable=True)
    return tf.sort(order[replica::replicas])


def groups(files: Sequence[str], budget: Budget, shuffle: Shuffle, skip: int = 0) -> tf.data.Dataset:
    """The batches of `cvr.data.batches`, not yet decoded: serialized records `[R]`."""
    return pack(read_records(files, shuffle), budget).skip(skip)


def shares(spec: FeatureSpec, serialized: tf.data.Dataset, budget: Budget, mine: Sequence[int], replicas: int) -> tf.data.Dataset:
    """Elements (items of the whole batch int64 [], batches of those replicas that are in `mine`); `budget` is that of a share."""

    def decode(group: tf.Tensor) -> tuple[tf.Tensor, tuple[Batch, ...]]:
        sizes = records.list_sizes(group)
        parts = [tf.gather(group, share_of(sizes, replica, replicas)) for replica in mine]
        return tf.reduce_sum(sizes), tuple(assemble(spec, records.parse(spec, part), budget) for part in parts)

    plain = tf.autograph.experimental.do_not_convert(decode)
    return serialized.map(plain, num_parallel_calls=2, deterministic=True).prefetch(4)
