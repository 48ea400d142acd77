"""A rebatched copy answers with the same bytes, in queues of its own."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from tensorflow.core.protobuf import saved_model_pb2

from cvr.errors import CvrError
from export.batching import Batching
from export.example import example_search
from export.request import to_arrays
from export.servable import Servable
from tests.export.conftest import Exported
from tools.serving import rebatch as module
from tools.serving.payloads import export_spec
from tools.serving.rebatch import batch_functions, batching_of, rebatch

AFTER = Batching(allowed_sizes=(8,), timeout_ms=2.5, threads=3, max_enqueued=7)


def _nodes(folder: Path) -> list[dict[str, object]]:
    model = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    return [
        {
            "timeout": node.attr["batch_timeout_micros"].i,
            "sizes": list(node.attr["allowed_batch_sizes"].list.i),
            "threads": node.attr["num_batch_threads"].i,
            "waiting": node.attr["max_enqueued_batches"].i,
            "queue": node.attr["shared_name"].s,
        }
        for node in batch_functions(model)
    ]


def test_scores_stay_and_batching_changes(exported: Exported, servable: Servable, tmp_path: Path) -> None:
    version = exported.version
    made = rebatch(version, tmp_path / "other", 5, AFTER)
    assert made == tmp_path / "other" / "5" and batching_of(made) == AFTER
    nodes = _nodes(made)
    assert len(nodes) == 2  # serving_default and score_lists
    for node in nodes:
        assert (node["timeout"], node["sizes"], node["threads"], node["waiting"]) == (2500, [8], 3, 7)
    names = [node["queue"] for node in nodes + _nodes(version)]
    assert len(set(names)) == 4
    other = Servable(made)
    assert other.version == 5
    search = to_arrays(example_search(export_spec(version), items=19, gaps=0.1), servable.inputs("serving_default"))
    for name, values in servable.run("serving_default", search).items():
        np.testing.assert_allclose(other.run("serving_default", search)[name], values, rtol=0, atol=1e-6)


def test_what_cannot_be_changed_or_found(exported: Exported, tmp_path: Path) -> None:
    version = exported.version
    with pytest.raises(CvrError, match="items a request"):
        rebatch(version, tmp_path / "other", 1, dataclasses.replace(AFTER, max_request_items=5))
    with pytest.raises(CvrError, match="no BatchFunction"):
        module.edit(saved_model_pb2.SavedModel(), AFTER, version)
    with pytest.raises(CvrError, match="allowed_batch_sizes=8,x"):
        module.sizes_of(["8", "x"])
