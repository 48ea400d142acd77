from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, predict_pb2, prediction_log_pb2

from cvr.errors import CvrError
from export import tensors
from export.prediction_log import LogWriter, predict_request, read_log
from export.servable import Servable
from export.warmup import read_requests, spread, warmup_requests, write_requests
from tests.export.conftest import Exported


def test_spread_takes_quantiles() -> None:
    assert spread([9, 1, 5, 5, 5, 5, 5, 5, 2], 3) == [1, 5, 9]
    assert spread([4], 20) == [4] and spread([3, 3, 3], 5) == [3]


def test_written_requests_are_read_back_and_answered(exported: Exported, servable: Servable, tmp_path: Path) -> None:
    requests = warmup_requests(exported.run.spec, servable, [1, 7], exported.records[:2])
    write_requests(tmp_path / "warm", requests)
    found = read_requests(tmp_path / "warm")
    raw = ("serving_default", "preprocess", "score")
    assert [request.model_spec.signature_name for request in found] == [*raw, *raw, "score_lists", "score_lists"]
    assert [request.inputs["item_id"].tensor_shape.dim[0].size for request in found if "item_id" in request.inputs] == [1, 1, 7, 7]
    answers = [servable.run_protos(request.model_spec.signature_name, request.inputs) for request in found]
    np.testing.assert_allclose(answers[3]["score"], answers[5]["score"], atol=1e-6)


def test_more_than_tf_serving_takes_is_refused(tmp_path: Path) -> None:
    request = predict_request({"x": np.zeros(1, np.float32)}, "score")
    for count in (0, 1001):
        with pytest.raises(CvrError, match=f"warm: a warm-up file holds 1 to 1000 requests, not {count}"):
            write_requests(tmp_path / "warm", [request] * count)


def test_a_log_keeps_responses_and_the_version_that_answered(tmp_path: Path) -> None:
    request = predict_request({"x": np.array([1.5, np.nan], np.float32), "s": np.array(["é", b"\xff"], object)}, "score")
    response = predict_pb2.PredictResponse()
    response.model_spec.version.value = 7
    with LogWriter(tmp_path / "log") as log:
        log.write(request, response)
        log.write(request)
    first, second = read_log(tmp_path / "log")
    assert first.response == response and second.response is None and first.request == second.request == request
    np.testing.assert_array_equal(tensors.decode_any(first.request.inputs["x"]), np.array([1.5, np.nan], np.float32))
    (raw, _) = tf.data.TFRecordDataset(str(tmp_path / "log"))
    assert prediction_log_pb2.PredictionLog.FromString(raw.numpy()).log_metadata.model_spec.version.value == 7


def test_files_that_are_no_log(tmp_path: Path) -> None:
    with pytest.raises(CvrError, match="no prediction log .*absent"):
        list(read_log(tmp_path / "absent"))
    with tf.io.TFRecordWriter(str(tmp_path / "other")) as writer:
        log = prediction_log_pb2.PredictionLog()
        log.classify_log.request.CopyFrom(classification_pb2.ClassificationRequest())
        writer.write(log.SerializeToString())
    with pytest.raises(CvrError, match="record 0 holds classify_log"):
        list(read_log(tmp_path / "other"))
    with tf.io.TFRecordWriter(str(tmp_path / "bytes")) as writer:
        writer.write(b"\xff\xff")
    with pytest.raises(CvrError, match="record 0 is no PredictionLog"):
        list(read_log(tmp_path / "bytes"))
    with LogWriter(tmp_path / "cut") as log:
        log.write(predict_request({"x": np.zeros(9, np.float32)}, "score"))
    (tmp_path / "cut").write_bytes((tmp_path / "cut").read_bytes()[:-3])
    with pytest.raises(CvrError, match="record 0 is damaged or cut"):
        list(read_log(tmp_path / "cut"))
