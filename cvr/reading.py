"""Iterating over batches of record files, with errors that name the file and the record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import tensorflow as tf

from cvr import records
from cvr.data import Batch, read_records
from cvr.errors import CvrError
from cvr.schema import FeatureSpec

_CHUNK = 256
# TensorFlow quotes an undecodable record in its message, whose bytes may be no text: then Python raises UnicodeDecodeError instead.
_FOREIGN = (tf.errors.InvalidArgumentError, UnicodeDecodeError)


def iterate(dataset: tf.data.Dataset, spec: FeatureSpec, files: Sequence[str]) -> Iterator[Batch]:
    """The batches of a dataset made from `files`.

    Raises CvrError naming the first file and record that cannot be read: cut or changed bytes, a record of another spec, a file that is
    gone.
    """
    iterator = iter(dataset)
    while True:
        try:
            batch = next(iterator)
        except StopIteration:
            return
        except (tf.errors.DataLossError, tf.errors.NotFoundError, *_FOREIGN) as error:
            raise CvrError(_explain(spec, files, error)) from error
        yield batch


def _explain(spec: FeatureSpec, files: Sequence[str], error: Exception) -> str:
    """Looks for the first broken record, reading file by file."""
    for file in files:
        read = 0
        try:
            for chunk in read_records([file]).batch(_CHUNK):
                for place, record in enumerate(chunk[:, None]):
                    reason = _why_foreign(spec, record)
                    if reason:
                        return f"{file}: record {read + place}: {reason}"
                read += len(chunk)
        except tf.errors.DataLossError:
            return f"{file}: cut off or changed after {read} or more whole records; rebuild the lists"
        except tf.errors.NotFoundError:
            return f"{file} is gone; restore it or rebuild the lists, then run the same command again"
    return f"cannot read the list records: {_first_line(error)}; rebuild the lists"


def _why_foreign(spec: FeatureSpec, record: tf.Tensor) -> str:
    """Why a record [1] cannot be decoded; empty where it can."""
    try:
        records.parse(spec, record)
    except _FOREIGN as error:
        return _first_line(error)
    return ""


def _first_line(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "no list record; rebuild the lists"
    return str(error).split("\n")[0].split(" [Op:")[0].strip()
