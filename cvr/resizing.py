"""What becomes of an embedding table's rows when its size, or what addresses it, changes between two specs."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence

import numpy as np

from cvr.schema import Embedding, Feature, FeatureSpec
from cvr.transforms import RESERVED_ROWS

Keys = Sequence[Hashable]


@dataclasses.dataclass(frozen=True)
class Carried:
    """A table after a change: its `rows`, or None where nothing can be carried over, and why."""

    rows: np.ndarray | None
    reason: str


def resize_by_hash(old: np.ndarray, fresh: np.ndarray) -> Carried:
    """Rows of a table [n + 4, dim] for m buckets, where an id's row is 4 + h mod buckets for some hash h of it; reserved rows are kept.

        m a multiple of n    row r <- old row (r mod n): every id keeps its vector
        n a multiple of m    row r <- mean of the old rows r, r + m, r + 2 m, ...: those whose ids it now has
        else                 ids of an old row scatter over all new ones: nothing is carried over but the reserved rows
    """
    before, after = len(old) - RESERVED_ROWS, len(fresh) - RESERVED_ROWS
    reserved, rows = old[:RESERVED_ROWS], old[RESERVED_ROWS:]
    if after % before == 0:
        repeated = np.tile(rows, (after // before, 1))
        return Carried(np.concatenate([reserved, repeated]), f"{before} buckets to {after}: ids keep their row")
    if before % after == 0:
        merged = rows.reshape(before // after, after, -1).mean(axis=0)
        return Carried(np.concatenate([reserved, merged]), f"{before} buckets to {after}: the mean of the rows that became one")
    return Carried(None, f"{before} buckets to {after}: neither is a multiple of the other, so no id's row can be told")


def resize_by_key(old: np.ndarray, fresh: np.ndarray, old_keys: Keys, new_keys: Keys) -> Carried:
    """Rows of a table whose row 4 + i belongs to the i-th key: keys that are known keep theirs, others start anew."""
    place = {key: row for row, key in enumerate(old_keys, RESERVED_ROWS)}
    rows = fresh.copy()
    rows[:RESERVED_ROWS] = old[:RESERVED_ROWS]
    known = 0
    for row, key in enumerate(new_keys, RESERVED_ROWS):
        if key in place:
            rows[row], known = old[place[key]], known + 1
    return Carried(rows, f"{known} of {len(new_keys)} values keep their row")


def _keys(spec: FeatureSpec, feature: Feature) -> Keys | None:
    """What a feature's rows stand for, where it is not hashes: the words of a vocabulary, or a derived feature's whole numbers."""
    if feature.vocabulary:
        return feature.vocabulary
    if feature.derive is None:
        return None
    buckets = spec.embedding_of(feature)[1].buckets
    return range(-(buckets // 2), buckets - buckets // 2)


def _users(spec: FeatureSpec, table: str) -> dict[str, Keys | None]:
    features = [f for f in spec.features.values() if f.kind != "numerical" and spec.embedding_of(f)[0] == table]
    return {feature.name: _keys(spec, feature) for feature in features}


def _size(spec: FeatureSpec, table: str) -> Embedding:
    return next(
        size for f in spec.features.values() if f.kind != "numerical" for name, size in [spec.embedding_of(f)] if name == table
    )


def carry_over(specs: tuple[FeatureSpec, FeatureSpec], table: str, old: np.ndarray, fresh: np.ndarray) -> Carried:
    """Rows of a table of both specs (old, new): `old` is the trained one, `fresh` a new one as initialised."""
    sizes = [_size(spec, table) for spec in specs]
    users = [_users(spec, table) for spec in specs]
    methods = [_method(size) for size in sizes]
    if methods[0] != methods[1]:
        return Carried(None, f"{methods[0]} then, {methods[1]} now")
    same_values = all(users[0][name] == keys for name, keys in users[1].items() if name in users[0])
    if same_values and sizes[0].buckets == sizes[1].buckets:
        return Carried(old, "")
    if sizes[1].method == "quotient_remainder":
        return Carried(None, "quotient and remainder of an id depend on the number of buckets")
    keys = [next(iter(found.values())) for found in users]
    if len(users[0]) == len(users[1]) == 1 and keys[0] is not None and keys[1] is not None:
        return resize_by_key(old, fresh, keys[0], keys[1])
    if any(found is not None for both in users for found in both.values()):
        return Carried(None, "rows stood for other values: a vocabulary came, went, or changed in a shared table")
    return resize_by_hash(old, fresh)


def _method(size: Embedding) -> str:
    parts = {"quotient_remainder": f", {size.collisions} collisions", "hash": ""}.get(size.method, f", {size.hashes} hashes")
    return f"{size.method} of dim {size.dim}{parts}"
