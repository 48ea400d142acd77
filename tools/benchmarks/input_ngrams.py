"""Character n-grams three ways: ids read from records, hashed from code points in the graph, and as strings, cut and hashed.

Each way gives the n-grams of orders 2 and 3 of the same texts, in calls of 1,024 texts: `stored` parses the ids out of records of 32 texts,
as training does; `points` is `cvr.transforms.char_ngrams`, as serving and pipelines do; `strings` splits into characters, joins them by
`tf.strings.ngrams` and hashes the strings. The last two begin with the texts in memory: reading them is not counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from cvr.errors import CvrError
from cvr.records import Bag
from cvr.transforms import char_ngrams, hash_strings
from cvr.wire import ExampleWriter, segment_sums
from tools.benchmarks.reference_batch import LENGTH
from tools.benchmarks.summary import Spread

WAYS = ("stored", "points", "strings")
ORDERS = (2, 3)
_TEXTS, _LONGEST = 1024, 64
_LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyzäöüß白北"))


def random_texts(texts: int, seed: int) -> list[str]:
    """Texts of 11 to 16 characters, of which a few take more than a byte: 24 n-grams of orders 2 and 3 on average."""
    source = np.random.default_rng(seed)
    return ["".join(source.choice(_LETTERS, source.integers(11, 17))) for _ in range(texts)]


def stored_records(ids: tf.RaggedTensor) -> list[bytes]:
    """Records of 32 texts with the ids of their n-grams, as `cvr.records` writes bags."""
    bag = Bag(ids.flat_values.numpy(), ids.row_lengths().numpy())
    sizes = np.full(len(bag.lengths) // LENGTH, LENGTH)
    writer = ExampleWriter(len(sizes))
    writer.int64("r/text", bag.values, segment_sums(bag.lengths, sizes))
    writer.int64("r/text/n", bag.lengths, sizes)
    return writer.finish().to_pylist()


def stored(records: tf.Tensor) -> tf.RaggedTensor:
    """N-gram ids by text, parsed."""
    kind = tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64)
    found = tf.io.parse_example(records, {"r/text": kind, "r/text/n": kind})
    return tf.RaggedTensor.from_row_lengths(found["r/text"].flat_values, found["r/text/n"].flat_values, validate=False)


def points(texts: tf.Tensor) -> tf.RaggedTensor:
    """N-gram ids by text, hashed from code points."""
    return char_ngrams(texts, ORDERS, _LONGEST)


def strings(texts: tf.Tensor) -> tf.RaggedTensor:
    """N-gram ids by text, hashed from strings: other ids than the two others', as many."""
    characters = tf.strings.unicode_split(tf.strings.lower(texts, encoding="utf-8"), "UTF-8", errors="replace")[:, :_LONGEST]
    grams = tf.strings.ngrams(characters, ORDERS, separator="")
    return grams.with_flat_values(hash_strings(grams.flat_values))


def check(made: Mapping[str, tf.RaggedTensor]) -> float:
    """N-grams per text. Raises CvrError where `stored` and `points` differ in an id, or `strings` in the number of n-grams of a text."""
    lengths = {way: ids.row_lengths().numpy() for way, ids in made.items()}
    same = np.array_equal(made["stored"].flat_values.numpy(), made["points"].flat_values.numpy())
    if not same or any(not np.array_equal(counts, lengths["points"]) for counts in lengths.values()):
        raise CvrError("the ways to n-grams do not give the same: the benchmark compares unlike work")
    return float(lengths["points"].mean())


def measure(repeats: int, calls: int, seed: int) -> tuple[dict[str, Spread], float]:
    """(Texts a second by way over the turns, n-grams per text); a turn is `calls` calls, and ways take turns."""
    texts = tf.constant(random_texts(_TEXTS, seed))
    inputs = {"stored": tf.constant(stored_records(points(texts))), "points": texts, "strings": texts}
    functions: dict[str, Callable[[tf.Tensor], tf.RaggedTensor]] = {
        way: tf.function(function, autograph=False) for way, function in zip(WAYS, (stored, points, strings), strict=True)
    }
    per_text = check({way: functions[way](inputs[way]) for way in WAYS})
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    for repeat in range(repeats):
        for way in _turned(WAYS, repeat):
            began = time.perf_counter()
            for _ in range(calls):
                functions[way](inputs[way])
            rates[way].append(_TEXTS * calls / (time.perf_counter() - began))
    return {way: Spread.of(found) for way, found in rates.items()}, per_text


def _turned(ways: Sequence[str], repeat: int) -> list[str]:
    shift = repeat % len(ways)
    return [*ways[shift:], *ways[:shift]]
