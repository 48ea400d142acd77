"""Checks of GetModelMetadata and GetModelStatus."""

from __future__ import annotations

from typing import Any

import grpc
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

from export.conformance.check import Check, require
from export.conformance.compare import refused
from export.conformance.target import Answer, Target

NOT_FOUND, INVALID = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT
SIGNATURES = {"preprocess", "score", "serving_default", "score_lists"}
OTHER_VERSION = 987_654_321
"""A version that no server has."""


def _metadata(target: Target, fields: list[str], name: str | None = None) -> Answer:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = target.name if name is None else name
    return target.ask("GetModelMetadata", request)


def _status(target: Target, name: str, version: int | None = None) -> Answer:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name
    if version is not None:
        request.model_spec.version.value = version
    return target.ask("GetModelStatus", request)


def _signatures(target: Target) -> str:
    missing = SIGNATURES - set(target.signatures)
    require(not missing, f"no signature {sorted(missing)}; there are {sorted(target.signatures)}")
    answer = _metadata(target, ["signature_def"])
    spec = answer.response.model_spec
    require(spec.name == target.name and spec.HasField("version"), f"the answer names model {spec.name!r} and no version")
    for name in sorted(SIGNATURES):
        definition = target.signatures[name]
        require(definition.inputs and definition.outputs, f"signature {name!r} has no inputs or no outputs")
    return f"version {spec.version.value}: {', '.join(sorted(target.signatures))}"


def _available(target: Target) -> str:
    answer = _status(target, target.name)
    require(answer.code == grpc.StatusCode.OK, f"{answer.code.name}: {answer.details}")
    states: dict[int, Any] = {entry.version: entry.state for entry in answer.response.model_version_status}
    serving = _metadata(target, ["signature_def"]).response.model_spec.version.value
    available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    require(states.get(serving) == available, f"version {serving} answers requests, and the states are {states}")
    one = _status(target, target.name, serving)
    listed = [entry.version for entry in one.response.model_version_status] if one.response else one.details
    require(listed == [serving], f"asked for version {serving} alone, got {listed}")
    return f"version {serving} is AVAILABLE of {sorted(states)}"


CHECKS = (
    Check("metadata", "the signatures of export.save with inputs and outputs, and the version that answers", _signatures),
    Check("metadata_no_field", "INVALID_ARGUMENT for no metadata_field", lambda t: refused(_metadata(t, []), INVALID)),
    Check("metadata_field", "INVALID_ARGUMENT for a metadata_field but signature_def", lambda t: refused(_metadata(t, ["x"]), INVALID)),
    Check(
        "metadata_model",
        "NOT_FOUND for an unknown model",
        lambda t: refused(_metadata(t, ["signature_def"], f"{t.name}-unknown"), NOT_FOUND),
    ),
    Check("status", "the version that answers is AVAILABLE, and can be asked for alone", _available),
    Check("status_model", "NOT_FOUND for an unknown model", lambda t: refused(_status(t, f"{t.name}-unknown"), NOT_FOUND)),
    Check("status_version", "NOT_FOUND for an unknown version", lambda t: refused(_status(t, t.name, OTHER_VERSION), NOT_FOUND)),
)
