"""TF Serving's PredictionService and ModelService over loaded versions, with the status codes that its clients expect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import grpc
import tensorflow as tf
from google.protobuf import any_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from cvr.errors import CvrError
from export import tensors
from export.servable import DEFAULT_SIGNATURE, Servable, UnknownSignatureError, graph_message

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_METADATA_FIELD = "signature_def"
_AVAILABLE = get_model_status_pb2.ModelVersionStatus.AVAILABLE


class Models:
    """The versions of one model that are being served; the newest answers requests that pin none."""

    def __init__(self, name: str, servables: Mapping[int, Servable]) -> None:
        self.name = name
        self._servables = dict(servables)

    @property
    def versions(self) -> list[int]:
        """Served versions, lowest first."""
        return sorted(self._servables)

    def find(self, spec: model_pb2.ModelSpec) -> Servable:
        """The version that a request asks for. Raises LookupError saying what is not there."""
        if spec.name != self.name:
            raise LookupError(f"no model {spec.name!r} here; the server has {self.name!r}")
        if spec.WhichOneof("version_choice") == "version_label":
            raise LookupError(f"no version label {spec.version_label!r} for model {self.name!r}; ask for a version number or none")
        version = spec.version.value if spec.HasField("version") else self.versions[-1]
        if version not in self._servables:
            raise LookupError(f"no version {version} of model {self.name!r}; there is {', '.join(map(str, self.versions))}")
        return self._servables[version]


class _Base:
    def __init__(self, models: Models) -> None:
        self._models = models

    def _find(self, spec: model_pb2.ModelSpec, context: grpc.ServicerContext) -> Servable:
        try:
            return self._models.find(spec)
        except LookupError as error:
            _abort(context, grpc.StatusCode.NOT_FOUND, error.args[0])

    def _answering(self, servable: Servable, signature: str = "") -> model_pb2.ModelSpec:
        spec = model_pb2.ModelSpec(name=self._models.name, signature_name=signature)
        spec.version.value = servable.version
        return spec


class PredictionService(_Base, prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata; the other methods answer UNIMPLEMENTED."""

    def Predict(self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext) -> predict_pb2.PredictResponse:  # noqa: N802
        """Runs a signature on named tensors."""
        servable = self._find(request.model_spec, context)
        signature = request.model_spec.signature_name or DEFAULT_SIGNATURE
        try:
            wanted = _wanted(servable.outputs(signature), request.output_filter)
            outputs = servable.run_protos(signature, request.inputs)
        except UnknownSignatureError as error:
            _abort(context, grpc.StatusCode.NOT_FOUND, str(error))
        except CvrError as error:
            _abort(context, grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except tf.errors.OpError as error:
            _abort(context, _CODES.get(error.error_code, grpc.StatusCode.INTERNAL), graph_message(error))
        response = predict_pb2.PredictResponse(model_spec=self._answering(servable, signature))
        for name in wanted:
            response.outputs[name].CopyFrom(tensors.encode(outputs[name]))
        return response

    def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """The signatures of a version: metadata field `signature_def`."""
        servable = self._find(request.model_spec, context)
        for field in request.metadata_field:
            if field != _METADATA_FIELD:
                message = f"metadata_field {field!r} is not known; ask for {_METADATA_FIELD!r}"
                _abort(context, grpc.StatusCode.INVALID_ARGUMENT, message)
        if not request.metadata_field:
            _abort(context, grpc.StatusCode.INVALID_ARGUMENT, f"metadata_field is empty; ask for {_METADATA_FIELD!r}")
        definitions = get_model_metadata_pb2.SignatureDefMap(signature_def=servable.signature_defs)
        packed = any_pb2.Any()
        packed.Pack(definitions)
        response = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=self._answering(servable))
        response.metadata[_METADATA_FIELD].CopyFrom(packed)
        return response


class ModelService(_Base, model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus; HandleReloadConfigRequest answers UNIMPLEMENTED."""

    def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """The state of the version that is asked for, or of all."""
        found = self._find(request.model_spec, context)
        versions = [found.version] if request.model_spec.WhichOneof("version_choice") else self._models.versions
        response = get_model_status_pb2.GetModelStatusResponse()
        for version in versions:
            response.model_version_status.add(version=version, state=_AVAILABLE)
        return response


def _wanted(outputs: Mapping[str, object], chosen: Any) -> list[str]:
    for name in chosen:
        if name not in outputs:
            raise CvrError(f"output_filter names {name!r}; the signature gives {', '.join(sorted(outputs))}")
    return list(chosen) or sorted(outputs)


def _abort(context: grpc.ServicerContext, code: grpc.StatusCode, message: str) -> NoReturn:
    context.abort(code, message)
    raise AssertionError("abort raises")  # for type checkers; grpc's stubs do not say so
