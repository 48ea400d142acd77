"""A stand-in for tensorflow_model_server's request path, made from what its sources say it does: a session of the TensorFlow runtime, names
and types looked at first and shapes left to the graph, its status codes, numbers in repeated fields instead of bytes."""

from __future__ import annotations

from typing import Any

import grpc
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

from export.servable import Servable
from tests.export.proxies import Proxy

Code = grpc.StatusCode
_FIELDS = {tf.float32: "float_val", tf.int32: "int_val"}
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class _RefusedError(Exception):
    """A status to answer with."""


class TfServing(Proxy):
    """Serves one version of a model, which it forwards to nobody."""

    def __init__(self, servable: Servable, labels: dict[str, int] | None = None) -> None:
        super().__init__("127.0.0.1:1")
        self._servable, self._labels = servable, labels or {}

    def _forward(self, method: str, request: Any, context: grpc.ServicerContext) -> Any:
        try:
            self._find(request.model_spec, by_label=method != "GetModelStatus")
            return {"Predict": self._predict, "GetModelMetadata": self._metadata, "GetModelStatus": self._status}[method](request)
        except _RefusedError as refused:
            context.abort(*refused.args)
        except tf.errors.OpError as error:
            context.abort(_CODES[error.error_code], error.message)

    def _find(self, spec: Any, by_label: bool) -> None:
        label = spec.version_label if by_label else ""
        if label and label not in self._labels:
            raise _RefusedError(Code.INVALID_ARGUMENT, f"Unrecognized servable version label: {label}")
        version = self._labels[label] if label else spec.version.value if spec.HasField("version") else self._servable.version
        if spec.name != "cvr" or version != self._servable.version:
            raise _RefusedError(Code.NOT_FOUND, f"Servable not found for request: {spec.name} {version}")

    def _predict(self, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
        name = request.model_spec.signature_name or "serving_default"
        if name not in self._servable.signature_defs:
            raise _RefusedError(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
        signature = self._servable._find(name)
        if len(request.inputs) != len(signature.inputs):
            raise _RefusedError(Code.INVALID_ARGUMENT, "input size does not match signature")
        for alias in [*request.inputs, *request.output_filter]:
            if alias not in signature.inputs and alias not in signature.outputs:
                raise _RefusedError(Code.INVALID_ARGUMENT, f"tensor alias not found in signature: {alias}")
        outputs = dict(zip(signature.outputs, signature.call(*(_parsed(request.inputs[n], n) for n in signature.inputs)), strict=True))
        response = predict_pb2.PredictResponse()
        response.model_spec.name, response.model_spec.signature_name = "cvr", name
        response.model_spec.version.value = self._servable.version
        for alias in request.output_filter or outputs:
            response.outputs[alias].CopyFrom(_as_fields(tf.make_tensor_proto(outputs[alias])))
        return response

    def _metadata(self, request: Any) -> Any:
        if list(request.metadata_field) != ["signature_def"]:
            raise _RefusedError(Code.INVALID_ARGUMENT, "Metadata field is not supported")
        answer = get_model_metadata_pb2.GetModelMetadataResponse()
        answer.model_spec.name = "cvr"
        answer.model_spec.version.value = self._servable.version
        found = get_model_metadata_pb2.SignatureDefMap(signature_def=self._servable.signature_defs)
        answer.metadata["signature_def"].Pack(found)
        return answer

    def _status(self, request: Any) -> Any:
        del request
        answer = get_model_status_pb2.GetModelStatusResponse()
        answer.model_version_status.add(version=self._servable.version, state=get_model_status_pb2.ModelVersionStatus.AVAILABLE)
        return answer


def _parsed(proto: tensor_pb2.TensorProto, alias: str) -> Any:
    """By the runtime's own Tensor::FromProto."""
    try:
        return tf.io.parse_tensor(proto.SerializeToString(), tf.as_dtype(proto.dtype)).numpy()
    except (tf.errors.OpError, TypeError, ValueError) as error:
        raise _RefusedError(Code.INVALID_ARGUMENT, f"tensor parsing error: {alias}") from error


def _as_fields(proto: tensor_pb2.TensorProto) -> tensor_pb2.TensorProto:
    dtype = tf.as_dtype(proto.dtype)
    if dtype in _FIELDS and proto.tensor_content:
        getattr(proto, _FIELDS[dtype]).extend(tf.make_ndarray(proto).ravel().tolist())
        proto.ClearField("tensor_content")
    return proto
