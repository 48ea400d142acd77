"""The server under test: raw calls whose status is looked at, and valid requests made from the server's own metadata."""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Mapping, Sequence
from concurrent import futures
from typing import Any, NamedTuple

import grpc
import numpy as np
from tensorflow_serving.apis import predict_pb2

from cvr.errors import CvrError
from cvr.ranker import Ranker
from cvr.schema import FeatureSpec
from export import tensors
from export.client import Client, Options, RequestFailedError, stubs
from export.connection import Connection
from export.inputs import ITEM_ID, ITEM_OFFSET
from export.limits import MAX_ITEMS, WHOLE_LIST
from export.prediction_log import Call, predict_request
from export.retries import Retry
from export.servable import DEFAULT_SIGNATURE, TensorInfo, tensor_infos

Arrays = dict[str, np.ndarray]
_WORDS = ("red", "blue", "shoes", "Läufer", "2 pack", "phone", "7", "")


class Answer(NamedTuple):
    """A call's status, its message, and the response where the status is OK."""

    code: grpc.StatusCode
    details: str
    response: Any = None

    def arrays(self) -> Arrays:
        """The outputs of a Predict response."""
        return {name: tensors.decode_any(proto) for name, proto in self.response.outputs.items()}


@dataclasses.dataclass(frozen=True)
class Reference:
    """What answers are compared with, as far as it was given: a checkpoint's ranker, list records of its spec, and the answers that an
    exported version recorded of itself, with their tolerance."""

    spec: FeatureSpec | None = None
    ranker: Ranker | None = None
    records: Sequence[bytes] = ()
    recorded: Sequence[Call] = ()
    recorded_version: int | None = None
    recorded_tolerance: float = 0.0


class Target:
    """A model on a server. `labels`: version by label, as the server was configured. Calls are never retried."""

    def __init__(
        self,
        address: str,
        model_name: str = "cvr",
        connection: Connection = Connection(),  # noqa: B008 - frozen
        timeout: float = 30.0,
        tolerance: float = 1e-5,
        labels: Mapping[str, int] | None = None,
        reference: Reference = Reference(),  # noqa: B008 - frozen
    ) -> None:
        """`timeout` in seconds per call; `tolerance` is the largest difference, relative above 1, of two scores that counts as equal."""
        self.address, self.name, self.timeout, self.tolerance = address, model_name, timeout, tolerance
        self.labels, self.reference = dict(labels or {}), reference
        self.channel = connection.channel(address)
        self._methods = stubs(self.channel)
        self.client = Client(address, model_name, timeout=timeout, options=Options(connection, Retry(attempts=1), split="never"))

    def reach(self) -> None:
        """Raises RequestFailedError where nobody answers at the address; whatever a server answers is a matter of the checks."""
        try:
            self.client.status()
        except RequestFailedError as error:
            if error.code == grpc.StatusCode.UNAVAILABLE:
                raise

    def close(self) -> None:
        """Closes the connections."""
        self.client.close()
        self.channel.close()

    def ask(self, method: str, request: Any) -> Answer:
        """Sends a request as it is."""
        try:
            response = self._methods[method](request, timeout=self.timeout)
        except grpc.RpcError as error:
            return Answer(error.code(), error.details() or "")
        return Answer(grpc.StatusCode.OK, "", response)

    def predict(self, arrays: Mapping[str, np.ndarray], signature: str = DEFAULT_SIGNATURE) -> Arrays:
        """Outputs of a request that must be answered. Raises CvrError otherwise."""
        answer = self.ask("Predict", self.request(arrays, signature))
        if answer.code != grpc.StatusCode.OK:
            raise CvrError(f"signature {signature!r} answered {answer.code.name} to a right request: {answer.details}")
        return answer.arrays()

    def predict_at_once(self, requests: Sequence[Arrays], signature: str = DEFAULT_SIGNATURE) -> list[Arrays]:
        """`predict` of all requests at the same time."""
        with futures.ThreadPoolExecutor(len(requests)) as pool:
            return list(pool.map(lambda arrays: self.predict(arrays, signature), requests))

    def request(self, arrays: Mapping[str, np.ndarray], signature: str = DEFAULT_SIGNATURE) -> predict_pb2.PredictRequest:
        """A Predict request to the newest version."""
        return predict_request(arrays, signature, self.name)

    @functools.cached_property
    def signatures(self) -> dict[str, Any]:
        """Signature definitions by name. Raises CvrError where the server gives none."""
        found = self.client.signatures()
        if DEFAULT_SIGNATURE not in found or ITEM_ID not in found[DEFAULT_SIGNATURE].inputs:
            raise CvrError(f"model {self.name!r} has no {DEFAULT_SIGNATURE!r} with input {ITEM_ID!r}; was it made by export.save?")
        return found

    @property
    def inputs(self) -> dict[str, TensorInfo]:
        """Inputs of a raw request."""
        return tensor_infos(self.signatures[DEFAULT_SIGNATURE].inputs)

    def item_inputs(self) -> list[str]:
        """The inputs with a row per item."""
        return [name for name, info in self.inputs.items() if info.shape == (None,) and "." not in name]

    @functools.cached_property
    def limits(self) -> tuple[int, tuple[str, ...]] | None:
        """Most items of a request and the features and outputs that depend on the whole list; None where the model does not say."""
        if "limits" not in self.signatures:
            return None
        outputs = self.predict({}, "limits")
        return int(outputs[MAX_ITEMS]), tuple(name.decode() for name in outputs[WHOLE_LIST])

    def example(self, items: int, seed: int = 0) -> Arrays:
        """A right raw request with made-up values, by the types of the inputs alone."""
        source = random.Random(seed)
        events = {name.partition(".")[0]: source.randrange(5) for name in sorted(self.inputs) if "." in name}
        return {name: _values(name, info, items, events, source) for name, info in sorted(self.inputs.items())}


def _values(name: str, info: TensorInfo, items: int, events: Mapping[str, int], source: random.Random) -> np.ndarray:
    rows = events[name.partition(".")[0]] if "." in name else 1 if info.shape == (1,) else items
    if name == ITEM_OFFSET:
        return np.arange(items, dtype=np.int32)
    if name == ITEM_ID or name.endswith(f".{ITEM_ID}"):
        return np.array([f"item-{source.randrange(1000)}" for _ in range(rows)], object)
    if name.endswith(".action"):
        return np.array([source.choice(("click", "purchase", "clickout", "view")) for _ in range(rows)], object)
    if info.dtype.name == "string":
        return np.array([source.choice(_WORDS) for _ in range(rows)], object)
    return np.array([source.lognormvariate(1.0, 1.0) for _ in range(rows)], info.dtype.as_numpy_dtype)
