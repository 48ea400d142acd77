"""TF Serving's PredictionService and ModelService over loaded versions, with the status codes that its clients expect."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from cvr.errors import CvrError
from export import tensors
from export.admission import Admission
from export.metrics import UNKNOWN, Metrics
from export.models import Models
from export.refusals import RefusedError, refusal
from export.servable import DEFAULT_SIGNATURE
from export.source import Source
from export.watcher import Watcher

_METADATA_FIELD = "signature_def"


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata; the other methods answer UNIMPLEMENTED."""

    def __init__(self, models: Models, admission: Admission, metrics: Metrics) -> None:
        self._models, self._admission, self._metrics = models, admission, metrics

    def Predict(self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext) -> predict_pb2.PredictResponse:  # noqa: N802
        """Runs a signature on named tensors."""
        try:
            return self._predict(request, context)
        except Exception as error:
            refused = refusal(error)
            self._metrics.not_answered(self._known(request.model_spec.signature_name or DEFAULT_SIGNATURE), refused.code)
            _abort(context, refused)

    def _predict(self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext) -> predict_pb2.PredictResponse:
        signature, arrived = request.model_spec.signature_name or DEFAULT_SIGNATURE, time.perf_counter()
        with self._admission.admit(context), self._models.lease(request.model_spec) as (version, servable):
            started = time.perf_counter()
            wanted = _wanted(servable.outputs(signature), request.output_filter)
            outputs = servable.run_protos(signature, request.inputs)
            ended = time.perf_counter()
        response = predict_pb2.PredictResponse()
        _address(response.model_spec, self._models.name, version, signature)
        for name in wanted:
            tensors.fill(response.outputs[name], outputs[name])
        rows = max((values.shape[0] for values in outputs.values() if values.ndim), default=0)
        self._metrics.answered(signature, rows, started - arrived, ended - started)
        return response

    def _known(self, signature: str) -> str:
        known = any(signature in servable.signature_defs for servable in self._models.served().values())
        return signature if known else UNKNOWN

    def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """The signatures of a version: metadata field `signature_def`."""
        try:
            for field in request.metadata_field or [""]:
                if field != _METADATA_FIELD:
                    found = f"{field!r} is not known" if field else "is empty"
                    raise CvrError(f"metadata_field {found}; ask for {_METADATA_FIELD!r}")
            with self._models.lease(request.model_spec) as (version, servable):
                definitions = get_model_metadata_pb2.SignatureDefMap(signature_def=servable.signature_defs)
        except Exception as error:
            _abort(context, refusal(error))
        packed = any_pb2.Any()
        packed.Pack(definitions)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        _address(response.model_spec, self._models.name, version)
        response.metadata[_METADATA_FIELD].CopyFrom(packed)
        return response


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus and HandleReloadConfigRequest.

    A configuration may name a folder of `roots`, or one under it, as base_path, so that no request makes the server read other files.
    """

    def __init__(self, models: Models, watcher: Watcher | None = None, roots: tuple[Path, ...] = ()) -> None:
        self._models, self._watcher, self._roots = models, watcher, roots

    def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """The state of the version that is asked for, or of all that are known, with the error of those that were refused."""
        try:
            statuses = self._models.describe(request.model_spec)
        except Exception as error:
            _abort(context, refusal(error))
        response = get_model_status_pb2.GetModelStatusResponse()
        for version, status in statuses.items():
            entry = response.model_version_status.add(version=version, state=status.state)
            entry.status.error_code, entry.status.error_message = status.code, status.message
        return response

    def HandleReloadConfigRequest(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """Serves from another base path, with another version policy or labels, once their versions are loaded; else nothing changes."""
        try:
            if self._watcher is None:
                raise RefusedError(grpc.StatusCode.FAILED_PRECONDITION, "this server has fixed versions and takes no configuration")
            source = Source.from_config(request.config, self._models.name)
            self._permit(source.base)
            self._watcher.apply(source)
        except Exception as error:
            _abort(context, refusal(error))
        return model_management_pb2.ReloadConfigResponse()

    def _permit(self, base: Path) -> None:
        wanted = base.resolve()
        if not any(wanted == root or root in wanted.parents for root in (path.resolve() for path in self._roots)):
            message = f"base_path {base} is neither this server's own nor under a folder of --reload_base_paths"
            raise RefusedError(grpc.StatusCode.PERMISSION_DENIED, message)


def _wanted(outputs: Mapping[str, object], chosen: Any) -> list[str]:
    for name in chosen:
        if name not in outputs:
            raise CvrError(f"output_filter names {name!r}; the signature gives {', '.join(sorted(outputs))}")
    return list(chosen) or sorted(outputs)


def _address(spec: Any, name: str, version: int, signature: str = "") -> None:
    spec.name, spec.signature_name = name, signature
    spec.version.value = version


def _abort(context: grpc.ServicerContext, refused: RefusedError) -> NoReturn:
    context.abort(refused.code, refused.message)
    raise AssertionError("abort raises")  # for type checkers; grpc's stubs do not say so
