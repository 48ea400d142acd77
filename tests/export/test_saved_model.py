from __future__ import annotations

import json
from pathlib import Path

import pytest

from cvr.errors import CvrError
from cvr.schema import load_spec
from export.batching import Batching
from export.extras import about
from export.request import Search, to_arrays
from export.saved_model import run_folder, save_version
from export.servable import Servable
from tests.export.conftest import Exported


def test_version_folder_is_whole(exported: Exported) -> None:
    assert [path.name for path in exported.base.iterdir()] == ["3"]
    extra = exported.version / "assets.extra"
    assert load_spec(extra / "spec.yaml").fingerprint == exported.run.spec.fingerprint
    known = about(exported.version)
    assert known["version"] == 3 and known["tasks"] == ["purchase", "click"] and known["primary_task"] == "purchase"
    assert known["batching"]["allowed_sizes"] == [4, 16] and known["spec_fingerprint"] == exported.run.spec.fingerprint


def test_inputs_and_outputs_are_documented(exported: Exported, servable: Servable) -> None:
    for name, described in about(exported.version)["signatures"].items():
        assert set(described["inputs"]) == set(servable.inputs(name)) and set(described["outputs"]) == set(servable.outputs(name))
    price = about(exported.version)["signatures"]["serving_default"]["inputs"]["price"]
    assert price == {"dtype": "float32", "shape": [None], "meaning": "numerical, column item.price"}


def test_example_request_can_be_ranked(exported: Exported, servable: Servable) -> None:
    search = Search.from_file(exported.version / "assets.extra" / "example_request.json")
    scores = servable.run("serving_default", to_arrays(search, servable.inputs("serving_default")))["score"]
    assert scores.shape == (len(search.items),)


def test_published_version_is_never_written_over(exported: Exported) -> None:
    before = (exported.version / "saved_model.pb").read_bytes()
    with pytest.raises(CvrError, match="published"):
        save_version(exported.run, exported.ranker, exported.base, 3, Batching())
    assert [path.name for path in exported.base.iterdir()] == ["3"]
    assert (exported.version / "saved_model.pb").read_bytes() == before


def test_run_folder(exported: Exported, tmp_path: Path) -> None:
    assert run_folder(exported.run.folder) == run_folder(exported.run.folder.parent) == exported.run.folder
    with pytest.raises(CvrError, match="train a model first"):
        run_folder(tmp_path)


def test_folder_that_is_no_saved_model(exported: Exported, tmp_path: Path) -> None:
    with pytest.raises(CvrError, match="export a model first"):
        Servable(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"\xff\xff no protobuf")
    with pytest.raises(CvrError, match="not a whole SavedModel"):
        Servable(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes((exported.version / "saved_model.pb").read_bytes())
    with pytest.raises(CvrError, match="cannot be loaded"):
        Servable(tmp_path)
    with pytest.raises(CvrError, match="not written by export.save"):
        about(tmp_path)


def test_example_is_json(exported: Exported) -> None:
    data = json.loads((exported.version / "assets.extra" / "example_request.json").read_text(encoding="utf-8"))
    assert set(data) == {"context", "items", "history"}
