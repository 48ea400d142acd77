from __future__ import annotations

import pytest

from cvr.calibration import Calibration, TaskCalibration
from cvr.schema import parse_spec
from export.limits import limit_outputs, whole_list
from export.servable import Servable
from tests.export.tiny import SPEC

OWN = SPEC.replace("op: offset_to_last", "op: history_age").replace("op: diff_above, feature: price", "op: history_rank, history: recent")
OWN = OWN.replace("op: list_rank, feature: price", "op: history_dwell, history: recent")


def _calibration(loss: str) -> Calibration:
    text = dict.fromkeys(("method", "split", "data", "checkpoint", "created"), "")
    task = TaskCalibration(items=2, positives=1, log_loss=(1.0, 1.0))
    condition = "converted lists"
    return Calibration(loss=loss, anchor_label=0.5, condition=condition, lists=1, tasks={"purchase": task, "click": task}, **text)


def test_features_of_the_list() -> None:
    assert whole_list(parse_spec(SPEC)) == ("to_last", "above", "price_rank")
    assert whole_list(parse_spec(OWN)) == ()


def test_a_context_feature_of_the_list_counts() -> None:
    text = OWN + "  size: {kind: numerical, level: context, derive: {op: list_size}}\n"
    assert whole_list(parse_spec(text)) == ("size",)


@pytest.mark.parametrize(("loss", "expected"), [("softmax", ("probability/purchase", "probability/click")), ("calibrated_softmax", ())])
def test_probabilities_by_a_softmax_over_the_list(loss: str, expected: tuple[str, ...]) -> None:
    assert whole_list(parse_spec(OWN), _calibration(loss)) == expected


def test_outputs(servable: Servable) -> None:
    outputs = servable.run("limits", {})
    assert outputs["max_request_items"] == 2000 and list(outputs["whole_list"]) == [b"to_last", b"above", b"price_rank"]
    empty = limit_outputs(parse_spec(OWN), None, 7)
    assert int(empty["max_request_items"]) == 7 and empty["whole_list"].shape == (0,)
