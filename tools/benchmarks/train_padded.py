"""Our ranker, with its layers and weights, as others lay it out: lists padded to the longest, context features copied to each item."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf
import tensorflow_ranking as tfr

from cvr.data import Batch
from cvr.elwc import ITEM_KEY, elwc_specs
from cvr.precision import precision
from cvr.ranker import Ranker, RankerConfig, make_variables
from cvr.records import Layout
from cvr.schema import FeatureSpec

Features = Mapping[str, tf.Tensor | tf.RaggedTensor]
SIZE_KEY, MASK_KEY = "list/size", "list/mask"


class PerItemRanker(Ranker):
    """A ranker that makes the context part of the projection once per item instead of once per list; the result is the same."""

    def call(self, batch: Batch, training: bool = False, with_gates: bool = False) -> tf.Tensor | tuple[tf.Tensor, tf.Tensor]:
        """As `Ranker.call`, without dropout."""
        context, items = self.extract(batch)
        projected = self.project_context(tf.gather(context, batch["list_index"]))
        logits, gates = self.head(self.hidden(projected, items, training), with_gates=True)
        return (tf.cast(logits, tf.float32), gates) if with_gates else tf.cast(logits, tf.float32)


def build_per_item(spec: FeatureSpec, config: RankerConfig, batch: Batch) -> PerItemRanker:
    """As `cvr.ranker.build_ranker`, with the same weights."""
    tf.keras.utils.set_random_seed(config.seed)
    with precision(config.precision):
        ranker = PerItemRanker(spec, config)
        make_variables(ranker, batch)
    return ranker


def dataset(spec: FeatureSpec, path: str, lists: int, threads: int) -> tf.data.Dataset:
    """One pass over an ELWC file by TF-Ranking's builder: `lists` lists a batch, padded to its longest; one key per feature."""
    context, example = elwc_specs(spec)
    return tfr.data.build_ranking_dataset(
        path, tfr.data.ELWC, lists, context, example, size_feature_name=SIZE_KEY, mask_feature_name=MASK_KEY, shuffle=False, num_epochs=1,
        reader_num_threads=1, num_parser_threads=threads,
    )  # fmt: skip


def parse(spec: FeatureSpec, records: Sequence[bytes], longest: int) -> Features:
    """ELWC records as TF-Ranking parses them, padded to `longest` items."""
    context, example = elwc_specs(spec)
    names = {"size_feature_name": SIZE_KEY, "mask_feature_name": MASK_KEY}
    return tfr.data.parse_from_example_list(records, longest, context, example, **names)


def padded_batch(spec: FeatureSpec, features: Features) -> Batch:
    """What TF-Ranking parsed, items `[B, L, 1]`, as a batch of B * L items; those that pad a list have mask 0."""
    layout, mask = Layout.of(spec), features[MASK_KEY]
    lists, longest = tf.shape(mask)[0], tf.shape(mask)[1]

    def ids(name: str) -> tf.Tensor:
        return tf.reshape(features[name], [-1])

    def numbers(names: Sequence[str], level: str) -> tf.Tensor:
        rows = lists if level == "context" else lists * longest
        return tf.concat([tf.zeros([rows, 0]), *(tf.reshape(features[name], [-1, 1]) for name in names)], axis=1)

    batch = {
        "list_index": tf.repeat(tf.range(lists), longest),
        "item_offset": tf.tile(tf.range(longest), [lists]),
        "item_mask": tf.cast(tf.reshape(mask, [-1]), tf.float32),
        "list_size": tf.cast(features[SIZE_KEY], tf.int32),
        "item": ids(ITEM_KEY),
        "labels": tf.stack([ids(task) for task in layout.tasks], axis=1),
        "context_num": numbers(layout.context_num, "context"),
        "item_num": numbers(layout.item_num, "item"),
        **{f"cat/{name}": ids(name) for name in layout.context_cat + layout.item_cat},
    }
    for name in layout.context_ragged + layout.item_ragged:
        bags = features[name]
        inner = bags.values if name in layout.item_ragged else bags
        batch[f"ragged/{name}/values"] = inner.values
        batch[f"ragged/{name}/rows"] = tf.cast(inner.value_rowids(), tf.int32)
    for name in layout.sequences:
        history = spec.features[name].history
        assert history is not None
        for part in ("item", "action", "age"):
            batch[f"seq/{name}/{part}"] = features[f"{name}/{part}"].to_tensor(shape=[None, history.length])
    return batch


def losses(ranker: Ranker, features: Features) -> tf.Tensor:
    """Loss of each task `[T]` by TF-Ranking's layers: FlattenList, dense layers on all `[B * L]` items, RestoreList, SoftmaxLoss."""
    batch, mask = padded_batch(ranker.spec, features), features[MASK_KEY]
    context, items = ranker.extract(batch)
    items = tf.reshape(items, [tf.shape(mask)[0], tf.shape(mask)[1], items.shape[1]])
    flat_context, flat_items = tfr.keras.layers.FlattenList()(({"context": context}, {"items": items}, mask))
    projected = ranker.project_context(flat_context["context"])
    logits = tf.cast(ranker.head(ranker.hidden(projected, flat_items["items"], training=True)), tf.float32)
    loss = tfr.keras.losses.SoftmaxLoss(reduction=tf.keras.losses.Reduction.SUM)
    restored = [tfr.keras.layers.RestoreList()((logits[:, place], mask)) for place in range(len(ranker.task_names))]
    labels = [features[task][:, :, 0] for task in ranker.task_names]
    sums = [loss(wanted, scores) for wanted, scores in zip(labels, restored, strict=True)]
    return tf.stack(sums) / tf.cast(tf.shape(mask)[0], tf.float32)


def training_step(ranker: Ranker) -> Callable[[Features], tf.Tensor]:
    """One update of all weights by Keras Adam, which takes tables for dense ones; gives the loss of each task `[T]`."""
    variables = ranker.trainable_variables
    optimizer = tf.keras.optimizers.Adam(1e-4, jit_compile=False)
    optimizer.build(variables)

    def step(features: Features) -> tf.Tensor:
        with tf.GradientTape() as tape:
            found = losses(ranker, features)
            total = tf.reduce_sum(found)
        optimizer.apply_gradients(zip(tape.gradient(total, variables), variables, strict=True))
        return found

    return step
