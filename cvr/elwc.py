"""Search lists as TF-Ranking reads them: one `ExampleListWithContext` (ELWC) per list, with a key per feature.

Keys (a feature's name holds no slash, so none of ours can be taken by one):

    context    list/spec int64   list/search_id bytes   list/time int64, ms since the epoch, UTC
    examples   item/id int64, hashed   item/position int64, 1-based   item/popularity float (a baseline, not a feature)
               <task> float, 0 or 1    <task>/delay int64, ms to the engagement, -1 without one
    features   <name>, in the context or in each example by its level: float [1] of a numerical (NaN missing, -inf unseen), int64 [1]
               of a categorical, int64 [k] of a bag of ids: full hashes and reserved ids, exactly as `cvr.records` has them
    sequences  <name>/item, <name>/action int64 [k], <name>/age float [k], in the context: most recent first, age in seconds

Examples are in display order. docs/interchange.md shows how to read them with TF-Ranking.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf
from google.protobuf import descriptor_pb2
from tensorflow.core.example import example_pb2, feature_pb2
from tensorflow_serving.apis import input_pb2

from cvr.errors import CvrError
from cvr.records import Bag, Histories, Layout, ListColumns, _check_columns
from cvr.schema import FeatureSpec
from cvr.transforms import PAD
from cvr.wire import ExampleWriter, binary, varints

SPEC_KEY, SEARCH_KEY, TIME_KEY = "list/spec", "list/search_id", "list/time"
ITEM_KEY, POSITION_KEY, POPULARITY_KEY = "item/id", "item/position", "item/popularity"
LONGEST_KEY = 100
"""So that every length before a value takes one byte."""
_PARTS = ("item", "action", "age")


def delay_key(task: str) -> str:
    """The key of a task's delays."""
    return f"{task}/delay"


def check_keys(spec: FeatureSpec) -> None:
    """Raises CvrError where two keys are the same, as those of a task and a feature of the same name are, or one is too long."""
    layout = Layout.of(spec)
    sequences = [f"{name}/{part}" for name in layout.sequences for part in _PARTS]
    fixed = [SPEC_KEY, SEARCH_KEY, TIME_KEY, ITEM_KEY, POSITION_KEY, POPULARITY_KEY]
    features = [f.name for f in spec.select(stored=True) if f.kind != "sequence"]
    keys = Counter([*fixed, *layout.tasks, *map(delay_key, layout.tasks), *features, *sequences])
    twice = [key for key, count in keys.items() if count > 1]
    if twice:
        raise CvrError(f"format elwc has one key per task and feature, and {twice[0]!r} would stand for two; rename the task or feature")
    longest = max(keys, key=lambda key: len(key.encode()))
    if len(longest.encode()) > LONGEST_KEY:
        raise CvrError(f"format elwc takes keys of at most {LONGEST_KEY} bytes, and {longest!r} is longer; rename the task or feature")


def encode_elwc(spec: FeatureSpec, columns: ListColumns) -> list[bytes]:
    """Serialises lists to ELWC records, vectorised over all of them. The columns are those of `cvr.records.encode`.

    Raises CvrError where two keys are the same or one is too long, ValueError where columns do not fit the spec.
    """
    layout = Layout.of(spec)
    check_keys(spec)
    _check_columns(layout, columns)
    if not len(columns.lengths):
        return []
    items = _framed(b"\x0a", _item_examples(layout, columns))
    ends = np.cumsum(columns.lengths.astype(np.int64))
    offsets = np.frombuffer(items.buffers()[1], np.int64)[np.concatenate([[0], ends])]
    lists = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(ends), [None, pa.py_buffer(offsets), items.buffers()[2]])
    return _join(lists, _framed(b"\x12", _context_examples(layout, columns))).to_pylist()


def _join(*pieces: pa.Array | bytes) -> pa.Array:
    typed = [pa.scalar(piece, pa.large_binary()) if isinstance(piece, bytes) else piece for piece in pieces]
    return pc.binary_join_element_wise(*typed, pa.scalar(b"", pa.large_binary()))


def _framed(tag: bytes, messages: pa.Array) -> pa.Array:
    """Messages as fields of the message around them: tag, length, bytes."""
    payload, counts = varints(pc.binary_length(messages).to_numpy())
    return _join(tag, binary(payload, counts), messages)


