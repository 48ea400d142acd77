"""What every named input and output of the signatures means, for model.json."""

from __future__ import annotations

from cvr.calibration import Calibration
from cvr.schema import FeatureSpec
from export.inputs import request_inputs
from export.limits import MAX_ITEMS, WHOLE_LIST
from export.probabilities import PREFIX
from export.signatures import CONTEXT, EXAMPLES, ITEMS, LIST_SIZE, SCORE

_HALVES = {
    CONTEXT: "the context part of the input projection, of preprocess of the same version",
    ITEMS: "the items' feature vectors, of preprocess of the same version",
}


def of_inputs(spec: FeatureSpec) -> dict[str, str]:
    """Meaning by input, of all signatures."""
    raw = {entry.name: entry.meaning for entry in request_inputs(spec)}
    return {**raw, **_HALVES, EXAMPLES: "serialized list records of this feature spec"}


def of_outputs(spec: FeatureSpec, calibration: Calibration | None) -> dict[str, str]:
    """Meaning by output, of all signatures."""
    logits = {
        name: f"logit of {' or '.join(task.events)} within {task.window / 3_600_000:g} h of the impression"
        for name, task in spec.tasks.items()
    }
    chances = {f"{PREFIX}{task}": f"{task}: {calibration.meaning}" for task in calibration.tasks} if calibration else {}
    return {
        **_HALVES,
        **logits,
        SCORE: f"what to rank by: the logit of {spec.primary_task}",
        **chances,
        LIST_SIZE: "items of each record, in order",
        MAX_ITEMS: "most items in one request",
        WHOLE_LIST: "features and outputs that depend on the other items of the search",
    }
