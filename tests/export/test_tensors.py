from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from cvr.errors import CvrError
from export.tensors import decode, decode_any, encode


@pytest.mark.parametrize(
    "values",
    [np.float32([[1.5, -2.0]]), np.int64([2**62, -1]), np.zeros((0, 3), np.float32), np.array(["ä", b"\xff", ""], object)],
)
def test_round_trip_agrees_with_tensorflow(values: np.ndarray) -> None:
    proto = encode(values)
    expected = tf.make_ndarray(proto)
    assert expected.shape == values.shape and decode_any(proto).tolist() == expected.tolist()
    stock = tf.make_tensor_proto(values if values.dtype != object else [tf.compat.as_bytes(v) for v in values])
    assert decode_any(stock).tolist() == expected.tolist()


def test_numbers_go_as_bytes() -> None:
    assert encode(np.float32([1.0, 2.0])).tensor_content and not encode(np.float32([1.0, 2.0])).float_val


def test_one_value_for_all() -> None:
    proto = tensor_pb2.TensorProto(dtype=1, float_val=[7.0])
    proto.tensor_shape.dim.add(size=3)
    assert decode("x", proto, tf.float32, (None,)).tolist() == [7.0, 7.0, 7.0]


def _broken(size: int, **fields: object) -> tensor_pb2.TensorProto:
    proto = tensor_pb2.TensorProto(**{"dtype": 1, **fields})
    proto.tensor_shape.dim.add(size=size)
    return proto


@pytest.mark.parametrize(
    ("proto", "message"),
    [
        (_broken(2, dtype=7, string_val=[b"a", b"b"]), "must be float32, and is string"),
        (_broken(2, dtype=9999, float_val=[1.0]), "must be float32, and is type number 9999"),
        (_broken(2, tensor_content=b"123"), "needs 8 bytes"),
        (_broken(2, float_val=[1.0, 2.0, 3.0]), "needs 2 values, not 3"),
        (_broken(2), "needs 2 values, not 0"),
        (_broken(-1, float_val=[1.0]), "must have shape"),
        (_broken(2**40, float_val=[1.0]), "more than fits"),
        (_broken(2**30, float_val=[1.0]), "needs 1073741824 values, not 1"),
        (tensor_pb2.TensorProto(dtype=1, float_val=[1.0]), r"must have shape \[n\], and has \[\]"),
    ],
)
def test_malformed_tensors_name_the_input(proto: tensor_pb2.TensorProto, message: str) -> None:
    with pytest.raises(CvrError, match=f"input 'price' .*{message}"):
        decode("price", proto, tf.float32, (None,))
