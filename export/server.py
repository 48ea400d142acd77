"""A gRPC server of one model's versions: prediction, model, health and reflection services."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from tensorflow_serving.apis import (
    model_service_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2,
    prediction_service_pb2_grpc,
)

from cvr.errors import CvrError
from export.admission import Admission, Capacity
from export.loading import load_version
from export.metrics import Metrics
from export.models import Models
from export.refusals import MOST_CHARACTERS
from export.services import ModelService, PredictionService
from export.source import Source
from export.watcher import Load, Watcher

_SERVICES = tuple(
    description.services_by_name[name].full_name
    for description, name in (
        (prediction_service_pb2.DESCRIPTOR, "PredictionService"),
        (model_service_pb2.DESCRIPTOR, "ModelService"),
    )
)
_SPARE_THREADS = 16
"""For calls that are refused at once and those that compute nothing; reflection may hold half of them."""
_SETTLE_SECONDS = 0.05
"""Calls that came just before the end have reached their thread after it."""


@dataclasses.dataclass(frozen=True)
class Watching:
    """Where a server's versions come from while it runs, and which folders a HandleReloadConfigRequest may name."""

    source: Source
    load: Load = load_version
    seconds: float = 1.0
    roots: tuple[Path, ...] = ()


class Server:
    """A gRPC server of one model. `port` is the one it listens on."""

    def __init__(
        self,
        models: Models,
        address: str = "127.0.0.1:0",
        capacity: Capacity = Capacity(),  # noqa: B008 - frozen
        credentials: grpc.ServerCredentials | None = None,
        watching: Watching | None = None,
    ) -> None:
        """Loads what is to be watched and binds the address; requests are answered after `start`.

        Raises CvrError when nothing can be loaded or the address is taken.
        """
        self.models = models
        self.admission = Admission(capacity)
        self.metrics = Metrics(models, lambda: self.admission.in_flight)
        self.watcher: Watcher | None = None
        roots: tuple[Path, ...] = ()
        if watching:
            self.watcher = Watcher(models, watching.source, watching.load, self.metrics, watching.seconds)
            self._seconds, roots = watching.seconds, (watching.source.base, *watching.roots)
        self._calls = _Calls()
        self._server = _grpc_server(capacity, self._calls)
        self.health = health.HealthServicer()
        self._add_services(roots)
        self.port = _bind(self._server, address, credentials)
        if self.watcher:
            self.watcher.load_first()

    def _add_services(self, roots: tuple[Path, ...]) -> None:
        prediction = PredictionService(self.models, self.admission, self.metrics)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(prediction, self._server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(self.models, self.watcher, roots), self._server)
        for service in _SERVICES:
            self.health.set(service, health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(_Reflection(), self._server)

    def start(self) -> None:
        """Begins to answer, and to watch the model folder."""
        self._server.start()
        if self.watcher and self._seconds > 0:
            self.watcher.start()

    def stop(self, grace: float = 5.0, drain: float = 0.0) -> None:
        """Says NOT_SERVING to health checks; after `drain` seconds refuses new requests, lets running ones end within `grace`, returns."""
        self.health.enter_graceful_shutdown()
        time.sleep(drain)
        self._server.stop(grace)
        time.sleep(_SETTLE_SECONDS)
        self._calls.wait_for_none(grace)
        self._server.stop(0.0).wait()
        if self.watcher:
            self.watcher.stop()
        self.metrics.close()


def load_models(base: str, name: str) -> Models:
    """The newest fit version under a base folder. Raises CvrError where there is none."""
    models = Models(name)
    Watcher(models, Source(Path(base)), load_version).load_first()
    return models


def _grpc_server(capacity: Capacity, calls: _Calls) -> grpc.Server:
    size = capacity.message_mb << 20
    options = [
        ("grpc.so_reuseport", 0),  # otherwise a second server would share the port without an error
        ("grpc.max_receive_message_length", size),
        ("grpc.max_send_message_length", size),
    ]
    pool = futures.ThreadPoolExecutor(capacity.in_flight + _SPARE_THREADS, thread_name_prefix="rpc")
    return grpc.server(pool, options=options, interceptors=[calls])


def _bind(server: grpc.Server, address: str, credentials: grpc.ServerCredentials | None) -> int:
    try:
        port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    except RuntimeError:
        port = 0
    if not port:
        raise CvrError(f"cannot listen on {address}: the port is in use or the address is not this machine's; give another --port")
    return port


class _Calls(grpc.ServerInterceptor):
    """Unary calls: counts those that are open, and answers INVALID_ARGUMENT to bytes that are no message of the method's type.

    gRPC alone would answer INTERNAL, and count streams too, which health checks keep open until the server ends them.
    """

    def __init__(self) -> None:
        self._open = 0
        self._changed = threading.Condition()

    def wait_for_none(self, seconds: float) -> None:
        """Returns when no call is open, or after `seconds`."""
        with self._changed:
            self._changed.wait_for(lambda: not self._open, seconds)

    def _count(self, change: int) -> None:
        with self._changed:
            self._open += change
            self._changed.notify_all()

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """The method's handler, counted, with a reader that gives the error on."""
        handler = continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        method = handler_call_details.method

        def read(data: bytes) -> Any:
            try:
                return handler.request_deserializer(data)
            except (message.DecodeError, ValueError) as error:
                return error

        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            self._count(1)
            if not context.add_callback(lambda: self._count(-1)):  # False: the call has ended
                self._count(-1)
            if isinstance(request, Exception):
                text = f"the request is no message that {method} takes: {request}"
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, text[:MOST_CHARACTERS])
            return handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(answer, read, handler.response_serializer)


class _Reflection(reflection.ReflectionServicer):
    """Reflection for few clients at a time: each holds a thread while its stream is open."""

    def __init__(self) -> None:
        super().__init__((*_SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME))
        self._streams = threading.Semaphore(_SPARE_THREADS // 2)

    def ServerReflectionInfo(self, request_iterator: Any, context: grpc.ServicerContext) -> Iterator[Any]:  # noqa: N802
        """Descriptions of services and messages."""
        if not self._streams.acquire(blocking=False):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many reflection streams are open")
        try:
            yield from super().ServerReflectionInfo(request_iterator, context)
        finally:
            self._streams.release()
