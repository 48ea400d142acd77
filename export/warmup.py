"""Warm-up requests in `assets.extra/tf_serving_warmup_requests`: TF Serving and `export.serve` replay them before a version answers.

They cover every signature, at the lengths of real lists where lists are given and at every allowed batch size, because a runtime
initialises by signature and by shape. List records hold hashed ids, so raw requests have real lengths and made-up values; `score_lists`
gets the records themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from tensorflow_serving.apis import predict_pb2

from cvr.errors import CvrError
from cvr.schema import FeatureSpec
from export.example import example_search
from export.prediction_log import LogWriter, predict_request, read_log
from export.request import to_arrays
from export.servable import DEFAULT_SIGNATURE, Servable
from export.signatures import EXAMPLES

MOST_RECORDS = 1_000
"""TF Serving refuses to load a version with more."""


def write_requests(path: str | Path, requests: Sequence[predict_pb2.PredictRequest]) -> None:
    """Writes a warm-up file. Raises CvrError for none or more than 1000 requests."""
    _check_count(path, len(requests))
    with LogWriter(path) as log:
        for request in requests:
            log.write(request)


def read_requests(path: str | Path) -> list[predict_pb2.PredictRequest]:
    """The requests of a warm-up file. Raises CvrError naming file and record where it is not one that TF Serving takes."""
    requests = [call.request for call in read_log(path)]
    _check_count(path, len(requests))
    return requests


def _check_count(path: str | Path, count: int) -> None:
    if not 0 < count <= MOST_RECORDS:
        raise CvrError(f"{path}: a warm-up file holds 1 to {MOST_RECORDS} requests, not {count}")


def warmup_requests(
    spec: FeatureSpec, servable: Servable, lengths: Iterable[int], records: Sequence[bytes] = (), model_name: str = "cvr"
) -> list[predict_pb2.PredictRequest]:
    """`serving_default`, `preprocess` and `score` once per length, `score_lists` once per record (serialized list of the model's spec)."""
    infos = servable.inputs(DEFAULT_SIGNATURE)
    requests = []
    for seed, length in enumerate(lengths):
        raw = to_arrays(example_search(spec, length, seed, gaps=0.1), infos)
        halves = servable.run("preprocess", raw)
        calls = {DEFAULT_SIGNATURE: raw, "preprocess": raw, "score": halves}
        requests += [predict_request(inputs, signature, model_name) for signature, inputs in calls.items()]
    lists = [{EXAMPLES: np.array([record], object)} for record in records]
    return requests + [predict_request(inputs, "score_lists", model_name) for inputs in lists]


def spread(lengths: Sequence[int], count: int) -> list[int]:
    """Distinct lengths at `count` evenly spaced quantiles, shortest first: the shortest, the longest and the usual ones."""
    ordered = np.sort(np.asarray(lengths))
    places = np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(int)
    return np.unique(ordered[places]).tolist()
