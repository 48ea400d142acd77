"""Logs of Predict calls as TF Serving writes them: TFRecord files whose records are PredictionLog protos with a `predict_log`.

TF Serving's warm-up files, its request logging, our server's log and `export.replay` share this format.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from cvr.errors import CvrError
from export import tensors


class Call(NamedTuple):
    """One logged call; the response is None where the log holds none, as in a warm-up file."""

    request: predict_pb2.PredictRequest
    response: predict_pb2.PredictResponse | None = None


def predict_request(inputs: Mapping[str, np.ndarray], signature: str, model_name: str = "cvr") -> predict_pb2.PredictRequest:
    """Arrays as a request to a model's newest version."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model_name, signature
    for name, values in inputs.items():
        request.inputs[name].CopyFrom(tensors.encode(values))
    return request


class LogWriter:
    """Writes calls to a file, which it makes or overwrites. Usable from many threads; `close` it or use it in a `with`.

    The file is whole after `close` and, up to the last `flush`, after a crash.
    """

    def __init__(self, path: str | Path) -> None:
        """Opens the file. Raises CvrError where it cannot be written."""
        self._lock = threading.Lock()
        try:
            self._writer = tf.io.TFRecordWriter(str(path))
        except tf.errors.OpError as error:
            raise CvrError(f"cannot write the log {path}: {error.message}") from error

    def __enter__(self) -> LogWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def write(self, request: predict_pb2.PredictRequest, response: predict_pb2.PredictResponse | None = None) -> None:
        """Appends one call; the metadata name the version that answered, where there is a response."""
        log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request, response=response))
        log.log_metadata.model_spec.CopyFrom(request.model_spec if response is None else response.model_spec)
        with self._lock:
            self._writer.write(log.SerializeToString())

    def flush(self) -> None:
        """Hands what was written to the operating system."""
        with self._lock:
            self._writer.flush()

    def close(self) -> None:
        """Ends the file."""
        with self._lock:
            self._writer.close()


def read_log(path: str | Path) -> Iterator[Call]:
    """Predict calls of a file in order. Raises CvrError naming file and record where it is missing, damaged or of another kind."""
    if not Path(path).is_file():
        raise CvrError(f"no prediction log {path}; give a TFRecord file of PredictionLog records")
    records = iter(tf.data.TFRecordDataset(str(path)))
    number = 0
    while True:
        try:
            record = next(records)
        except StopIteration:
            return
        except tf.errors.OpError as error:
            raise CvrError(f"{path}: record {number} is damaged or cut ({error.message}); write the file again") from error
        yield _call(path, number, record.numpy())
        number += 1


def _call(path: str | Path, number: int, record: bytes) -> Call:
    log = prediction_log_pb2.PredictionLog()
    try:
        log.ParseFromString(record)
    except DecodeError as error:
        raise CvrError(f"{path}: record {number} is no PredictionLog ({error})") from error
    if log.WhichOneof("log_type") != "predict_log" or not log.predict_log.HasField("request"):
        kind = log.WhichOneof("log_type") or "nothing"
        raise CvrError(f"{path}: record {number} holds {kind}; only Predict requests (predict_log) are read")
    return Call(log.predict_log.request, log.predict_log.response if log.predict_log.HasField("response") else None)
