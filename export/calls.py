"""What a client asks, in which order, without the sending: `export.client` and `export.async_client` carry it out.

Each operation is a generator that gives lists of calls, which may be sent at once, and gets their answers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import grpc
import numpy as np
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

from cvr.errors import CvrError
from export import tensors
from export.answers import RankedItem, RequestFailedError, best_first
from export.limits import MAX_ITEMS, WHOLE_LIST
from export.prediction_log import predict_request
from export.request import Search, to_arrays
from export.servable import DEFAULT_SIGNATURE, TensorInfo, tensor_infos
from export.signatures import CONTEXT, ITEMS

_T = TypeVar("_T")
Split = Literal["items", "never"]
LIMITS = "limits"
_REMEMBERED = 4
_STALE = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)


class Call(NamedTuple):
    """A method of PredictionService or ModelService by name, and its request."""

    method: Literal["Predict", "GetModelMetadata", "GetModelStatus"]
    request: Any


Steps = Generator[Sequence[Call], list[Any], _T]
Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A search after `preprocess`, for `score`: what the first half of version `version` made of it, and the items' ids."""

    version: int
    names: tuple[str, ...]
    halves: Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Known:
    """What the server said of a version; `most_items` None where it has no signature `limits`."""

    version: int
    signatures: Mapping[str, Any]
    most_items: int | None = None
    whole_list: tuple[str, ...] = ()

    def inputs(self, signature: str) -> dict[str, TensorInfo]:
        """Named inputs of a signature. Raises CvrError."""
        if signature not in self.signatures:
            raise CvrError(f"version {self.version} has no signature {signature!r}; there are {', '.join(sorted(self.signatures))}")
        return tensor_infos(self.signatures[signature].inputs)


