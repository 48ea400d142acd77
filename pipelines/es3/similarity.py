"""How alike short texts are: cosines of hashed character n-grams, and the nearest of many texts by exact search.

    v(text) = counts of its character n-grams, n = 2 and 3, inside words, hashed to 2^18 places, of length 1
    similarity(a, b) = v(a) . v(b), in [0, 1]

It stands in for the paper's approximate nearest neighbours over learned embeddings, which come from a model that logs do not hold.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

NGRAMS, PLACES = (2, 3), 2**18
NONE = -1
_CELLS = 2**23
"""Similarities that are held at once."""
_DIGITS = 9
"""Decimals that count: sums of floats in another order may differ in the last ones."""


def embed(texts: Sequence[str | None]) -> sparse.csr_matrix:
    """Unit vectors of texts, float64 [U, 2^18]; of one without an n-gram, or None, zero."""
    # Imported here: it takes a second, and most builds do not need it.
    from sklearn.feature_extraction.text import HashingVectorizer

    kind = {"analyzer": "char_wb", "ngram_range": NGRAMS, "n_features": PLACES}
    hashing = HashingVectorizer(**kind, alternate_sign=False, norm="l2", dtype=np.float64)
    return hashing.transform([text or "" for text in texts]).tocsr()


def similarities(vectors: sparse.csr_matrix, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Similarities of pairs of rows, float64 [P]."""
    distinct, place = np.unique(np.stack([first, second], axis=1), axis=0, return_inverse=True)
    found = np.asarray(vectors[distinct[:, 0]].multiply(vectors[distinct[:, 1]]).sum(axis=1)).reshape(-1)
    return found.round(_DIGITS)[place.reshape(-1)]


def nearest(
    texts: sparse.csr_matrix, times: np.ndarray, others: sparse.csr_matrix, known_from: np.ndarray
) -> np.ndarray:
    """For each of `texts` [A] the most similar of `others` [Q] with `known_from` strictly before `times`; int64 [A].

    Of equally similar ones the first; NONE where none is known or none has an n-gram in common.
    """
    found = np.full(texts.shape[0], NONE, np.int64)
    if not others.shape[0]:
        return found
    step = max(1, _CELLS // others.shape[0])
    flipped = others.T.tocsr()
    for begin in range(0, len(found), step):
        alike = (texts[begin : begin + step] @ flipped).toarray().round(_DIGITS)
        alike[known_from[None, :] >= times[begin : begin + step, None]] = 0.0
        best = alike.argmax(axis=1)
        found[begin : begin + step] = np.where(alike[np.arange(len(best)), best] > 0, best, NONE)
    return found
