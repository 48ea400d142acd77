"""What `export.save` publishes and what it refuses to, on a small model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cvr.errors import CvrError
from export import parity, save
from export.extras import about
from export.prediction_log import read_log
from export.request import Search, to_arrays
from export.selfcheck import check
from export.servable import Servable
from export.tensors import decode_any
from tests.commands import run_main
from tests.export.tiny import make_run
from tests.support import LEAN, parse_spec, random_columns, write_lists


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in `model` and its lists in `lists`."""
    folder = tmp_path_factory.mktemp("lean")
    make_run(folder / "model", LEAN)
    write_lists(folder / "lists", {"validation": [random_columns(parse_spec(LEAN), 20, longest=9)]}, LEAN)
    return folder


def test_a_version_that_fails_the_gate_is_not_published(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(CvrError, match="parity failed, so nothing was published: .*grpc"):
        run_main(save, f"--run={trained}", f"--output={tmp_path}", f"--lists={trained}/lists", "--num_requests=1", "--tolerance=0")
    assert not list(tmp_path.iterdir())


def test_rounded_weights_say_what_they_do(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rounded = (f"--run={trained}", f"--output={tmp_path}", "--weights=bfloat16", "--table_storage=int8", "--num_requests=2")
    with pytest.raises(CvrError, match="say with --tolerance by how much a logit may"):
        run_main(save, *rounded)
    with pytest.raises(CvrError, match="need --lists=DIR"):
        run_main(save, *rounded, "--skip_parity")
    assert run_main(save, *rounded, f"--lists={trained}/lists", "--num_lists=4", "--tolerance=0.2", "--model_name=shop") == 0
    said = capsys.readouterr().out
    assert "stored: tables int8, weights bfloat16" in said and "purchase: logits differ by at most" in said
    told, version = about(tmp_path / "1"), tmp_path / "1"
    assert told["storage"] == {"weights": "bfloat16", "tables": "int8"} and told["parity"]["tolerance"] == 0.2
    found = json.loads((version / "assets.extra" / "quantisation.json").read_text(encoding="utf-8"))
    assert found["lists"] == 20 and set(found["tasks"]) == {"purchase", "click"}
    assert 0 < found["tasks"]["click"]["max_abs_diff"] < 0.2 and found["bytes"]["after"]["tables"] < found["bytes"]["before"]["tables"]
    assert 1e-5 < told["parity"]["checks"]["saved_model"]["largest_difference"] < 0.2
    check(Servable(version))
    with pytest.raises(CvrError, match="--model_name=a/b must be letters"):
        run_main(save, f"--run={trained}", f"--output={tmp_path}", "--model_name=a/b")
    checked = (f"--run={trained}", f"--export={tmp_path}", f"--lists={trained}/lists", "--split=validation", "--num_requests=1")
    assert run_main(parity, *checked, "--num_lists=2") == 0
    assert "tolerance 2e-01 (tables stored as int8, weights as bfloat16)" in capsys.readouterr().out
    assert 'base_path: "/models/shop"' in (tmp_path / "models.config").read_text(encoding="utf-8")
    _answers_alone(trained, version, tmp_path / "elsewhere" / "7")


def _answers_alone(trained: Path, version: Path, moved: Path) -> None:
    """Statistics, n-gram settings and hash seeds travel inside: neither spec nor run is there when the model answers."""
    shutil.copytree(version, moved)
    hidden = trained.rename(trained.with_name("hidden"))
    search = Search.from_file(moved / "assets.extra" / "example_request.json")
    (expected, *_) = read_log(moved / "assets.extra" / "parity_requests.tfrecord")
    shutil.rmtree(moved / "assets.extra")
    servable = Servable(moved)
    scores = servable.run("serving_default", to_arrays(search, servable.inputs("serving_default")))["score"]
    assert scores.shape == (5,) and np.isfinite(scores).all() and expected.response is not None
    again = servable.run_protos("serving_default", expected.request.inputs)["score"]
    np.testing.assert_allclose(again, decode_any(expected.response.outputs["score"]), atol=1e-6)
    hidden.rename(trained)
