"""What a client must know to send a very large search in several requests, computed from the spec and served by the signature `limits`.

An item's logits may depend on other items of its list only through features derived from the list, and its probability through a
softmax over the list. A model with neither gives every item the same answer whatever else is in the request.
"""

from __future__ import annotations

import tensorflow as tf

from cvr.calibration import Calibration
from cvr.schema import CONTEXT_OPS, Feature, FeatureSpec
from export.probabilities import PREFIX

MAX_ITEMS, WHOLE_LIST = "max_request_items", "whole_list"
_OWN_OPS = {"history_count", "history_age", "history_rank", "history_is_last", "history_dwell", "same_as_context"}
_ALONE = _OWN_OPS | set(CONTEXT_OPS) - {"list_size"}
"""Operations of `cvr.derived` that read the item, the context and the history, and no other item."""


def whole_list(spec: FeatureSpec, calibration: Calibration | None = None) -> tuple[str, ...]:
    """Names of the features and outputs whose values depend on the other items of the search; empty where none does."""
    features = [feature.name for feature in spec.features.values() if _reads_list(spec, feature)]
    conditional = calibration is not None and calibration.link.loss.name == "softmax"
    outputs = [f"{PREFIX}{task}" for task in calibration.tasks] if calibration is not None and conditional else []
    return (*features, *outputs)


def _reads_list(spec: FeatureSpec, feature: Feature) -> bool:
    if feature.derive is None:
        return False
    operands = [spec.features[name] for name in (feature.derive.feature, feature.derive.other) if name]
    return feature.derive.op not in _ALONE or any(_reads_list(spec, operand) for operand in operands)


def limit_outputs(spec: FeatureSpec, calibration: Calibration | None, max_items: int) -> dict[str, tf.Tensor]:
    """The outputs of signature `limits`: `max_request_items` int32 [], `whole_list` string [k]."""
    names = whole_list(spec, calibration)
    return {MAX_ITEMS: tf.constant(max_items, tf.int32), WHOLE_LIST: tf.constant(names, tf.string, [len(names)])}
