"""Raw request -> batch: hashing, n-grams and histories by `cvr.transforms`, the code that the pipelines use, so there is no skew."""

from __future__ import annotations

import tensorflow as tf

from cvr import records, transforms
from cvr.schema import Feature, FeatureSpec
from export.inputs import HISTORY_PARTS, ITEM_ID, ITEM_OFFSET, UNSEEN_TEXT, request_inputs, takes_item_id

Tensors = dict[str, tf.Tensor]

NO_LIMIT = 2**31 - 1

# What Python's str.strip takes away, which the pipelines use; tf.strings.strip knows only ASCII.
_SPACE = r"[\t-\r\x1c-\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]"


def encode_request(spec: FeatureSpec, inputs: Tensors, most_items: int = NO_LIMIT) -> Tensors:
    """One raw request (inputs of `export.inputs.request_inputs`) as a batch of one list with n items, as `cvr.data` describes it.

    Raises InvalidArgumentError naming the inputs when there is no item, more than `most_items`, or lengths do not fit together.
    """
    inputs = _checked(spec, inputs, most_items)
    layout = records.Layout.of(spec)
    count = tf.size(inputs[ITEM_ID])
    batch: Tensors = {
        "list_index": tf.zeros([count], tf.int32),
        "item_offset": display_offsets(tf.zeros([count], tf.int32), inputs[ITEM_OFFSET]),
        "item_mask": tf.ones([count], tf.float32),
        "list_size": count[None],
        "item": hash_ids(inputs[ITEM_ID]),
        "context_num": _stack(inputs, layout.context_num, tf.constant(1)),
        "item_num": _stack(inputs, layout.item_num, count),
    }
    for feature in spec.select(stored=True):
        if feature.history is not None:
            batch |= _history(feature, inputs)
        elif feature.ragged:
            bag = _bag(feature, inputs[feature.name])
            batch[f"ragged/{feature.name}/values"] = bag.flat_values
            batch[f"ragged/{feature.name}/rows"] = tf.cast(bag.value_rowids(), tf.int32)
        elif feature.kind == "categorical":
            own_input = feature.level == "context" or not takes_item_id(feature)
            batch[f"cat/{feature.name}"] = hash_ids(inputs[feature.name if own_input else ITEM_ID])
    return batch


def display_offsets(list_index: tf.Tensor, order: tf.Tensor) -> tf.Tensor:
    """0-based place of each item within its list when lists are sorted by `order`, int32 [N]; ties keep the order of the rows."""
    by_order = tf.argsort(order, stable=True)
    by_list = tf.gather(by_order, tf.argsort(tf.gather(list_index, by_order), stable=True))
    first = tf.searchsorted(tf.sort(list_index), list_index, side="left")
    return tf.argsort(by_list, stable=True) - first


def hash_ids(values: tf.Tensor) -> tf.Tensor:
    """Ids of strings, int64 of the same shape: EMPTY for the empty string, UNSEEN for `UNSEEN_TEXT`."""
    return tf.where(tf.equal(values, UNSEEN_TEXT), tf.constant(transforms.UNSEEN, tf.int64), transforms.hash_strings(values))


def _checked(spec: FeatureSpec, inputs: Tensors, most_items: int) -> Tensors:
    """The same inputs, behind assertions on their lengths."""
    item_names = [entry.name for entry in request_inputs(spec) if entry.level == "item"]
    count = tf.size(inputs[ITEM_ID])
    too_many = f"input item_id holds more items than the {most_items} that this model was exported for (--max_request_items):"
    checks = [
        tf.debugging.Assert(count > 0, ["input item_id holds no item; send at least one"]),
        tf.debugging.Assert(count <= most_items, [too_many, count]),
        _same_length(inputs, item_names),
    ]
    for feature in spec.select(kind="sequence", stored=True):
        checks.append(_same_length(inputs, [f"{feature.name}.{part}" for part in HISTORY_PARTS]))
    with tf.control_dependencies([check for check in checks if check is not None]):
        return {name: tf.identity(value) for name, value in inputs.items()}


def _same_length(inputs: Tensors, names: list[str]) -> tf.Operation | None:
    lengths = tf.stack([tf.size(inputs[name]) for name in names])
    wrong = tf.boolean_mask(tf.constant(names), lengths != lengths[0])
    message = f"inputs that must have as many values as input {names[0]} but have not:"
    return tf.debugging.Assert(tf.reduce_all(tf.equal(lengths, lengths[0])), [message, wrong, lengths], summarize=20)


def _stack(inputs: Tensors, names: tuple[str, ...], rows: tf.Tensor) -> tf.Tensor:
    """Numerical inputs as the columns of [rows, len(names)]."""
    if not names:
        return tf.zeros([rows, 0], tf.float32)
    return tf.stack([inputs[name] for name in names], axis=1)


def _bag(feature: Feature, values: tf.Tensor) -> tf.RaggedTensor:
    """Ids of each row's n-grams or separated values, int64 ragged [rows, ids]; [EMPTY] and [UNSEEN] for the reserved states."""
    unseen = tf.equal(values, UNSEEN_TEXT)
    texts = tf.where(unseen, "", values)
    if feature.kind == "text":
        bag = transforms.char_ngrams(texts, feature.ngrams, feature.max_chars)
    else:
        bag = split_ids(texts, feature.separator or "")
    ids = tf.where(tf.gather(unseen, bag.value_rowids()), tf.constant(transforms.UNSEEN, tf.int64), bag.flat_values)
    return bag.with_flat_values(ids)


def split_ids(texts: tf.Tensor, separator: str) -> tf.RaggedTensor:
    """Ids of the values of each text, stripped, empty ones left out, int64 ragged [R, values]; a text without any gives [EMPTY]."""
    pieces = tf.strings.split(texts, separator)
    pieces = pieces.with_flat_values(tf.strings.regex_replace(pieces.flat_values, f"^{_SPACE}+|{_SPACE}+$", ""))
    kept = tf.ragged.boolean_mask(pieces, pieces.with_flat_values(tf.not_equal(pieces.flat_values, "")))
    bare = tf.equal(kept.row_lengths(), 0)
    blanks = tf.RaggedTensor.from_row_lengths(tf.fill([tf.math.count_nonzero(bare)], ""), tf.cast(bare, tf.int64))
    return tf.ragged.map_flat_values(transforms.hash_strings, tf.concat([kept, blanks], axis=1))


def _history(feature: Feature, inputs: Tensors) -> Tensors:
    """The last `length` events whose name the history counts, each part [1, length], padded with 0."""
    history = feature.history
    assert history is not None
    item, action, age = (inputs[f"{feature.name}.{part}"] for part in HISTORY_PARTS)
    unseen = tf.equal(item, UNSEEN_TEXT)
    named = tf.equal(action[:, None], tf.constant(history.events)[None, :])
    codes = transforms.FIRST_ID + tf.argmax(tf.cast(named, tf.int32), axis=1)
    codes = tf.where(unseen, tf.constant(transforms.UNSEEN, tf.int64), codes)
    chosen = tf.logical_or(tf.reduce_any(named, axis=1), unseen)

    def row(values: tf.Tensor) -> tf.Tensor:
        kept = tf.boolean_mask(values, chosen)[: history.length]
        padded = tf.pad(kept, [[0, history.length - tf.size(kept)]])
        return tf.ensure_shape(padded[None, :], [1, history.length])

    prefix = f"seq/{feature.name}"
    return {f"{prefix}/item": row(hash_ids(item)), f"{prefix}/action": row(codes), f"{prefix}/age": row(age)}
