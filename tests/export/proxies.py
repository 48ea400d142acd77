"""A gRPC server between a client and a real one, which counts, changes or refuses calls: faults on the wire."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from export.client import stubs

Before = Callable[[str, Any, int], tuple[grpc.StatusCode, str] | None]
After = Callable[[str, Any, Any], Any]
Caught = Callable[[str, Any, grpc.RpcError], Any]


class Proxy(prediction_service_pb2_grpc.PredictionServiceServicer, model_service_pb2_grpc.ModelServiceServicer):
    """`before(method, request, number)` may change or refuse a call; `after(method, request, answer)` may change its answer.

    `caught(method, request, error)` gives an answer in place of the real server's error, or None to pass it on.
    """

    def __init__(self, target: str, before: Before | None = None, after: After | None = None, caught: Caught | None = None) -> None:
        self._channel = grpc.insecure_channel(target)
        self._stubs, self._before, self._after, self._caught = stubs(self._channel), before, after, caught
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.requests: list[Any] = []
        self.target = ""

    def _forward(self, method: str, request: Any, context: grpc.ServicerContext) -> Any:
        with self._lock:
            self.counts[method] += 1
            number = self.counts[method]
            self.requests.append(request)
        refusal = self._before(method, request, number) if self._before else None
        if refusal is not None:
            context.abort(*refusal)
        try:
            answer = self._stubs[method](request, timeout=60)
        except grpc.RpcError as error:
            instead = self._caught(method, request, error) if self._caught else None
            if instead is None:
                context.abort(error.code(), error.details())
            return instead
        return answer if self._after is None else self._after(method, request, answer)

    def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._forward("Predict", request, context)

    def GetModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._forward("GetModelMetadata", request, context)

    def GetModelStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._forward("GetModelStatus", request, context)

    @contextlib.contextmanager
    def serving(self, credentials: grpc.ServerCredentials | None = None) -> Iterator[Proxy]:
        """Listens on a free port while the block runs; `target` says where."""
        server = grpc.server(futures.ThreadPoolExecutor(64))
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(self, server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(self, server)
        port = server.add_secure_port("localhost:0", credentials) if credentials else server.add_insecure_port("127.0.0.1:0")
        server.start()
        self.target = f"{'localhost' if credentials else '127.0.0.1'}:{port}"
        try:
            yield self
        finally:
            server.stop(None).wait()
            self._channel.close()
