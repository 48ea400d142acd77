"""A server's metrics in Prometheus' text format, over HTTP on a port of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import prometheus_client
from prometheus_client.core import GaugeMetricFamily
from tensorflow_serving.apis import get_model_status_pb2

from cvr.errors import CvrError
from export.models import Models

_ITEMS = (1, 2, 5, 10, 25, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
UNKNOWN = "unknown"
"""Label of requests for signatures that the model does not have, so that requests cannot make up labels."""


class Metrics:
    """Counters and histograms of one server; docs/serving.md says what each one means."""

    def __init__(self, models: Models, in_flight: Callable[[], int]) -> None:
        self._server: Any = None
        self.registry = prometheus_client.CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry}
        self.requests = prometheus_client.Counter("cvr_requests", "Predict requests", ["signature", "code"], **own)
        self.items = prometheus_client.Counter("cvr_items", "Rows of answers", ["signature"], **own)
        self.request_items = prometheus_client.Histogram("cvr_request_items", "Rows of an answer", ["signature"], buckets=_ITEMS, **own)
        self.queue = prometheus_client.Histogram("cvr_queue_seconds", "Waiting for a worker", ["signature"], buckets=_SECONDS, **own)
        self.compute = prometheus_client.Histogram("cvr_compute_seconds", "Computing", ["signature"], buckets=_SECONDS, **own)
        self.refused = prometheus_client.Counter("cvr_refused_versions", "Versions that were not fit to be served", **own)
        prometheus_client.Gauge("cvr_in_flight", "Requests computed or waiting", **own).set_function(in_flight)
        self.registry.register(_Versions(models))

    def answered(self, signature: str, items: int, queue: float, compute: float) -> None:
        """Counts an answer of `items` rows after `queue` and `compute` seconds."""
        self.requests.labels(signature, "OK").inc()
        self.items.labels(signature).inc(items)
        self.request_items.labels(signature).observe(items)
        self.queue.labels(signature).observe(queue)
        self.compute.labels(signature).observe(compute)

    def not_answered(self, signature: str, code: grpc.StatusCode) -> None:
        """Counts a refusal."""
        self.requests.labels(signature, code.name).inc()

    def serve(self, host: str, port: int) -> int:
        """Answers GET /metrics from now on; the port that it listens on. Raises CvrError where it is taken."""
        try:
            self._server, _ = prometheus_client.start_http_server(port, host, self.registry)
        except OSError as error:
            raise CvrError(f"cannot listen on {host}:{port} for metrics ({error}); give another --metrics_port") from error
        return self._server.server_port

    def close(self) -> None:
        """Ends the HTTP server, if there is one."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()


class _Versions:
    """The state of each version, read when it is asked for."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One series per version known: 1 under its state."""
        family = GaugeMetricFamily("cvr_version_state", "1 under the state of a version", labels=["version", "state"])
        for version, status in self._models.status().items():
            family.add_metric([str(version), get_model_status_pb2.ModelVersionStatus.State.Name(status.state)], 1.0)
        yield family
