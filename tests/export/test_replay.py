from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tensorflow_serving.apis import predict_pb2

from cvr.errors import CvrError
from export import replay, tensors
from export.differences import Group, Replayed, by_input, states, table
from export.example import example_search
from export.prediction_log import LogWriter, predict_request, read_log
from export.request import to_arrays
from export.servable import Servable
from tests.commands import run_main
from tests.export.conftest import Exported


@pytest.fixture
def log(exported: Exported, servable: Servable, tmp_path: Path) -> Path:
    """Six requests with the answers of version 3; in every other one the price of each item is missing."""
    with LogWriter(tmp_path / "log") as writer:
        for seed in range(6):
            arrays = to_arrays(example_search(exported.run.spec, 3, seed), servable.inputs("serving_default"))
            arrays["price"] = np.full(3, np.nan if seed % 2 else 2.5, np.float32)
            response = predict_pb2.PredictResponse()
            response.model_spec.version.value = 3
            for name, values in servable.run("serving_default", arrays).items():
                response.outputs[name].CopyFrom(tensors.encode(values))
            writer.write(predict_request(arrays, "serving_default"), response)
    return tmp_path / "log"


@pytest.fixture(autouse=True)
def _loaded(servable: Servable, monkeypatch: pytest.MonkeyPatch) -> None:
    """The version that is loaded already, in place of loading it in every test."""
    monkeypatch.setattr(replay, "Servable", lambda folder: servable)


def _shift(log: Path, missing_by: float) -> None:
    """Moves the logged click logits of the requests without a price."""
    calls = list(read_log(log))
    with LogWriter(log) as writer:
        for number, (request, response) in enumerate(calls):
            assert response is not None
            logits = tensors.decode_any(response.outputs["click"]) + np.float32(missing_by * (number % 2))
            response.outputs["click"].CopyFrom(tensors.encode(logits))
            writer.write(request, response)


def test_states() -> None:
    assert states(np.array([1.0, np.nan, -np.inf], np.float32)) == {"present", "missing", "unseen"}
    assert states(np.array([b"", b"x"], object)) == {"missing", "present"} and states(np.array(["\x00"], object)) == {"unseen"}
    assert states(np.zeros(0, np.float32)) == states(np.zeros(0, object)) == {"none"} and states(np.array([3])) == {"present"}


def test_inputs_that_go_with_a_difference_come_first() -> None:
    def replayed(number: int, price: float, gap: float) -> Replayed:
        inputs = {"price": np.array([price], np.float32), "query": np.array([b"x"], object)}
        return Replayed(number, predict_request(inputs, "s"), {"score": gap})

    found = [replayed(0, 1.0, 0.0), replayed(1, np.nan, 0.5), replayed(2, np.nan, 0.2), replayed(3, 2.0, 1e-6)]
    groups = by_input(found, 1e-4)
    assert groups == [Group("price", "missing", 2, 2, 0.5), Group("query", "present", 4, 2, 0.5)]
    lines = table(found, groups, 1e-4).splitlines()
    assert lines[0].startswith("4 requests replayed, 2 differ") and lines[1].startswith("request 1 (s): score 5.00e-01")
    assert by_input(found, 0.6) == []


def test_offline(exported: Exported, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(replay, f"--log={log}", f"--export={exported.base}") == 0
    assert "6 requests replayed, 0 differ by more than 1e-04" in capsys.readouterr().out
    _shift(log, 0.25)
    assert run_main(replay, f"--log={log}", f"--export={exported.version}", f"--output={tmp_path / 'report.json'}") == 1
    assert "input price missing: 3 of 3 requests differ, by at most 2.50e-01" in capsys.readouterr().out
    told = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert told["differing"] == 3 and told["by_input"][0]["name"] == "price"
    assert {entry["record"] for entry in told["by_request"]} == {1, 3, 5}


def test_server(target: str, log: Path) -> None:
    assert run_main(replay, f"--log={log}", f"--target={target}") == 0
    _shift(log, 0.25)
    assert run_main(replay, f"--log={log}", f"--target={target}") == 1


def test_a_request_that_is_refused_now(exported: Exported, log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (request, response), *_ = read_log(log)
    del request.inputs["price"]
    with LogWriter(log) as writer:
        writer.write(request, response)
    assert run_main(replay, f"--log={log}", f"--export={exported.base}") == 1
    assert "request 0 (serving_default): CvrError: input 'price' is missing" in capsys.readouterr().out


def test_what_is_no_log_to_replay(exported: Exported, log: Path) -> None:
    (request, response), *_ = read_log(log)
    assert response is not None
    with pytest.raises(CvrError, match="give one of --export=DIR or --target"):
        run_main(replay, f"--log={log}")
    response.model_spec.version.value = 9
    for entry, message in (((request, response), "version 9 answered, and is not in"), ((request, None), "record 0 .* has no response")):
        with LogWriter(log) as writer:
            writer.write(*entry)
        with pytest.raises(CvrError, match=message):
            run_main(replay, f"--log={log}", f"--export={exported.base}")
    with LogWriter(log):
        pass
    with pytest.raises(CvrError, match="holds no request"):
        run_main(replay, f"--log={log}", f"--export={exported.base}")
