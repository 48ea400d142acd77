"""TensorProto <-> numpy for gRPC, checked: a small request cannot make us allocate much more than it sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from cvr.errors import CvrError

MAX_FILL = 1_000_000
"""Most values that one value may stand for (TensorProto's short form)."""


class _Kind(NamedTuple):
    """How values of a type travel: the field for values one by one, and their bytes in `tensor_content` (None for strings)."""

    field: str
    array: Any
    little_endian: np.dtype[Any] | None


_KINDS = {
    types_pb2.DT_FLOAT: _Kind("float_val", np.float32, np.dtype("<f4")),
    types_pb2.DT_DOUBLE: _Kind("double_val", np.float64, np.dtype("<f8")),
    types_pb2.DT_INT32: _Kind("int_val", np.int32, np.dtype("<i4")),
    types_pb2.DT_INT64: _Kind("int64_val", np.int64, np.dtype("<i8")),
    types_pb2.DT_BOOL: _Kind("bool_val", np.bool_, np.dtype("?")),
    types_pb2.DT_STRING: _Kind("string_val", object, None),
}
_ENUMS = {np.dtype(kind.array): enum for enum, kind in _KINDS.items() if enum != types_pb2.DT_STRING}


def encode(values: np.ndarray) -> tensor_pb2.TensorProto:
    """Numbers go as raw bytes in `tensor_content` (MEASUREMENTS section 5), strings one by one as the format demands."""
    proto = tensor_pb2.TensorProto()
    fill(proto, values)
    return proto


def fill(proto: tensor_pb2.TensorProto, values: np.ndarray) -> None:
    """Like `encode`, into an empty proto."""
    for size in values.shape:
        proto.tensor_shape.dim.add(size=size)
    if values.dtype.kind in "OSU":
        proto.dtype = types_pb2.DT_STRING
        proto.string_val.extend(tf.compat.as_bytes(value) for value in values.ravel())
    else:
        proto.dtype = _ENUMS.get(values.dtype) or tf.as_dtype(values.dtype).as_datatype_enum
        proto.tensor_content = values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def decode(name: str, proto: tensor_pb2.TensorProto, dtype: tf.DType, shape: tuple[int | None, ...]) -> np.ndarray:
    """The values of input `name`. Raises CvrError naming it when type, shape or number of values is not what the signature takes."""
    if proto.dtype != dtype.as_datatype_enum:
        raise CvrError(f"input {name!r} must be {dtype.name}, and is {_type_name(proto.dtype)}")
    sizes = [dim.size for dim in proto.tensor_shape.dim]
    if len(sizes) != len(shape) or proto.tensor_shape.unknown_rank or not all(map(_fits, sizes, shape)):
        raise CvrError(f"input {name!r} must have shape {shape_text(shape)}, and has {sizes}")
    return _values(name, proto, sizes)


def decode_any(proto: tensor_pb2.TensorProto) -> np.ndarray:
    """The values of a server's answer, whatever its type and shape."""
    return _values("answer", proto, [dim.size for dim in proto.tensor_shape.dim])


def shape_text(shape: Sequence[int | None]) -> str:
    """[n, 3] where the first size may be any."""
    return "[" + ", ".join("n" if size is None else str(size) for size in shape) + "]"


def _fits(have: int, want: int | None) -> bool:
    return have == want if want is not None else have >= 0


def _type_name(number: int) -> str:
    known = number in types_pb2.DataType.values()
    return types_pb2.DataType.Name(number).removeprefix("DT_").lower() if known else f"type number {number}"


def _values(name: str, proto: tensor_pb2.TensorProto, sizes: list[int]) -> np.ndarray:
    kind = _KINDS.get(proto.dtype)
    if kind is None:
        raise CvrError(f"input {name!r} has values of {_type_name(proto.dtype)}, which no signature takes or gives")
    count = 1
    for size in sizes:
        if not 0 <= size < 2**31:
            raise CvrError(f"input {name!r} has shape {sizes}, which is more than fits into a request")
        count *= size
    content = proto.tensor_content if kind.little_endian is not None else b""
    if content:
        needed = count * kind.little_endian.itemsize  # type: ignore[union-attr]
        if len(content) != needed:
            raise CvrError(f"input {name!r} has shape {sizes} and needs {needed} bytes of tensor_content, not {len(content)}")
        return np.frombuffer(content, kind.little_endian).reshape(sizes)
    values: Sequence[Any] = getattr(proto, kind.field)
    if len(values) == 1 and 1 < count <= MAX_FILL:
        return np.full(sizes, values[0], kind.array)
    if len(values) != count:
        raise CvrError(f"input {name!r} has shape {sizes} and needs {count} values, not {len(values)}")
    return np.array(values, kind.array).reshape(sizes)
