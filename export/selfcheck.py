"""Whether a version still answers as it did when it was exported: requests with the scores it gave then, inside the version.

A server asks before it takes a version: a file that was damaged or left out on the way, or a runtime that computes something else, shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from cvr.errors import CvrError
from export import tensors
from export.extras import EXTRA, PARITY_FILE, about
from export.prediction_log import LogWriter, read_log
from export.servable import DEFAULT_SIGNATURE, Servable, graph_message

TOLERANCE = 1e-4
"""Largest difference, relative above 1, of an output in float32: ten times the parity gate's: other processors add otherwise."""


def write_expected(path: Path, servable: Servable, requests: Sequence[predict_pb2.PredictRequest]) -> None:
    """Writes requests with what the version answers now."""
    with LogWriter(path) as log:
        for request in requests:
            outputs = servable.run_protos(request.model_spec.signature_name or DEFAULT_SIGNATURE, request.inputs)
            response = predict_pb2.PredictResponse(model_spec=request.model_spec)
            for name, values in outputs.items():
                response.outputs[name].CopyFrom(tensors.encode(values))
            log.write(request, response)


def check(servable: Servable) -> None:
    """Compares a loaded version's answers with those stored in it; `parity.selfcheck_tolerance` of its model.json is the limit.

    Raises CvrError naming the largest difference, its output and request, or what is missing or damaged.
    """
    path = servable.folder / EXTRA / PARITY_FILE
    if not path.is_file():
        raise CvrError(f"no {EXTRA}/{PARITY_FILE} in {servable.folder}: copied in part or by an older export.save; export the run again")
    limit = float(about(servable.folder)["parity"]["selfcheck_tolerance"])
    worst, where, compared = 0.0, "", 0
    for number, (request, response) in enumerate(read_log(path)):
        if response is None:
            raise CvrError(f"{path}: record {number} has no response; export the run again")
        for name, gap in _gaps(servable, number, request, response).items():
            compared += 1
            if not gap <= worst:
                worst, where = gap, f"output {name!r} of request {number} ({request.model_spec.signature_name})"
    if not compared:
        raise CvrError(f"{path} holds no request; export the run again")
    if not worst <= limit:
        raise CvrError(
            f"{servable.folder} does not answer as it did when it was exported: the largest difference is {worst:.3g}, "
            f"of {where}; at most {limit:.0e} is allowed. Keep the version before and export the run again"
        )


def _gaps(
    servable: Servable, number: int, request: predict_pb2.PredictRequest, response: predict_pb2.PredictResponse
) -> dict[str, float]:
    try:
        found = servable.run_protos(request.model_spec.signature_name or DEFAULT_SIGNATURE, request.inputs)
    except tf.errors.OpError as error:
        raise CvrError(f"{servable.folder} cannot answer request {number} of its {PARITY_FILE}: {graph_message(error)}") from error
    except CvrError as error:
        raise CvrError(f"{servable.folder} cannot answer request {number} of its {PARITY_FILE}: {error}") from error
    expected = {name: tensors.decode_any(proto) for name, proto in response.outputs.items()}
    if set(expected) != set(found):
        raise CvrError(f"{servable.folder} gives outputs {sorted(found)} for request {number} of its {PARITY_FILE}, not {sorted(expected)}")
    return {name: difference(found[name], values) for name, values in expected.items()}


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest |found - expected| / max(1, |expected|); infinite for another shape, unequal integers or text, or a number that is finite on
    one side only.

    Relative above 1, since a float32 of some thousands is 5e-4 from the next one.
    """
    if found.shape != expected.shape:
        return float("inf")
    if expected.dtype.kind != "f":
        return 0.0 if (found == expected).all() else float("inf")
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    left, right = (np.where(same, 0.0, values.astype(np.float64)) for values in (found, expected))
    with np.errstate(invalid="ignore"):
        gaps = np.abs(left - right) / np.maximum(1.0, np.abs(right))
    return float(np.nan_to_num(gaps, nan=np.inf, posinf=np.inf).max(initial=0.0))
