"""Deadlines, full queues, cancellation and draining, with a version that answers when it is told to."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Callable, Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from cvr.errors import CvrError
from export.admission import Capacity
from export.models import Models
from export.server import Server
from tests.export.stand_ins import StandIn

WAIT = 30.0
Stub = prediction_service_pb2_grpc.PredictionServiceStub


@pytest.fixture
def version() -> StandIn:
    return StandIn("4")


@pytest.fixture
def server(version: StandIn) -> Iterator[Server]:
    server = Server(Models("cvr", {4: version}), capacity=Capacity(workers=1, in_flight=2, message_mb=1))
    server.start()
    yield server
    version.gate.set()
    server.stop(grace=0.0)


@pytest.fixture
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as opened:
        yield opened


def _request() -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "cvr"
    return request


def _until(met: Callable[[], bool]) -> None:
    ends = time.monotonic() + WAIT
    while not met():
        assert time.monotonic() < ends
        time.sleep(0.005)


def _hold(channel: grpc.Channel, version: StandIn) -> grpc.Future:
    """A request that is being computed until the gate opens."""
    version.gate.clear()
    running = Stub(channel).Predict.future(_request(), timeout=WAIT)
    assert version.entered.acquire(timeout=WAIT)
    return running


def _counted(server: Server, code: str) -> float:
    return server.metrics.registry.get_sample_value("cvr_requests_total", {"signature": "serving_default", "code": code}) or 0.0


def test_a_request_whose_deadline_passed_is_not_computed(server: Server, channel: grpc.Channel, version: StandIn) -> None:
    running = _hold(channel, version)
    with pytest.raises(grpc.RpcError) as late:
        Stub(channel).Predict(_request(), timeout=0.1)
    assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    _until(lambda: _counted(server, "DEADLINE_EXCEEDED") == 1)
    version.gate.set()
    assert running.result().model_spec.version.value == 4
    assert version.computed == 1 and server.admission.in_flight == 0


def test_a_request_that_was_given_up_is_not_computed(server: Server, channel: grpc.Channel, version: StandIn) -> None:
    running = _hold(channel, version)
    waiting = Stub(channel).Predict.future(_request(), timeout=WAIT)
    _until(lambda: server.admission.in_flight == 2)
    waiting.cancel()
    _until(lambda: _counted(server, "CANCELLED") == 1)
    version.gate.set()
    running.result()
    assert version.computed == 1


def test_beyond_the_limit_requests_are_refused_at_once(server: Server, channel: grpc.Channel, version: StandIn) -> None:
    running = _hold(channel, version)
    waiting = Stub(channel).Predict.future(_request(), timeout=WAIT)
    _until(lambda: server.admission.in_flight == 2)
    with pytest.raises(grpc.RpcError) as refused:
        Stub(channel).Predict(_request(), timeout=WAIT)
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED and "2 requests are in flight" in refused.value.details()
    assert not running.done() and not waiting.done()
    version.gate.set()
    assert running.result() and waiting.result() and version.computed == 2
    assert Stub(channel).Predict(_request(), timeout=WAIT)


def test_messages_above_the_limit_are_refused(channel: grpc.Channel, version: StandIn) -> None:
    request = _request()
    request.inputs["x"].tensor_content = bytes(2 << 20)
    with pytest.raises(grpc.RpcError) as refused:
        Stub(channel).Predict(request, timeout=WAIT)
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED and version.computed == 0


def test_defects_are_internal_errors(channel: grpc.Channel, version: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "run_protos", lambda *_: 1 / 0)
    with pytest.raises(grpc.RpcError) as failed:
        Stub(channel).Predict(_request(), timeout=WAIT)
    assert failed.value.code() == grpc.StatusCode.INTERNAL and "ZeroDivisionError" in failed.value.details()


def test_draining_says_so_and_lets_requests_end(server: Server, channel: grpc.Channel, version: StandIn) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    services = ("", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")
    asked = [health_pb2.HealthCheckRequest(service=name) for name in services]
    assert {health.Check(request).status for request in asked} == {health_pb2.HealthCheckResponse.SERVING}
    watched = health.Watch(asked[1])
    seen = [next(watched).status]
    running = _hold(channel, version)
    stopping = threading.Thread(target=server.stop, args=(WAIT, 0.5))
    stopping.start()
    seen.append(next(watched).status)
    assert seen == [health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING]
    late = Stub(channel).Predict.future(_request(), timeout=WAIT)  # balancers have not heard yet
    _until(lambda: server.admission.in_flight == 2)
    version.gate.set()
    assert running.result() and late.result()
    stopping.join(WAIT)
    with pytest.raises(grpc.RpcError) as refused:
        Stub(channel).Predict(_request(), timeout=WAIT)
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE


def test_metrics_over_http(server: Server, channel: grpc.Channel) -> None:
    Stub(channel).Predict(_request(), timeout=WAIT)
    unknown = _request()
    unknown.model_spec.signature_name = "made up"
    unknown.model_spec.version.value = 9
    with pytest.raises(grpc.RpcError):
        Stub(channel).Predict(unknown, timeout=WAIT)
    port = server.metrics.serve("127.0.0.1", 0)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=WAIT) as answer:
        lines = answer.read().decode().splitlines()
    for line in (
        'cvr_requests_total{code="OK",signature="serving_default"} 1.0',
        'cvr_requests_total{code="NOT_FOUND",signature="unknown"} 1.0',
        'cvr_items_total{signature="serving_default"} 1.0',
        'cvr_request_items_bucket{le="1.0",signature="serving_default"} 1.0',
        'cvr_queue_seconds_count{signature="serving_default"} 1.0',
        'cvr_compute_seconds_count{signature="serving_default"} 1.0',
        "cvr_refused_versions_total 0.0",
        "cvr_in_flight 0.0",
        'cvr_version_state{state="AVAILABLE",version="4"} 1.0',
    ):
        assert line in lines, line
    with pytest.raises(CvrError, match="give another --metrics_port"):
        server.metrics.serve("127.0.0.1", port)


def test_capacity_that_cannot_be() -> None:
    with pytest.raises(CvrError, match="--max_in_flight=3 must be at least --max_workers=4"):
        Capacity(workers=4, in_flight=3)


def test_reflection_names_the_services(channel: grpc.Channel) -> None:
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    (answer,) = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request]))
    names = {service.name for service in answer.list_services_response.service}
    assert {"tensorflow.serving.PredictionService", "tensorflow.serving.ModelService", "grpc.health.v1.Health"} <= names
