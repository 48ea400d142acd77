"""Smaller weights for serving: embedding tables in bfloat16 or int8, dense weights and their products in bfloat16.

    bfloat16   x' = x rounded to 8 significant bits, to even: |x' - x| <= 2^-8 |x|; half the bytes
    int8       row r of a table T: s_r = max_j |T_rj| / 127, q_rj = round(T_rj / s_r), x'_rj = s_r q_rj, so |x' - x| <= s_r / 2;
               width + 4 bytes a row instead of 4 width

Rows are scaled back after the look-up, so a table is never whole in float32. What adds up or scales many numbers (statistics, counts,
layers that compute in float32 under a mixed policy) stays in float32.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from cvr.errors import CvrError
from cvr.layers.id_embedding import IdEmbedding
from cvr.ranker import Ranker

TYPES = ("float32", "bfloat16")
TABLE_TYPES = ("float32", "bfloat16", "int8")
LARGEST_CODE = 127
_TABLE_ATTRIBUTES = ("table", "quotient", "remainder")


@dataclasses.dataclass(frozen=True)
class Storage:
    """Types of what a version stores. `weights`: the dense weights, and what is computed with them."""

    weights: str = "float32"
    tables: str = "float32"

    @property
    def exact(self) -> bool:
        """Whether nothing is rounded."""
        return self == Storage()

    @property
    def precision(self) -> str | None:
        """The policy that the ranker must be loaded with; None for its own."""
        return "mixed_bfloat16" if self.weights == "bfloat16" else None


class StoredTable(tf.Module):
    """An embedding table `[R, width]` in another type."""

    def __init__(self, table: tf.Variable, storage: str) -> None:
        super().__init__(name=table.name.split(":")[0].replace("/", "_"))
        values = tf.convert_to_tensor(table)
        self.scales: tf.Variable | None = None
        if storage == "int8":
            codes, scales = quantised_rows(values.numpy())
            self.scales = tf.Variable(scales, trainable=False, name="scales")
            self.codes = tf.Variable(codes, trainable=False, name="codes")
        else:
            self.codes = tf.Variable(tf.cast(values, storage), trainable=False, name="codes")

    def look_up(self, rows: tf.Tensor) -> tf.Tensor:
        """Rows of any shape `[...]` -> float32 `[..., width]`."""
        vectors = tf.cast(tf.gather(self.codes, rows), tf.float32)
        return vectors if self.scales is None else vectors * tf.gather(self.scales, rows)[..., None]


def quantised_rows(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 [R, width] -> codes int8 [R, width], scales float32 [R]; a row of zeros has scale 0. Raises CvrError for NaN or infinity."""
    largest = np.abs(table).max(axis=1)
    if not np.isfinite(largest).all():
        raise CvrError(f"row {int(np.argmin(np.isfinite(largest)))} of an embedding table is not finite; int8 cannot hold it")
    scales = (largest / LARGEST_CODE).astype(np.float32)
    codes = np.rint(table / np.where(scales > 0, scales, 1)[:, None]).clip(-LARGEST_CODE, LARGEST_CODE)
    return codes.astype(np.int8), scales


def convert(ranker: Ranker, storage: Storage) -> None:
    """Changes the ranker's variables in place; it can only be read afterwards.

    With bfloat16 weights it must have been loaded with `storage.precision`.
    """
    if storage.weights != "float32":
        for variable in ranker.dense_variables:
            _store_as_bfloat16(variable)
    if storage.tables != "float32":
        for layer in ranker.extraction.tables.values():
            _store_tables(layer, storage.tables)


def _store_tables(layer: IdEmbedding, storage: str) -> None:
    for name in _TABLE_ATTRIBUTES:
        if hasattr(layer, name):
            stored = StoredTable(getattr(layer, name), storage)
            delattr(layer, name)
            setattr(layer, name, stored)


def _store_as_bfloat16(variable: tf.Variable) -> None:
    """Keras wraps the weights of layers that compute in bfloat16, and reads through the wrapper; others stay in float32."""
    inner = getattr(variable, "_variable", None)
    if inner is not None:
        variable._variable = tf.Variable(tf.cast(inner, tf.bfloat16), trainable=False, name=inner.name.split(":")[0])


def stored_bytes(ranker: Ranker) -> dict[str, int]:
    """Bytes of the embedding tables and of all other variables."""
    tables = sum(_bytes(variable) for variable in ranker.extraction.all_table_variables)
    return {"tables": tables, "other": sum(map(_bytes, ranker.variables)) - tables}


def _bytes(variable: tf.Variable) -> int:
    inner = getattr(variable, "_variable", variable)  # the wrapper tells the type that Keras computes in
    return int(inner.shape.num_elements()) * int(inner.dtype.size)