class _ItemWriter(ExampleWriter):
    """Writes keys with one value per Example with far fewer pieces: of such an entry only the value, and for an int64 its lengths, vary."""

    def one_float(self, keys: Sequence[str], values: np.ndarray) -> None:
        """float32 [rows, keys]: all entries of a row are one piece."""
        heads = [_head(key, b"\x12", 4) for key in keys]
        block = np.empty((self._rows, sum(map(len, heads)) + 4 * len(heads)), np.uint8)
        payload = np.ascontiguousarray(values, "<f4").view(np.uint8).reshape(self._rows, len(keys), 4)
        end = 0
        for place, head in enumerate(heads):
            block[:, end : end + len(head)] = np.frombuffer(head, np.uint8)
            block[:, end + len(head) : end + len(head) + 4] = payload[:, place]
            end += len(head) + 4
        self._append(block)

    def one_int64(self, key: str, values: np.ndarray) -> None:
        """int64 [rows]: an entry is a head, four bytes of which count the varint after them, and the varint."""
        payload, counts = varints(values)
        head = np.frombuffer(_head(key, b"\x1a", 0), np.uint8)
        block = np.tile(head, (self._rows, 1))
        for place in (1, len(head) - 5, len(head) - 3, len(head) - 1):
            block[:, place] += counts.astype(np.uint8)
        self._append(block)
        self._pieces.append(binary(payload, counts))
        self._size += counts

    def _append(self, block: np.ndarray) -> None:
        self._pieces.append(binary(block.ravel(), np.full(self._rows, block.shape[1])))
        self._size += block.shape[1]


def _head(key: str, tag: bytes, size: int) -> bytes:
    """What precedes a value of `size` bytes in an entry of `Features.feature`; all lengths take one byte (`check_keys`)."""
    name = key.encode()
    feature = bytes([0x12, size + 4]) + tag + bytes([size + 2, 0x0A, size])
    return bytes([0x0A, len(name) + 2 + len(feature) + size, 0x0A, len(name)]) + name + feature


def _item_examples(layout: Layout, columns: ListColumns) -> pa.Array:
    writer = _ItemWriter(len(columns.item))
    numbers = np.column_stack([columns.popularity, columns.labels, columns.item_num])
    writer.one_float((POPULARITY_KEY, *layout.tasks, *layout.item_num), numbers)
    for key, ids in ((ITEM_KEY, columns.item), (POSITION_KEY, columns.position)):
        writer.one_int64(key, ids)
    for place, task in enumerate(layout.tasks):
        writer.one_int64(delay_key(task), columns.delay[:, place])
    for name in layout.item_cat:
        writer.one_int64(name, columns.cat[name])
    for name in layout.item_ragged:
        writer.int64(name, columns.bags[name].values, columns.bags[name].lengths.astype(np.int64))
    return writer.finish()


def _context_examples(layout: Layout, columns: ListColumns) -> pa.Array:
    rows = len(columns.lengths)
    one, writer = np.ones(rows, np.int64), ExampleWriter(rows)
    writer.int64(SPEC_KEY, np.full(rows, layout.fingerprint), one)
    writer.bytes_(SEARCH_KEY, [s.encode() if isinstance(s, str) else bytes(s) for s in columns.search_id])
    writer.int64(TIME_KEY, columns.time, one)
    for place, name in enumerate(layout.context_num):
        writer.float32(name, columns.context_num[:, place], one)
    for name in layout.context_cat:
        writer.int64(name, columns.cat[name], one)
    for name in layout.context_ragged:
        writer.int64(name, columns.bags[name].values, columns.bags[name].lengths.astype(np.int64))
    for name in layout.sequences:
        sequence = columns.sequences[name]
        lengths = sequence.lengths.astype(np.int64)
        writer.int64(f"{name}/item", sequence.item, lengths)
        writer.int64(f"{name}/action", sequence.action, lengths)
        writer.float32(f"{name}/age", sequence.age, lengths)
    return writer.finish()


def elwc_specs(spec: FeatureSpec) -> tuple[dict[str, object], dict[str, object]]:
    """(context_feature_spec, example_feature_spec) for `tfr.data.build_ranking_dataset(..., tfr.data.ELWC, ...)`.

    It then gives [B, 1] context and [B, L, 1] item tensors, and ragged ones for bags of ids and sequences. Items that only pad a list
    have label -1 (TF-Ranking's mark of padding), delay -1, ids 0 and numericals 0.
    """
    layout = Layout.of(spec)
    check_keys(spec)
    ragged = {tf.int64: tf.io.RaggedFeature(tf.int64), tf.float32: tf.io.RaggedFeature(tf.float32)}
    context: dict[str, object] = {SEARCH_KEY: tf.io.FixedLenFeature([1], tf.string)}
    context |= {key: tf.io.FixedLenFeature([1], tf.int64) for key in (SPEC_KEY, TIME_KEY, *layout.context_cat)}
    context |= {name: tf.io.FixedLenFeature([1], tf.float32) for name in layout.context_num}
    context |= {name: ragged[tf.int64] for name in layout.context_ragged}
    for name in layout.sequences:
        context |= {f"{name}/item": ragged[tf.int64], f"{name}/action": ragged[tf.int64], f"{name}/age": ragged[tf.float32]}
    ids = (ITEM_KEY, POSITION_KEY, *layout.item_cat)
    items: dict[str, object] = {key: tf.io.FixedLenFeature([1], tf.int64, PAD) for key in ids}
    items |= {name: tf.io.FixedLenFeature([1], tf.float32, 0.0) for name in (POPULARITY_KEY, *layout.item_num)}
    items |= {task: tf.io.FixedLenFeature([1], tf.float32, -1.0) for task in layout.tasks}
    items |= {delay_key(task): tf.io.FixedLenFeature([1], tf.int64, -1) for task in layout.tasks}
    items |= {name: ragged[tf.int64] for name in layout.item_ragged}
    return context, items


