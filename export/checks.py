"""The comparisons of the parity gate. Each gives the largest difference, relative above 1, over the logits of all tasks."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from typing import Any

import numpy as np
import tensorflow as tf

from cvr import records
from cvr.calibration import Calibration
from cvr.data import Budget, assemble
from cvr.schema import FeatureSpec
from export.client import Client
from export.inputs import request_inputs
from export.lists import permuted
from export.preprocess import encode_request
from export.probabilities import PREFIX
from export.request import Search, to_arrays
from export.selfcheck import difference
from export.servable import DEFAULT_SIGNATURE, Servable
from export.signatures import EXAMPLES, LIST_SIZE, ServedRanker

CONCURRENT = 16
PROBABILITY_LIMIT = 1e-6
Arrays = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Difference:
    """A check's outcome over `logits` compared numbers, infinite where one of them is no finite number; `limit` is the check's own."""

    name: str
    meaning: str
    largest_difference: float
    logits: int
    limit: float = float("inf")

    def passes(self, tolerance: float) -> bool:
        """Whether the difference is within the tolerance of all checks and the check's own."""
        return self.largest_difference <= min(tolerance, self.limit)


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is compared: a checkpoint's ranker, its SavedModel in this process, a server of it, and the calibration of its run, if any."""

    spec: FeatureSpec
    ranker: ServedRanker
    servable: Servable
    client: Client
    calibration: Calibration | None = None

    def logits(self, outputs: Arrays) -> np.ndarray:
        """Outputs by task -> [N, T]."""
        return np.stack([outputs[task] for task in self.spec.task_names], axis=1)

    def of_records(self, serialized: Sequence[bytes], budget: Budget | None = None) -> np.ndarray:
        """The checkpoint's logits [N, T] of all items of list records in one batch, padded to the budget as in evaluation."""
        if budget is None:
            return self._of_records(tf.constant(serialized)).numpy()
        batch = assemble(self.spec, records.parse(self.spec, tf.constant(serialized)), budget)
        return self._score(batch).numpy()[batch["item_mask"].numpy() > 0]

    def of_request(self, arrays: Arrays) -> np.ndarray:
        """The checkpoint's logits [n, T] of a raw request."""
        return self._of_request({name: tf.constant(v, _dtype(v)) for name, v in arrays.items()}).numpy()

    @functools.cached_property
    def _of_records(self) -> Callable[[tf.Tensor], tf.Tensor]:
        signature = [tf.TensorSpec([None], tf.string)]
        return tf.function(lambda lists: self._score(assemble(self.spec, records.parse(self.spec, lists))), signature, autograph=False)

    @functools.cached_property
    def _of_request(self) -> Callable[[dict[str, tf.Tensor]], tf.Tensor]:
        signature = [{entry.name: entry.tensor_spec() for entry in request_inputs(self.spec)}]
        return tf.function(lambda inputs: self._score(encode_request(self.spec, inputs)), signature, autograph=False)

    def _score(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        context, items = self.ranker.extract(batch)
        return self.ranker.score(tf.gather(self.ranker.project_context(context), batch["list_index"]), items)

    def served(self, arrays: Arrays, signature: str = DEFAULT_SIGNATURE) -> np.ndarray:
        """The server's logits [n, T]."""
        return self.logits(self.client.predict(arrays, signature))


def compare_all(subject: Subject, serialized: Sequence[bytes], searches: Sequence[Search]) -> list[Difference]:
    """All checks, in the order in which a failure is best looked for; without lists only those of raw requests."""
    found = [*(_compare_lists(subject, serialized) if serialized else ()), *_compare_requests(subject, searches)]
    return found if subject.calibration is None else [*found, compare_probabilities(subject, subject.calibration, serialized, searches)]


def _compare_lists(subject: Subject, serialized: Sequence[bytes]) -> list[Difference]:
    spec = subject.spec
    alone = [subject.of_records([record]) for record in serialized]
    total = sum(map(len, alone))
    padded = subject.of_records(serialized, Budget(items=total + 37, lists=len(serialized) + 3))
    together = subject.servable.run("score_lists", {EXAMPLES: np.array(serialized, object)})
    requests = [{EXAMPLES: np.array([record], object)} for record in serialized]
    orders = [np.random.default_rng(row).permutation(len(scores)) for row, scores in enumerate(alone)]
    moved = [permuted(spec, record, order) for record, order in zip(serialized, orders, strict=True)]
    back = [
        subject.served({EXAMPLES: np.array([record], object)}, "score_lists")[np.argsort(order)]
        for record, order in zip(moved, orders, strict=True)
    ]
    one_by_one = [subject.served(request, "score_lists") for request in requests]
    at_once = _concurrently(lambda request: subject.served(request, "score_lists"), requests)
    if together[LIST_SIZE].tolist() != list(map(len, alone)):
        raise AssertionError("the SavedModel cuts the items into other lists than the checkpoint")
    return [
        _differ("padding", "checkpoint: lists alone = beside other lists and padding", [padded], alone),
        _differ("saved_model", "SavedModel = checkpoint, all lists in one call", [subject.logits(together)], [padded]),
        _differ("grpc", "gRPC = checkpoint, one list a call", one_by_one, [padded]),
        _differ("batch_mates", f"gRPC: {CONCURRENT} calls at a time = one at a time", at_once, one_by_one),
        _differ("permutation", "gRPC: rows in another order, same positions", back, one_by_one),
    ]


def _compare_requests(subject: Subject, searches: Sequence[Search]) -> list[Difference]:
    infos = subject.servable.inputs(DEFAULT_SIGNATURE)
    requests = [to_arrays(search, infos) for search in searches]
    one_by_one = [subject.served(request) for request in requests]
    by_item = {name for name, info in infos.items() if info.shape == (None,) and "." not in name}
    moved = []
    for seed, request in enumerate(requests):
        order = np.random.default_rng(seed).permutation(len(request["item_id"]))
        shuffled = {name: values[order] if name in by_item else values for name, values in request.items()}
        moved.append(subject.served(shuffled)[np.argsort(order)])
    at_once = _concurrently(subject.served, requests)
    in_two = [subject.served(subject.client.predict(request, "preprocess"), "score") for request in requests]
    return [
        _differ("raw_requests", "raw requests: gRPC = checkpoint", one_by_one, [subject.of_request(r) for r in requests]),
        _differ("two_phases", "raw requests: preprocess, then score = one call", in_two, one_by_one),
        _differ("raw_batch_mates", f"raw requests: {CONCURRENT} at a time = one at a time", at_once, one_by_one),
        _differ("raw_permutation", "raw requests: rows in another order, same item_offset", moved, one_by_one),
    ]


def compare_probabilities(
    subject: Subject, calibration: Calibration, serialized: Sequence[bytes], searches: Sequence[Search]
) -> Difference:
    """Served probabilities against `cvr.calibration` on the logits that were served with them, by every signature that gives any."""
    client, infos = subject.client, subject.servable.inputs(DEFAULT_SIGNATURE)
    stored = client.predict({EXAMPLES: np.array(serialized, object)}, "score_lists") if serialized else None
    answers = [(stored, stored[LIST_SIZE])] if stored else []
    for search in searches:
        request, length = to_arrays(search, infos), np.array([len(search.items)])
        answers += [(client.predict(request), length), (client.predict(client.predict(request, "preprocess"), "score"), length)]
    served = [outputs[f"{PREFIX}{task}"] for outputs, _ in answers for task in subject.spec.task_names]
    expected = [calibration.probabilities(task, outputs[task], n) for outputs, n in answers for task in subject.spec.task_names]
    meaning = "gRPC: probabilities = cvr.calibration of the served logits"
    return dataclasses.replace(_differ("probability", meaning, served, expected), limit=PROBABILITY_LIMIT)


def _concurrently(call: Callable[[Arrays], np.ndarray], requests: Sequence[Arrays]) -> list[np.ndarray]:
    with futures.ThreadPoolExecutor(CONCURRENT) as pool:
        return list(pool.map(call, requests))


def _differ(name: str, meaning: str, left: Sequence[np.ndarray], right: Sequence[np.ndarray]) -> Difference:
    a, b = np.concatenate(left), np.concatenate(right)
    if a.shape != b.shape:
        raise AssertionError(f"{name}: {a.shape} logits against {b.shape}")
    finite = bool(np.isfinite(a).all() and np.isfinite(b).all())
    return Difference(name, meaning, difference(a, b) if finite else float("inf"), a.size)


def _dtype(values: np.ndarray) -> tf.DType:
    return tf.string if values.dtype == object else tf.as_dtype(values.dtype)


def report(differences: Sequence[Difference], tolerance: float) -> dict[str, Any]:
    """The content of parity.json: each check's largest difference, the largest of all, and whether it passes."""
    largest = max(entry.largest_difference for entry in differences)
    checks = {entry.name: {"largest_difference": entry.largest_difference, "logits": entry.logits} for entry in differences}
    passed = all(entry.passes(tolerance) for entry in differences)
    return {"largest_difference": largest, "tolerance": tolerance, "passed": passed, "checks": checks}


def table(differences: Sequence[Difference], tolerance: float) -> str:
    """A line per check."""
    width = max(len(entry.meaning) for entry in differences)
    verdicts = ["ok  " if entry.passes(tolerance) else "FAIL" for entry in differences]
    return "\n".join(
        f"{verdict}  {entry.meaning:<{width}}  {entry.largest_difference:9.2e}  {entry.logits} logits"
        for verdict, entry in zip(verdicts, differences, strict=True)
    )
