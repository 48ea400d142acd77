"""Broken Predict requests, made from whole ones by one or several faults that a client or the way to the server could add."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import predict_pb2

Request = Any  # predict_pb2.PredictRequest, which mypy does not follow
_SIZES = (-1, 0, 1, 2, 3, 2**20, 2**31 - 1, 2**31, 2**62, -(2**63))
_NUMBERS = (float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 3.4e38, 1e-45, -1.0)
_FIELDS = ("float_val", "double_val", "int_val", "int64_val", "bool_val")


def broken(source: random.Random, whole: Sequence[Request]) -> tuple[bytes, str]:
    """The bytes of a broken request, and the name of its one broken input: a refusal must name it. Empty where there is no such input."""
    request = predict_pb2.PredictRequest()
    request.CopyFrom(source.choice(whole))
    chance = source.random()
    if chance < 0.25:
        return _damage(source, request.SerializeToString()), ""
    if chance < 0.35:
        _misaddress(source, request)
        return request.SerializeToString(), ""
    if chance < 0.45:
        return _add_or_drop(source, request)
    name = source.choice(sorted(request.inputs))
    source.choice(_FAULTS)(source, request.inputs[name])
    if chance > 0.85:
        source.choice(_FAULTS)(source, request.inputs[source.choice(sorted(request.inputs))])
        name = ""
    return request.SerializeToString(), name


def _damage(source: random.Random, data: bytes) -> bytes:
    way, place = source.randrange(4), source.randrange(len(data))
    if way == 0:
        return data[:place]
    if way == 1:
        return source.randbytes(source.randrange(200))
    if way == 2:
        return data[:place] + source.randbytes(source.randrange(1, 9)) + data[place:]
    flipped = bytearray(data)
    for _ in range(source.randrange(1, 9)):
        flipped[source.randrange(len(flipped))] ^= 1 << source.randrange(8)
    return bytes(flipped)


def _misaddress(source: random.Random, request: Request) -> None:
    spec, text = request.model_spec, source.choice(("", "ö", "a" * 10_000, "../../etc/passwd", "\x00"))
    way = source.randrange(5)
    if way == 0:
        spec.name = text
    elif way == 1:
        spec.version.value = source.choice((-1, 0, 2**63 - 1))
    elif way == 2:
        spec.version_label = text
    elif way == 3:
        spec.signature_name = text or "__saved_model_init_op"
    else:
        request.output_filter.append(text)


def _add_or_drop(source: random.Random, request: Request) -> tuple[bytes, str]:
    name = source.choice(sorted(request.inputs))
    if source.random() < 0.5:
        del request.inputs[name]
        return request.SerializeToString(), name
    added = source.choice(("", "x", name + " ", name.upper() + "!", "a" * 10_000))
    request.inputs[added].CopyFrom(request.inputs[name])
    return request.SerializeToString(), ""


def _retype(source: random.Random, proto: tensor_pb2.TensorProto) -> None:
    proto.dtype = source.choice([*types_pb2.DataType.values(), 9999, -1])


def _resize(source: random.Random, proto: tensor_pb2.TensorProto) -> None:
    way, dims = source.randrange(4), proto.tensor_shape.dim
    if way == 0 and dims:
        source.choice(dims).size = source.choice(_SIZES)
    elif way == 1 and dims:
        del dims[:]
    elif way == 2:
        proto.tensor_shape.unknown_rank = True
    else:
        dims.add(size=source.choice(_SIZES))


def _recount(source: random.Random, proto: tensor_pb2.TensorProto) -> None:
    if proto.string_val:
        proto.string_val.extend([b"more"]) if source.random() < 0.5 else proto.string_val.pop()
    elif source.random() < 0.5:
        proto.tensor_content = proto.tensor_content[: source.randrange(len(proto.tensor_content) + 1)]
    else:
        proto.tensor_content += source.randbytes(source.randrange(1, 9))


def _move_values(source: random.Random, proto: tensor_pb2.TensorProto) -> None:
    proto.tensor_content = b""
    del proto.string_val[:]
    getattr(proto, source.choice(_FIELDS)).extend([1] * source.randrange(4))


def _odd_values(source: random.Random, proto: tensor_pb2.TensorProto) -> None:
    for place in range(len(proto.string_val)):
        proto.string_val[place] = source.randbytes(source.choice((0, 1, 7, 5000)))
    if proto.dtype == types_pb2.DT_FLOAT:
        count = len(proto.tensor_content) // 4
        proto.tensor_content = b""
        proto.float_val.extend(source.choice(_NUMBERS) for _ in range(count))


def _random_content(source: random.Random, proto: tensor_pb2.TensorProto) -> None:
    proto.tensor_content = source.randbytes(len(proto.tensor_content) or 8)


_FAULTS: tuple[Callable[[random.Random, tensor_pb2.TensorProto], None], ...] = (
    _retype,
    _resize,
    _recount,
    _move_values,
    _odd_values,
    _random_content,
)