def decode_elwc(spec: FeatureSpec, records: Sequence[bytes]) -> ListColumns:
    """ELWC records back to columns: the inverse of `encode_elwc`.

    Raises ValueError where a record is none, was built with another spec or lacks a key.
    """
    layout = Layout.of(spec)
    try:
        contexts, examples, lengths = _split(records)
        context, items = (_parse(keys, part) for keys, part in zip(elwc_specs(spec), (contexts, examples), strict=True))
    except (tf.errors.InvalidArgumentError, tf.errors.DataLossError) as error:
        raise ValueError(error.message) from error
    if np.any(context[SPEC_KEY][0] != layout.fingerprint):
        raise ValueError("a record was built with another feature spec than the one given; use the spec in the manifest of its lists")
    flat = {key: values for key, (values, _) in (context | items).items()}
    sizes = {key: counts for key, (_, counts) in (context | items).items()}
    return ListColumns(
        search_id=flat[SEARCH_KEY],
        time=flat[TIME_KEY],
        lengths=lengths,
        item=flat[ITEM_KEY],
        position=flat[POSITION_KEY],
        labels=_stacked([flat[task].astype(np.int64) for task in layout.tasks], len(examples), np.int64),
        delay=_stacked([flat[delay_key(task)] for task in layout.tasks], len(examples), np.int64),
        popularity=flat[POPULARITY_KEY],
        context_num=_stacked([flat[name] for name in layout.context_num], len(contexts), np.float32),
        item_num=_stacked([flat[name] for name in layout.item_num], len(examples), np.float32),
        cat={name: flat[name] for name in layout.context_cat + layout.item_cat},
        bags={name: Bag(flat[name], sizes[name]) for name in layout.context_ragged + layout.item_ragged},
        sequences={name: _history(name, flat, sizes) for name in layout.sequences},
    )


def search_ids(records: Sequence[bytes]) -> tf.Tensor:
    """Search ids of ELWC records, string [R], without decoding the items. Raises ValueError where a record is no list."""
    try:
        return tf.io.parse_example(_split(records)[0], {SEARCH_KEY: tf.io.FixedLenFeature([], tf.string)})[SEARCH_KEY]
    except (tf.errors.InvalidArgumentError, tf.errors.DataLossError) as error:
        raise ValueError(error.message) from error


def _history(name: str, flat: dict[str, np.ndarray], sizes: dict[str, np.ndarray]) -> Histories:
    item, action, age = (flat[f"{name}/{part}"] for part in _PARTS)
    return Histories(item, action, age, sizes[f"{name}/item"])


def _stacked(columns: list[np.ndarray], rows: int, kind: type) -> np.ndarray:
    return np.stack(columns, axis=1) if columns else np.zeros((rows, 0), kind)


def _split(records: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Serialized Examples of contexts [R] and of all items [N], and items per list int64 [R]."""
    if not len(records):
        return np.zeros(0, object), np.zeros(0, object), np.zeros(0, np.int64)
    files = descriptor_pb2.FileDescriptorSet()
    for module in (feature_pb2, example_pb2, input_pb2):
        module.DESCRIPTOR.CopyToProto(files.file.add())
    sizes, (contexts, examples) = tf.io.decode_proto(
        tf.constant(list(records), tf.string),
        message_type="tensorflow.serving.ExampleListWithContext",
        field_names=["context", "examples"],
        output_types=[tf.string, tf.string],
        descriptor_source=b"bytes://" + files.SerializeToString(),
    )
    counts = sizes.numpy().astype(np.int64)
    if np.any(counts[:, 0] != 1):
        raise ValueError(f"record {np.flatnonzero(counts[:, 0] != 1)[0]} holds no context: it is no list of format elwc")
    shown = np.arange(examples.shape[1]) < counts[:, 1:]
    return contexts.numpy()[:, 0], examples.numpy()[shown], counts[:, 1]


def _parse(keys: dict[str, object], examples: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Values and values per Example of each key; raises ValueError where a key that holds one value does not."""
    ragged = {key: tf.io.RaggedFeature(kind.dtype, row_splits_dtype=tf.int64) for key, kind in keys.items()}  # type: ignore[attr-defined]
    found = tf.io.parse_example(tf.constant(examples, tf.string), ragged)
    parsed = {key: (value.flat_values.numpy(), value.row_lengths().numpy()) for key, value in found.items()}
    for key, kind in keys.items():
        if isinstance(kind, tf.io.FixedLenFeature) and np.any(parsed[key][1] != 1):
            raise ValueError(f"a record holds no single {key!r}; rebuild the lists")
    return parsed
