"""What a request that gets no answer is told: a gRPC status and a message."""

from __future__ import annotations

import grpc
import tensorflow as tf
from absl import logging

from cvr.errors import CvrError
from export.servable import UnknownSignatureError, graph_message

MOST_CHARACTERS = 2_000
"""Longest message: gRPC carries it in a header, and clients refuse headers of more than 8 KiB."""
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class RefusedError(Exception):
    """A request that is not answered; `code` is its gRPC status."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message if len(message) <= MOST_CHARACTERS else message[:MOST_CHARACTERS] + " ..."


def refusal(error: Exception) -> RefusedError:
    """The status of an error: what the request did wrong is INVALID_ARGUMENT or NOT_FOUND, a defect of ours INTERNAL and in the log."""
    if isinstance(error, RefusedError):
        return error
    if isinstance(error, LookupError) and type(error) is LookupError:
        return RefusedError(grpc.StatusCode.NOT_FOUND, str(error.args[0]))
    if isinstance(error, UnknownSignatureError):
        return RefusedError(grpc.StatusCode.NOT_FOUND, str(error))
    if isinstance(error, CvrError):
        return RefusedError(grpc.StatusCode.INVALID_ARGUMENT, str(error))
    if isinstance(error, tf.errors.OpError):
        return RefusedError(_CODES.get(error.error_code, grpc.StatusCode.INTERNAL), graph_message(error))
    logging.exception("a request failed for a reason that is no fault of its own")
    return RefusedError(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")
