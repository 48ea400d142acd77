"""Checks of what a server may have beside TF Serving's services; skipped, with the reason, where it has not."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from export.conformance.check import Check, FailedError, SkippedError, require
from export.conformance.target import Target

SERVICES = {"tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"}


def _health(target: Target) -> str:
    try:
        answer = health_pb2_grpc.HealthStub(target.channel).Check(health_pb2.HealthCheckRequest(), timeout=target.timeout)
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNIMPLEMENTED:
            message = "no health service; tensorflow_model_server has one with --enable_grpc_healthcheck_service only"
            raise SkippedError(message) from error
        raise FailedError(f"{error.code().name}: {error.details()}") from error
    state = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    require(state == "SERVING", f"the server answers requests and calls itself {state}")
    return state


def _reflection(target: Target) -> str:
    stub = reflection_pb2_grpc.ServerReflectionStub(target.channel)
    asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    try:
        answer = next(iter(stub.ServerReflectionInfo(asked, timeout=target.timeout)))
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNIMPLEMENTED:
            raise SkippedError("no reflection; tensorflow_model_server has none") from error
        raise FailedError(f"{error.code().name}: {error.details()}") from error
    listed = {service.name for service in answer.list_services_response.service}
    require(listed >= SERVICES, f"lists {sorted(listed)}, which lacks {sorted(SERVICES - listed)}")
    return ", ".join(sorted(listed))


CHECKS = (
    Check("health", "grpc.health.v1: SERVING", _health),
    Check("reflection", "gRPC reflection lists both services", _reflection),
)
