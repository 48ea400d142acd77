"""Versions change under load, with real models: no request fails, refused versions change nothing, and configurations apply."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from export.example import example_search
from export.models import AVAILABLE, END, Models
from export.prediction_log import predict_request
from export.request import to_arrays
from export.servable import Servable
from export.server import Server, Watching
from export.source import Source
from tests.export.conftest import Exported

CLIENTS = 4


@pytest.fixture
def base(exported: Exported, tmp_path: Path) -> Path:
    _publish(exported, tmp_path / "export", 1)
    return tmp_path / "export"


@pytest.fixture
def server(base: Path) -> Iterator[Server]:
    server = Server(Models("cvr"), watching=Watching(Source(base), seconds=0.0))  # the tests say when to look
    server.start()
    yield server
    server.stop(grace=0.0)


@pytest.fixture
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as opened:
        yield opened


@pytest.fixture
def request_of_five(exported: Exported, servable: Servable) -> predict_pb2.PredictRequest:
    return predict_request(to_arrays(example_search(exported.run.spec, 5), servable.inputs("serving_default")), "serving_default")


def _publish(exported: Exported, base: Path, version: int) -> Path:
    hidden = shutil.copytree(exported.version, base / f".{version}.tmp")
    return hidden.rename(base / str(version))


def _poll(server: Server) -> list[int]:
    assert server.watcher
    server.watcher.poll()
    return server.models.versions


def _statuses(channel: grpc.Channel) -> dict[int, Any]:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "cvr"
    return {s.version: s for s in model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request).model_version_status}


def test_no_request_fails_while_versions_change(
    exported: Exported, base: Path, server: Server, channel: grpc.Channel, request_of_five: predict_pb2.PredictRequest
) -> None:
    stub, ended = prediction_service_pb2_grpc.PredictionServiceStub(channel), threading.Event()
    expected = stub.Predict(request_of_five, timeout=60).outputs["score"]

    def ask() -> list[int]:
        seen = []
        while not ended.wait(0.005):
            answer = stub.Predict(request_of_five, timeout=60)
            assert answer.outputs["score"] == expected
            seen.append(answer.model_spec.version.value)
        return seen

    with futures.ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(ask) for _ in range(CLIENTS)]
        try:
            for version in (2, 3):
                _publish(exported, base, version)
                assert _poll(server) == [version]
            shutil.rmtree(base / "3")
            assert _poll(server) == [2]
            damaged = _publish(exported, base, 4)
            (damaged / "variables" / "variables.data-00000-of-00001").write_bytes(b"cut")
            (_publish(exported, base, 5) / "assets.extra" / "parity_requests.tfrecord").unlink()
            assert _poll(server) == [2]
        finally:
            ended.set()
        seen = [client.result(timeout=60) for client in clients]  # raises where a request failed
    assert {version for versions in seen for version in versions} == {1, 2, 3}
    _poll(server)
    statuses = _statuses(channel)
    assert {version: status.state for version, status in statuses.items()} == {1: END, 2: AVAILABLE, 3: END, 4: END, 5: END}
    assert "no assets.extra/parity_requests.tfrecord" in statuses[5].status.error_message
    assert statuses[4].status.error_code == 9 and "cannot be loaded" in statuses[4].status.error_message
    assert server.metrics.registry.get_sample_value("cvr_refused_versions_total") == 2


def _reload(channel: grpc.Channel, base: Path, name: str = "cvr", **fields: Any) -> None:
    request = model_management_pb2.ReloadConfigRequest()
    entry = request.config.model_config_list.config.add(name=name, base_path=str(base), model_platform="tensorflow")
    for label, version in fields.get("labels", {}).items():
        entry.version_labels[label] = version
    if "specific" in fields:
        entry.model_version_policy.specific.versions.extend(fields["specific"])
    answer = model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest(request, timeout=120)
    assert answer.status.error_code == 0


def test_configurations_apply_or_change_nothing(
    exported: Exported, base: Path, server: Server, channel: grpc.Channel, request_of_five: predict_pb2.PredictRequest
) -> None:
    _publish(exported, base, 2)
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    _reload(channel, base, specific=[1, 2], labels={"stable": 1, "canary": 2})
    assert server.models.versions == [1, 2]
    for label, version in (("stable", 1), ("canary", 2)):
        request_of_five.model_spec.version_label = label
        assert stub.Predict(request_of_five, timeout=60).model_spec.version.value == version
    for fields, code, text in (
        ({"labels": {"canary": 9}}, grpc.StatusCode.INVALID_ARGUMENT, "'canary' stands for version 9"),
        ({"name": "other"}, grpc.StatusCode.INVALID_ARGUMENT, "exactly one entry"),
        ({"base": base.parent}, grpc.StatusCode.PERMISSION_DENIED, "--reload_base_paths"),
        ({"base": base / ".." / ".."}, grpc.StatusCode.PERMISSION_DENIED, "--reload_base_paths"),
        ({"base": base / "none"}, grpc.StatusCode.INVALID_ARGUMENT, "no model version under"),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            _reload(channel, **{"base": base, **fields})
        assert refused.value.code() == code and text in refused.value.details()
    assert server.models.versions == [1, 2] and server.models.labels == {"stable": 1, "canary": 2}
