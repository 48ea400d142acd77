"""TensorProto <-> numpy for gRPC, checked: a small request cannot make us allocate much more than it sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from cvr.errors import CvrError

MAX_FILL = 1_000_000
"""Most values that one value may stand for (TensorProto's short form)."""
_VALUE_FIELDS = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.int32: "int_val",
    tf.int64: "int64_val",
    tf.string: "string_val",
    tf.bool: "bool_val",
}


def encode(values: np.ndarray) -> tensor_pb2.TensorProto:
    """Numbers go as raw bytes in `tensor_content` (MEASUREMENTS section 5), strings one by one as the format demands."""
    proto = tensor_pb2.TensorProto(dtype=tf.as_dtype(values.dtype if values.dtype.kind not in "OSU" else tf.string).as_datatype_enum)
    for size in values.shape:
        proto.tensor_shape.dim.add(size=size)
    if values.dtype.kind in "OSU":
        proto.string_val.extend(tf.compat.as_bytes(value) for value in values.ravel())
    else:
        proto.tensor_content = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    return proto


def decode(name: str, proto: tensor_pb2.TensorProto, dtype: tf.DType, shape: tuple[int | None, ...]) -> np.ndarray:
    """The values of input `name`. Raises CvrError naming it when type, shape or number of values is not what the signature takes."""
    if proto.dtype != dtype.as_datatype_enum:
        known = proto.dtype in types_pb2.DataType.values()
        got = types_pb2.DataType.Name(proto.dtype) if known else f"type number {proto.dtype}"
        raise CvrError(f"input {name!r} must be {dtype.name}, and is {got.removeprefix('DT_').lower()}")
    sizes = [dim.size for dim in proto.tensor_shape.dim]
    expected = "[" + ", ".join("n" if size is None else str(size) for size in shape) + "]"
    fits = len(sizes) == len(shape) and all(have >= 0 and want in (None, have) for have, want in zip(sizes, shape, strict=True))
    if proto.tensor_shape.unknown_rank or not fits:
        raise CvrError(f"input {name!r} must have shape {expected}, and has {sizes}")
    return _values(name, proto, dtype, sizes)


def decode_any(proto: tensor_pb2.TensorProto) -> np.ndarray:
    """The values of a server's answer, whatever its type and shape."""
    sizes = [dim.size for dim in proto.tensor_shape.dim]
    return _values("answer", proto, tf.as_dtype(proto.dtype), sizes)


def _values(name: str, proto: tensor_pb2.TensorProto, dtype: tf.DType, sizes: list[int]) -> np.ndarray:
    count = 1
    for size in sizes:
        count *= size
    if max(sizes, default=0) >= 2**31:
        raise CvrError(f"input {name!r} has shape {sizes}, which is more than fits into a request")
    if proto.tensor_content and dtype != tf.string:
        numbers = np.frombuffer(proto.tensor_content, np.uint8)
        width = dtype.as_numpy_dtype().itemsize
        if numbers.size != count * width:
            raise CvrError(f"input {name!r} has shape {sizes} and needs {count * width} bytes of tensor_content, not {numbers.size}")
        return numbers.view(np.dtype(dtype.as_numpy_dtype).newbyteorder("<")).reshape(sizes)
    field = _VALUE_FIELDS.get(dtype)
    values: Sequence[Any] = getattr(proto, field) if field else ()
    if len(values) == 1 and 1 < count <= MAX_FILL:
        return np.full(sizes, values[0], object if dtype == tf.string else dtype.as_numpy_dtype)
    if len(values) != count:
        raise CvrError(f"input {name!r} has shape {sizes} and needs {count} values, not {len(values)}")
    return np.array(values, object if dtype == tf.string else dtype.as_numpy_dtype).reshape(sizes)