class Calls:
    """The operations on one model. `version`: a number pins that version, a text is a version label, None asks for the newest."""

    def __init__(self, model_name: str, version: int | str | None, split: Split) -> None:
        self._name, self._version, self._split = model_name, version, split
        self._known: dict[int | None, Known] = {}
        self._current: int | None = None

    def model(self) -> Steps[Known]:
        """What is known of the version that answered last; asked where nothing is."""
        found = self._known.get(self._current)
        return found if found is not None else (yield from self._ask())

    def _ask(self) -> Steps[Known]:
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._address(request.model_spec, None)
        (answer,) = yield [Call("GetModelMetadata", request)]
        found = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(found)
        known = Known(_version(answer), dict(found.signature_def))
        if LIMITS in known.signatures:
            outputs, _ = yield from self.predict({}, LIMITS, known.version)
            names = tuple(name.decode() for name in outputs[WHOLE_LIST])
            known = dataclasses.replace(known, most_items=int(outputs[MAX_ITEMS]), whole_list=names)
        self._known = {**dict(list(self._known.items())[-(_REMEMBERED - 1) :]), known.version: known}
        self._current = known.version
        return known

    def status(self) -> Steps[dict[int, str]]:
        """State by version."""
        request = get_model_status_pb2.GetModelStatusRequest()
        self._address(request.model_spec, None)
        (answer,) = yield [Call("GetModelStatus", request)]
        names = get_model_status_pb2.ModelVersionStatus.State.Name
        return {entry.version: names(entry.state) for entry in answer.model_version_status}

    def predict(
        self, inputs: Mapping[str, np.ndarray], signature: str, version: int | None = None, outputs: Sequence[str] = ()
    ) -> Steps[tuple[Arrays, int | None]]:
        """Outputs by name, only those of `outputs` where it names some, and the version that gave them."""
        (answer,) = yield [self._predict(inputs, signature, version, outputs)]
        return _arrays(answer), answer.model_spec.version.value if answer.model_spec.HasField("version") else None

    def rank(self, search: Search) -> Steps[list[RankedItem]]:
        """The items of a search, best first."""
        outputs, _ = yield from self._raw(search, DEFAULT_SIGNATURE)
        return best_first([str(item["item_id"]) for item in search.items], outputs)

    def preprocess(self, search: Search) -> Steps[Prepared]:
        """The first half of `rank`."""
        halves, version = yield from self._raw(search, "preprocess")
        return Prepared(version, tuple(str(item["item_id"]) for item in search.items), halves)

    def score(self, prepared: Prepared) -> Steps[list[RankedItem]]:
        """The second half, by the version that did the first."""
        if isinstance(self._version, int) and self._version != prepared.version:
            raise CvrError(f"version {prepared.version} preprocessed the search, and this client asks for version {self._version} only")
        outputs, _ = yield from self.predict(prepared.halves, "score", prepared.version)
        return best_first(prepared.names, outputs)

    def _raw(self, search: Search, signature: str) -> Steps[tuple[Arrays, int]]:
        """A raw request; built anew where the version changed meanwhile and what it refused was made for the one before."""
        known = yield from self.model()
        try:
            return (yield from self._send(search, signature, known))
        except CvrError as error:
            stale = not isinstance(error, RequestFailedError) or error.code in _STALE
            if isinstance(self._version, int) or not stale:
                raise
            fresh = yield from self._ask()
            if fresh.version == known.version:
                raise
            return (yield from self._send(search, signature, fresh))

    def _send(self, search: Search, signature: str, known: Known) -> Steps[tuple[Arrays, int]]:
        infos = known.inputs(signature)
        parts = self._parts(to_arrays(search, infos), infos, known)
        pin = known.version if len(parts) > 1 else None
        answers = yield [self._predict(part, signature, pin) for part in parts]
        self._answered_by(_version(answers[0]))
        return _merge([_arrays(answer) for answer in answers]), _version(answers[0])

    def _parts(self, arrays: Arrays, infos: Mapping[str, TensorInfo], known: Known) -> list[Arrays]:
        """The request, or several with some of its items each. Raises CvrError where it is too large and may not be cut."""
        count, most = len(arrays["item_id"]), known.most_items
        if most is None or count <= most:
            return [arrays]
        reason = ", ".join(known.whole_list) + " depend on all items of the search" if known.whole_list else ""
        if reason or self._split == "never":
            raise CvrError(
                f"the search has {count} items, version {known.version} takes {most} in a request, and it may not be sent in parts: "
                f"{reason or 'the client was made with split=never'}; send fewer items, or export with a larger --max_request_items"
            )
        by_item = [name for name, info in infos.items() if info.shape == (None,) and "." not in name]
        rows = np.array_split(np.arange(count), -(-count // most))
        return [{**arrays, **{name: arrays[name][chosen] for name in by_item}} for chosen in rows]

    def _predict(
        self, inputs: Mapping[str, np.ndarray], signature: str, version: int | None, outputs: Sequence[str] = ()
    ) -> Call:
        request: predict_pb2.PredictRequest = predict_request(inputs, signature, self._name)
        request.output_filter.extend(outputs)
        self._address(request.model_spec, version)
        return Call("Predict", request)

    def _address(self, spec: Any, version: int | None) -> None:
        spec.name, wanted = self._name, self._version if version is None else version
        if isinstance(wanted, str):
            spec.version_label = wanted
        elif wanted is not None:
            spec.version.value = wanted

    def _answered_by(self, version: int) -> None:
        self._current = version if version in self._known else None


def _version(answer: Any) -> int:
    if not answer.model_spec.HasField("version"):
        raise CvrError("the server's answer does not say which version gave it; it is no TF Serving")
    return answer.model_spec.version.value


def _arrays(answer: predict_pb2.PredictResponse) -> Arrays:
    return {name: tensors.decode_any(proto) for name, proto in answer.outputs.items()}


def _merge(answers: Sequence[Arrays]) -> Arrays:
    """Outputs of a search's parts, one after the other; the context, which all parts share, once."""
    if len(answers) == 1:
        return answers[0]
    return {
        name: answers[0][name] if name == CONTEXT and ITEMS in answers[0] else np.concatenate([answer[name] for answer in answers])
        for name in answers[0]
    }
