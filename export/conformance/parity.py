"""Checks of scores against what the model gave elsewhere: when it was exported, and as the checkpoint it was exported from."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from cvr import records
from cvr.data import assemble
from export import tensors
from export.conformance.check import Check, FailedError, SkippedError, require
from export.conformance.compare import OK, equal
from export.conformance.target import Arrays, Target
from export.signatures import EXAMPLES


def _recorded(target: Target) -> str:
    """The answers in the version's own file, by that very version."""
    reference = target.reference
    if not reference.recorded:
        raise SkippedError("no recorded answers; give --export, a version folder that holds some")
    for number, call in enumerate(reference.recorded):
        request = predict_pb2.PredictRequest()
        request.CopyFrom(call.request)
        request.model_spec.name = target.name
        if reference.recorded_version is not None:
            request.model_spec.version.value = reference.recorded_version
        answer = target.ask("Predict", request)
        what = f"request {number} ({request.model_spec.signature_name})"
        if answer.code != OK or call.response is None:
            raise FailedError(f"{what}: {answer.code.name}: {answer.details}")
        expected = {name: tensors.decode_any(proto) for name, proto in call.response.outputs.items()}
        try:
            equal(target, answer.arrays(), expected, reference.recorded_tolerance)
        except FailedError as error:
            raise FailedError(f"{what}: {error}") from error
    return f"{len(reference.recorded)} requests to version {reference.recorded_version}, within {reference.recorded_tolerance:.0e}"


def _checkpoint(target: Target) -> str:
    """The checkpoint's logits of list records, one list a call."""
    spec, ranker = target.reference.spec, target.reference.ranker
    if spec is None or ranker is None or not target.reference.records:
        raise SkippedError("no checkpoint to compare with; give --run and --lists")
    served: list[Arrays] = []
    expected: list[np.ndarray] = []
    for record in target.reference.records:
        batch = assemble(spec, records.parse(spec, tf.constant([record])))
        context, items = ranker.extract(batch)
        expected.append(ranker.score(tf.gather(ranker.project_context(context), batch["list_index"]), items).numpy())
        served.append(target.predict({EXAMPLES: np.array([record], object)}, "score_lists"))
    logits = np.concatenate(expected)
    by_task = {task: logits[:, column] for column, task in enumerate(spec.task_names)}
    absent = [task for task in spec.task_names if any(task not in outputs for outputs in served)]
    require(not absent, f"score_lists gives no outputs {absent}; is it another model?")
    found = {task: np.concatenate([outputs[task] for outputs in served]) for task in spec.task_names}
    return f"{len(served)} lists, {len(logits)} items: {equal(target, found, by_task)}"


CHECKS = (
    Check("recorded_answers", "the scores that the version gave when it was exported", _recorded),
    Check("checkpoint", "the checkpoint's logits of stored lists", _checkpoint),
)
