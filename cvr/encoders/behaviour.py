"""What an encoder may read of a batch."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf


class Behaviour(NamedTuple):
    """One history of each of a batch's B lists, K events each, the most recent first and padding last, and the N items of all lists.

    What an encoder does not read costs nothing. Without PER_ITEM there are no `candidates` and no `match`.
    """

    events: tf.Tensor
    """`[B, K, d]`: vectors of `EventEmbedding`; zeros at padding."""
    items: tf.Tensor
    """`[B, K, d]`: vectors of the events' items alone, from the sequence's table."""
    real: tf.Tensor
    """bool `[B, K]`: False at padding. An empty history has no real event; an unseen one has a single one, of the reserved item UNSEEN."""
    age: tf.Tensor
    """float32 `[B, K]`: seconds from the event to the search; 0 at padding."""
    profile: tuple[tf.Tensor, ...]
    """`[B, w_f]` each: vectors of the other context features, the numericals together as one; empty where there are none."""
    candidates: tf.Tensor | None
    """`[N, d]`: vectors of the items' own ids, from the sequence's table."""
    match: tf.Tensor | None
    """bool `[N, K]`: whether event k of the item's list is on the item itself."""
    list_index: tf.Tensor
    """int32 `[N]`: the list of each item."""
