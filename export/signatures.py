"""The signatures of the SavedModel: what one call of a served model takes and gives (docs/serving.md).

    preprocess       raw request -> context_projection [1, W], item_features [n, Di]; on the CPU, or tables and encoders on the GPU
    score            context_projection [1, W] or [n, W], item_features [n, Di] -> scores; the backbone, on the GPU where there is one
    serving_default  raw request -> scores, in one call; the backbone inside a BatchFunction
    score_lists      examples string [R] (list records) -> scores of all items [N], list_size int32 [R]; offline scoring and parity
    limits           nothing -> max_request_items int32 [], whole_list string [k]: whether a search may be sent in parts (export.limits)

Scores are float32 [n]: one logit per task under the task's name, and `score`, the ranking score (the primary task's logit). A calibrated
run's have `probability/<task>` too, for which the rows of one call of `score` or `serving_default` are one search list, whole. Rows keep
the order of the request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import tensorflow as tf

from cvr import records
from cvr.calibration import Calibration
from cvr.data import assemble
from cvr.errors import CvrError
from cvr.schema import FeatureSpec
from export.batching import Batching, batched
from export.inputs import request_inputs
from export.limits import limit_outputs
from export.preprocess import Tensors, display_offsets, encode_request
from export.probabilities import probabilities

SCORE = "score"
LIST_SIZE = "list_size"
CONTEXT, ITEMS, EXAMPLES = "context_projection", "item_features", "examples"
CPU, GPU = "/CPU:0", "/GPU:0"


class ServedRanker(Protocol):
    """What a ranker offers to export: `cvr.ranker.Ranker` in two halves, once per list and once per item."""

    variables: Any

    def extract(self, batch: Tensors) -> tuple[tf.Tensor, tf.Tensor]:
        """Batch -> (context [B, Dc], items [N, Di])."""

    def project_context(self, context: tf.Tensor) -> tf.Tensor:
        """[B, Dc] -> [B, W]."""

    def score(self, context_projection: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """([N, W] or [1, W], [N, Di]) -> logits [N, T]."""


class ServingModule(tf.Module):
    """The SavedModel's root: the ranker's variables and the signatures over them."""

    def __init__(
        self,
        spec: FeatureSpec,
        ranker: ServedRanker,
        batching: Batching,
        calibration: Calibration | None = None,
        tables: str = "cpu",
    ) -> None:
        """`tables`: cpu or gpu, where ids become vectors. Raises CvrError where a task's name is that of another output."""
        super().__init__(name="serving")
        taken = {SCORE, LIST_SIZE} & set(spec.task_names)
        if taken:
            raise CvrError(f"tasks.{taken.pop()}: a served model has another output of that name; rename the task in the spec")
        self._spec = spec
        # Plain functions, not attributes that tf.Module would track: a SavedModel needs the variables and not Keras' bookkeeping.
        self._ranker, self._calibration = _Opaque(ranker), _Opaque(calibration)
        self.ranker_variables = list(ranker.variables)
        self._most_items = batching.max_request_items
        self._tables = {"cpu": CPU, "gpu": GPU}[tables]
        self._batched = batched(self._backbone, batching)

    def signatures(self) -> dict[str, Any]:
        """Concrete functions by signature name; traces all of them."""
        raw = {entry.name: entry.tensor_spec() for entry in request_inputs(self._spec)}
        examples = {EXAMPLES: tf.TensorSpec([None], tf.string, name=EXAMPLES)}
        preprocess = _concrete(self._preprocess, raw)
        widths = {name: preprocess.structured_outputs[name].shape[1] for name in (CONTEXT, ITEMS)}
        halves = {name: tf.TensorSpec([None, width], tf.float32, name=name) for name, width in widths.items()}
        return {
            "preprocess": preprocess,
            "score": _concrete(self._score, halves),
            "serving_default": _concrete(self._serve, raw),
            "score_lists": _concrete(self._score_lists, examples),
            "limits": tf.function(self._limits, autograph=False).get_concrete_function(),
        }

    def _halves(self, batch: Tensors) -> tuple[tf.Tensor, tf.Tensor]:
        """float32 whatever the ranker computes in, which loses nothing and asks no client to know bfloat16."""
        with tf.device(self._tables):
            context, items = self._ranker.value.extract(batch)
            return tf.cast(self._ranker.value.project_context(context), tf.float32), tf.cast(items, tf.float32)

    def _backbone(self, context_projection: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        with tf.device(GPU):
            return self._ranker.value.score(context_projection, items)

    def _preprocess(self, inputs: Tensors) -> Tensors:
        with tf.device(CPU):
            projection, items = self._halves(encode_request(self._spec, inputs, self._most_items))
        return {CONTEXT: projection, ITEMS: items}

    def _score(self, inputs: Tensors) -> Tensors:
        message = "input context_projection must have 1 row or as many as input item_features, which must have at least 1; rows:"
        with tf.device(CPU):
            rows, items = tf.shape(inputs[CONTEXT])[0], tf.shape(inputs[ITEMS])[0]
            fits = tf.logical_and(items > 0, tf.logical_or(tf.equal(rows, 1), tf.equal(rows, items)))
            fitting = tf.debugging.Assert(fits, [message, rows, items])
        with tf.control_dependencies([fitting]), tf.device(GPU):
            inputs = {name: tf.identity(value) for name, value in inputs.items()}
        return self._outputs(self._backbone(inputs[CONTEXT], inputs[ITEMS]))

    def _serve(self, inputs: Tensors) -> Tensors:
        halves = self._preprocess(inputs)
        with tf.device(CPU):
            context = tf.repeat(halves[CONTEXT], tf.shape(halves[ITEMS])[0], axis=0)
            return self._outputs(self._batched(context, halves[ITEMS]))

    def _score_lists(self, inputs: Tensors) -> Tensors:
        with tf.device(CPU):
            some = tf.debugging.Assert(tf.size(inputs[EXAMPLES]) > 0, ["input examples holds no record; send at least one"])
            with tf.control_dependencies([some]):
                batch = assemble(self._spec, records.parse(self._spec, tf.identity(inputs[EXAMPLES])))
            batch["item_offset"] = display_offsets(batch["list_index"], batch["position"])
            projection, items = self._halves(batch)
            context = tf.gather(projection, batch["list_index"])
            outputs = self._outputs(self._batched(context, items), batch["list_index"], tf.size(batch["list_size"]))
        return outputs | {LIST_SIZE: batch["list_size"]}

    def _limits(self) -> Tensors:
        with tf.device(CPU):
            return limit_outputs(self._spec, self._calibration.value, self._most_items)

    def _outputs(self, logits: tf.Tensor, list_index: tf.Tensor | None = None, lists: tf.Tensor | int = 1) -> Tensors:
        """Outputs by name; without `list_index` all rows are one list."""
        with tf.device(CPU):
            scores = {task: logits[:, column] for column, task in enumerate(self._spec.task_names)}
            outputs = scores | {SCORE: tf.identity(scores[self._spec.primary_task])}
            if self._calibration.value:
                index = tf.zeros([tf.shape(logits)[0]], tf.int32) if list_index is None else list_index
                outputs |= probabilities(self._calibration.value, scores, index, lists)
        return outputs


class _Opaque:
    """Holds an object out of TensorFlow's sight."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _concrete(function: Callable[[Tensors], Tensors], specs: dict[str, tf.TensorSpec]) -> Any:
    return tf.function(function, autograph=False).get_concrete_function(specs)
