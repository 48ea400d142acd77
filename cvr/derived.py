"""Features computed in the model's graph from other inputs: the candidate against the customer's history, and against its list.

They are declared in the feature spec (`derive: {op: ...}`) and computed by this code alone, in training and in the exported model, so
there is nothing that serving could compute differently. Notation: item i of a list, its history events k = 0 (most recent) .. K-1;
m_ik = 1 where event k is on item i, its event name is among `events` (all when empty) and its age is at most `within`.

    history_count        sum_k m_ik
    history_age          age in seconds of the most recent k with m_ik = 1; missing without one
    history_rank         number of distinct items touched more recently than i; missing when i was not touched
    history_list_rank    number of items of this list touched more recently than i; missing when i was not touched
    history_is_last      1 where i is the item of the most recent event
    history_dwell        seconds spent on i: sum over k with m_ik = 1 of min(age_k - age_{k-1}, `cap`), where age_{-1} = 0 is the search
    history_length       number of events (context);  history_distinct  number of distinct items (context)
    history_seconds_since  age of the most recent event (context); missing for an empty history
    offset_to_last       display offset of i minus that of the most recently touched item of the list; missing without one
    value_minus_last     `feature` minus that of the most recently touched item of the list
    diff_touched         `feature` minus its mean over the touched items of the list
    diff_above           `feature` minus that of the item displayed just above; missing for the first
    diff_below           `feature` minus that of the item displayed just below; missing for the last
    diff_best_above      `feature` minus the smallest among the items displayed above; missing for the first
    diff_mean            `feature` minus its mean over the list
    list_rank            (items of the list with a smaller `feature` + half of the ties) / (items - 1); 0 for a single item
    list_ratio           `feature` divided by its mean over the list
    list_size            number of items (context)
    same_as_context      1 where categorical `feature` equals the context's categorical `other`

With `ratio: true` the differences are quotients instead; one by 0 is missing. A missing or unseen operand gives a missing (NaN) result.
`feature` may itself be derived.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from cvr import transforms
from cvr.records import Layout
from cvr.schema import CONTEXT_OPS, Derive, Feature, FeatureSpec

Batch = dict[str, tf.Tensor]
NAN = float("nan")


class DerivedFeatures:
    """Computes the derived features of one batch; intermediate results are shared between features."""

    def __init__(self, spec: FeatureSpec, batch: Batch) -> None:
        self._spec, self._batch, self._layout = spec, batch, Layout.of(spec)
        self._cache: dict[object, tf.Tensor] = {}

    def compute(self, feature: Feature) -> tf.Tensor:
        """Values of a derived feature: float32 [N] at item level, [B] at context level."""
        assert feature.derive is not None
        operation: Callable[[Derive], tf.Tensor] = getattr(self, f"_{feature.derive.op}")
        values = tf.cast(operation(feature.derive), tf.float32)
        per_list = feature.derive.op in CONTEXT_OPS
        if feature.derive.history is not None:
            unseen = self._unseen(feature.derive.history)
            values = tf.where(unseen if per_list else tf.gather(unseen, self._batch["list_index"]), NAN, values)
        if feature.level == "item" and per_list:
            return tf.gather(values, self._batch["list_index"])
        return values

    def _cached(self, key: object, make: Callable[[], tf.Tensor]) -> tf.Tensor:
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    # The customer's history -------------------------------------------------------------------------------------------------

    def _unseen(self, history: str) -> tf.Tensor:
        """bool [B]: lists whose history is unseen, which is not the same as empty."""
        item = self._batch[f"seq/{history}/item"]
        return self._cached(("unseen", history), lambda: tf.reduce_any(tf.equal(item, transforms.UNSEEN), axis=1))

    def _events(self, derive: Derive) -> tf.Tensor:
        """bool [B, K]: real events that pass the filters of `derive`."""
        item = self._batch[f"seq/{derive.history}/item"]
        chosen = item >= transforms.FIRST_ID
        if derive.events:
            history = self._spec.features[derive.history or ""].history
            assert history is not None
            codes = [transforms.FIRST_ID + history.events.index(event) for event in derive.events]
            action = self._batch[f"seq/{derive.history}/action"]
            chosen &= tf.reduce_any(tf.equal(action[..., None], tf.constant(codes, tf.int64)), axis=-1)
        if derive.within is not None:
            chosen &= self._batch[f"seq/{derive.history}/age"] <= derive.within / 1000.0
        return chosen

    def match(self, history: str) -> tf.Tensor:
        """bool [N, K]: whether event k of the list's history is on item i itself."""
        return self._match(Derive(op="history_count", history=history))

    def _match(self, derive: Derive) -> tf.Tensor:
        """m: bool [N, K]."""

        def make() -> tf.Tensor:
            index = self._batch["list_index"]
            touched = tf.gather(self._batch[f"seq/{derive.history}/item"], index)
            return tf.equal(self._batch["item"][:, None], touched) & tf.gather(self._events(derive), index)

        return self._cached(("match", derive.history, derive.events, derive.within), make)

    def _first_match(self, derive: Derive) -> tf.Tensor:
        """Place in the history of the item's most recent event, int32 [N]; K where there is none."""

        def make() -> tf.Tensor:
            match = self._match(derive)
            width = tf.shape(match)[1]
            return tf.reduce_min(tf.where(match, tf.range(width)[None, :], width), axis=1)

        return self._cached(("first", derive.history, derive.events, derive.within), make)

    def _touched(self, derive: Derive) -> tf.Tensor:
        return tf.reduce_any(self._match(derive), axis=1)

    def _new_items(self, derive: Derive) -> tf.Tensor:
        """bool [B, K]: events that are the most recent one on their item."""
        item, chosen = self._batch[f"seq/{derive.history}/item"], self._events(derive)
        same = tf.equal(item[:, :, None], item[:, None, :]) & chosen[:, None, :]
        width = tf.shape(item)[1]
        earlier = tf.range(width)[None, :] < tf.range(width)[:, None]
        return chosen & ~tf.reduce_any(same & earlier[None], axis=2)

    def _history_count(self, derive: Derive) -> tf.Tensor:
        return tf.reduce_sum(tf.cast(self._match(derive), tf.float32), axis=1)

    def _history_age(self, derive: Derive) -> tf.Tensor:
        age = tf.gather(self._batch[f"seq/{derive.history}/age"], self._batch["list_index"])
        smallest = tf.reduce_min(tf.where(self._match(derive), age, tf.float32.max), axis=1)
        return tf.where(self._touched(derive), smallest, NAN)

    def _history_rank(self, derive: Derive) -> tf.Tensor:
        before = tf.cumsum(tf.cast(self._new_items(derive), tf.int32), axis=1, exclusive=True)
        before = tf.pad(before, [[0, 0], [0, 1]])
        rank = tf.gather_nd(before, tf.stack([self._batch["list_index"], self._first_match(derive)], axis=1))
        return tf.where(self._touched(derive), tf.cast(rank, tf.float32), NAN)

    def _history_is_last(self, derive: Derive) -> tf.Tensor:
        chosen = self._events(derive)
        width = tf.shape(chosen)[1]
        latest = tf.reduce_min(tf.where(chosen, tf.range(width)[None, :], width), axis=1)
        is_latest = tf.equal(self._first_match(derive), tf.gather(latest, self._batch["list_index"]))
        return tf.cast(is_latest & self._touched(derive), tf.float32)

    def _history_dwell(self, derive: Derive) -> tf.Tensor:
        item, age = (self._batch[f"seq/{derive.history}/{part}"] for part in ("item", "age"))
        since = tf.where(item >= transforms.FIRST_ID, age, 0.0)
        spent = tf.clip_by_value(since - tf.pad(since[:, :-1], [[0, 0], [1, 0]]), 0.0, derive.cap / 1000.0)
        match = tf.cast(self._match(derive), tf.float32)
        return tf.reduce_sum(match * tf.gather(spent, self._batch["list_index"]), axis=1)

    def _history_length(self, derive: Derive) -> tf.Tensor:
        return tf.reduce_sum(tf.cast(self._events(derive), tf.float32), axis=1)

    def _history_distinct(self, derive: Derive) -> tf.Tensor:
        return tf.reduce_sum(tf.cast(self._new_items(derive), tf.float32), axis=1)

    def _history_seconds_since(self, derive: Derive) -> tf.Tensor:
        chosen = self._events(derive)
        age = tf.where(chosen, self._batch[f"seq/{derive.history}/age"], tf.float32.max)
        return tf.where(tf.reduce_any(chosen, axis=1), tf.reduce_min(age, axis=1), NAN)

    # The list ---------------------------------------------------------------------------------------------------------------

    def _dense(self, values: tf.Tensor, fill: float) -> tf.Tensor:
        """Item values [N] as [B, L]: row = list, column = display offset; `fill` where a list has no such item."""
        sizes = self._batch["list_size"]
        shape = [tf.size(sizes), tf.maximum(tf.reduce_max(sizes), 1)]
        real = tf.where(self._real())[:, 0]
        places = tf.gather(self._places(), real)
        return tf.tensor_scatter_nd_update(tf.fill(shape, tf.cast(fill, values.dtype)), places, tf.gather(values, real))

    def _places(self) -> tf.Tensor:
        return tf.stack([self._batch["list_index"], self._batch["item_offset"]], axis=1)

    def _real(self) -> tf.Tensor:
        sizes = tf.gather(self._batch["list_size"], self._batch["list_index"])
        return self._batch["item_offset"] < sizes

    def _items(self, dense: tf.Tensor) -> tf.Tensor:
        """Back from [B, L] to items [N]; NaN for padding items."""
        last = tf.shape(dense)[1] - 1
        places = tf.stack([self._batch["list_index"], tf.minimum(self._batch["item_offset"], last)], axis=1)
        return tf.where(self._real(), tf.gather_nd(dense, places), NAN)

    def _column(self, name: str | None) -> tf.Tensor:
        """A numerical item feature [N]; anything that is not a number becomes NaN."""

        def make() -> tf.Tensor:
            feature = self._spec.features[name or ""]
            if feature.stored:
                column = self._batch["item_num"][:, self._layout.item_num.index(feature.name)]
            else:
                column = self.compute(feature)
            return tf.where(tf.math.is_finite(column), column, NAN)

        return self._cached(("column", name), make)

    def _compare(self, derive: Derive, values: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
        """values - other, or their quotient, NaN for a quotient by 0."""
        return tf.where(tf.equal(other, 0.0), NAN, values / other) if derive.ratio else values - other

    def _values(self, derive: Derive) -> tf.Tensor:
        return self._cached(("dense", derive.feature), lambda: self._dense(self._column(derive.feature), NAN))

    def _recency(self, derive: Derive) -> tf.Tensor:
        """Place in the history of each item's most recent event, int32 [B, L]; the largest int32 where an item was not touched."""

        def make() -> tf.Tensor:
            return self._dense(tf.where(self._touched(derive), self._first_match(derive), tf.int32.max), tf.int32.max)

        return self._cached(("recency", derive.history, derive.events, derive.within), make)

    def _last_place(self, derive: Derive) -> tuple[tf.Tensor, tf.Tensor]:
        """(display offset of the list's most recently touched item int32 [B], whether there is one bool [B])."""
        recency = self._recency(derive)
        return tf.argmin(recency, axis=1, output_type=tf.int32), tf.reduce_min(recency, axis=1) < tf.int32.max

    def _history_list_rank(self, derive: Derive) -> tf.Tensor:
        recency = self._recency(derive)
        fresher = tf.reduce_sum(tf.cast(recency[:, None, :] < recency[:, :, None], tf.float32), axis=2)
        return tf.where(self._touched(derive), self._items(fresher), NAN)

    def _offset_to_last(self, derive: Derive) -> tf.Tensor:
        place, found = self._last_place(derive)
        index = self._batch["list_index"]
        offset = tf.cast(self._batch["item_offset"] - tf.gather(place, index), tf.float32)
        return tf.where(tf.gather(found, index), offset, NAN)

    def _value_minus_last(self, derive: Derive) -> tf.Tensor:
        place, found = self._last_place(derive)
        index = self._batch["list_index"]
        last = tf.gather(tf.gather(self._values(derive), place, batch_dims=1), index)
        return tf.where(tf.gather(found, index), self._compare(derive, self._column(derive.feature), last), NAN)

    def _diff_touched(self, derive: Derive) -> tf.Tensor:
        values = self._values(derive)
        return self._items(self._compare(derive, values, self._mean(tf.where(self._recency(derive) < tf.int32.max, values, NAN))))

    def _list_rank(self, derive: Derive) -> tf.Tensor:
        values = self._values(derive)
        present = ~tf.math.is_nan(values)
        smaller = tf.reduce_sum(tf.cast(values[:, None, :] < values[:, :, None], tf.float32), axis=2)
        ties = tf.reduce_sum(tf.cast(tf.equal(values[:, None, :], values[:, :, None]), tf.float32), axis=2) - 1.0
        others = tf.reduce_sum(tf.cast(present, tf.float32), axis=1, keepdims=True) - 1.0
        rank = tf.math.divide_no_nan(smaller + 0.5 * ties, tf.maximum(others, 0.0))
        return self._items(tf.where(present, rank, NAN))

    def _mean(self, values: tf.Tensor) -> tf.Tensor:
        """Mean of each row of [B, L] over what is not missing, [B, 1]; NaN for a row without any."""
        present = ~tf.math.is_nan(values)
        total = tf.reduce_sum(tf.where(present, values, 0.0), axis=1, keepdims=True)
        return total / tf.reduce_sum(tf.cast(present, tf.float32), axis=1, keepdims=True)

    def _list_ratio(self, derive: Derive) -> tf.Tensor:
        return self._diff_mean(derive.model_copy(update={"ratio": True}))

    def _diff_mean(self, derive: Derive) -> tf.Tensor:
        values = self._values(derive)
        return self._items(self._compare(derive, values, self._mean(values)))

    def _list_size(self, derive: Derive) -> tf.Tensor:
        del derive
        return tf.cast(self._batch["list_size"], tf.float32)

    def _diff_above(self, derive: Derive) -> tf.Tensor:
        values = self._values(derive)
        above = tf.pad(values[:, :-1], [[0, 0], [1, 0]], constant_values=NAN)
        return self._items(self._compare(derive, values, above))

    def _diff_below(self, derive: Derive) -> tf.Tensor:
        values = self._values(derive)
        below = tf.pad(values[:, 1:], [[0, 0], [0, 1]], constant_values=NAN)
        return self._items(self._compare(derive, values, below))

    def _diff_best_above(self, derive: Derive) -> tf.Tensor:
        values = self._values(derive)
        width = tf.shape(values)[1]
        above = tf.range(width)[None, :] < tf.range(width)[:, None]
        usable = above[None] & ~tf.math.is_nan(values)[:, None, :]
        best = tf.reduce_min(tf.where(usable, values[:, None, :], tf.float32.max), axis=2)
        return self._items(tf.where(tf.reduce_any(usable, axis=2), self._compare(derive, values, best), NAN))

    def _same_as_context(self, derive: Derive) -> tf.Tensor:
        own = self._batch[f"cat/{derive.feature}"]
        context = tf.gather(self._batch[f"cat/{derive.other}"], self._batch["list_index"])
        known = (own >= transforms.FIRST_ID) & (context >= transforms.FIRST_ID)
        return tf.where(known, tf.cast(tf.equal(own, context), tf.float32), NAN)
