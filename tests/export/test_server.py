"""The server as a stranger sees it, through the stock tensorflow-serving-api stubs and TensorFlow's own TensorProtos."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from cvr.errors import CvrError
from export.checks import Subject
from export.example import example_search
from export.request import to_arrays
from export.servable import Servable
from export.server import Server, load_models
from export.services import Models
from tests.export.conftest import Exported

NOT_FOUND, INVALID = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture
def channel(target: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(target) as opened:
        yield opened


@pytest.fixture
def arrays(exported: Exported, servable: Servable) -> dict[str, np.ndarray]:
    return to_arrays(example_search(exported.run.spec, items=7, gaps=0.1), servable.inputs("serving_default"))


def _predict(channel: grpc.Channel, arrays: dict[str, Any], **spec: Any) -> predict_pb2.PredictResponse:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = spec.pop("name", "cvr")
    request.output_filter.extend(spec.pop("output_filter", []))
    if "version" in spec:
        request.model_spec.version.value = spec.pop("version")
    for key, value in spec.items():
        setattr(request.model_spec, key, value)
    for name, values in arrays.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    return prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=60)


def _refused(channel: grpc.Channel, arrays: dict[str, Any], **spec: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as error:
        _predict(channel, arrays, **spec)
    return error.value.code(), error.value.details()


def test_stock_client_gets_the_checkpoints_scores(channel: grpc.Channel, arrays: dict[str, Any], subject: Subject) -> None:
    answer = _predict(channel, arrays)
    assert answer.model_spec.name == "cvr" and answer.model_spec.version.value == 3
    expected = subject.of_request(arrays)
    for column, task in enumerate(("purchase", "click")):
        np.testing.assert_allclose(tf.make_ndarray(answer.outputs[task]), expected[:, column], atol=1e-5)
    np.testing.assert_array_equal(tf.make_ndarray(answer.outputs["score"]), tf.make_ndarray(answer.outputs["purchase"]))


def test_version_pin_and_output_filter(channel: grpc.Channel, arrays: dict[str, Any]) -> None:
    assert set(_predict(channel, arrays, version=3, output_filter=["click"]).outputs) == {"click"}


@pytest.mark.parametrize(
    ("spec", "code", "message"),
    [
        ({"name": "other"}, NOT_FOUND, "no model 'other'"),
        ({"version": 2}, NOT_FOUND, "no version 2 of model 'cvr'; there is 3"),
        ({"version_label": "canary"}, NOT_FOUND, "no version label 'canary'"),
        ({"signature_name": "classify"}, NOT_FOUND, "no signature 'classify'"),
        ({"output_filter": ["ctr"]}, INVALID, "output_filter names 'ctr'"),
    ],
)
def test_what_is_not_there(
    channel: grpc.Channel, arrays: dict[str, Any], spec: dict[str, Any], code: grpc.StatusCode, message: str
) -> None:
    found, details = _refused(channel, arrays, **spec)
    assert found == code and message in details


def test_inputs_that_do_not_fit_are_named(channel: grpc.Channel, arrays: dict[str, Any]) -> None:
    cases = {
        "input 'price' is missing": {name: values for name, values in arrays.items() if name != "price"},
        "input 'colour' is not an input": {**arrays, "colour": np.float32([1.0])},
        "input 'price' must be float32, and is string": {**arrays, "price": np.array([b"x"] * 7)},
        "input 'price' must have shape [n], and has [7, 1]": {**arrays, "price": arrays["price"][:, None]},
        "input 'hour' must have shape [1], and has [2]": {**arrays, "hour": np.float32([1.0, 2.0])},
        "as input item_id but have not: price": {**arrays, "price": arrays["price"][:3]},
        "as input recent.item_id but have not: recent.age": {**arrays, "recent.age": np.zeros(9, np.float32)},
    }
    for message, request in cases.items():
        code, details = _refused(channel, request)
        assert code == INVALID and message in details, details


def test_empty_list_and_foreign_records(channel: grpc.Channel, arrays: dict[str, Any]) -> None:
    by_item = ("item_id", "item_offset", "price", "rate", "tags", "title")
    code, details = _refused(channel, {**arrays, **{name: arrays[name][:0] for name in by_item}})
    assert code == INVALID and "item_id holds no item" in details
    code, details = _refused(channel, {"examples": np.array([b"no record"])}, signature_name="score_lists")
    assert code == INVALID and "Could not parse example" in details and "Graph execution error" not in details
    code, details = _refused(channel, {"examples": np.array([b""])}, signature_name="score_lists")
    assert code == INVALID and "built with another feature spec" in details


def test_values_that_are_odd_but_right(channel: grpc.Channel, arrays: dict[str, Any]) -> None:
    titles = [b"\xff\xfe", b"", b"\x00", b"x" * 5000, "Ä ß".encode(), b"a", b"\n"]
    odd = {**arrays, "title": np.array(titles), "price": np.full(7, 3e38, "f4")}
    assert np.isfinite(tf.make_ndarray(_predict(channel, odd).outputs["score"])).all()


def test_a_long_list(channel: grpc.Channel, exported: Exported, servable: Servable, subject: Subject) -> None:
    arrays = to_arrays(example_search(exported.run.spec, items=1000), servable.inputs("serving_default"))
    scores = tf.make_ndarray(_predict(channel, arrays).outputs["score"])
    np.testing.assert_allclose(scores, subject.of_request(arrays)[:, 0], atol=1e-5)


def test_a_list_that_is_too_long(channel: grpc.Channel, exported: Exported, servable: Servable) -> None:
    arrays = to_arrays(example_search(exported.run.spec, items=2001), servable.inputs("serving_default"))
    code, details = _refused(channel, arrays)
    assert code == INVALID and "item_id holds more items than the 2000" in details


def test_metadata(channel: grpc.Channel, servable: Servable) -> None:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "cvr"
    answer = stub.GetModelMetadata(request)
    found = get_model_metadata_pb2.SignatureDefMap()
    answer.metadata["signature_def"].Unpack(found)
    assert set(found.signature_def) == set(servable.signature_defs) and answer.model_spec.version.value == 3
    for fields in ([], ["weights"]):
        request.metadata_field[:] = fields
        with pytest.raises(grpc.RpcError) as refused:
            stub.GetModelMetadata(request)
        assert refused.value.code() == INVALID and "signature_def" in refused.value.details()


def test_status(channel: grpc.Channel) -> None:
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "cvr"
    states = stub.GetModelStatus(request).model_version_status
    assert [(entry.version, entry.state) for entry in states] == [(3, get_model_status_pb2.ModelVersionStatus.AVAILABLE)]
    request.model_spec.version.value = 4
    with pytest.raises(grpc.RpcError) as refused:
        stub.GetModelStatus(request)
    assert refused.value.code() == NOT_FOUND


def test_port_in_use(servable: Servable, target: str) -> None:
    with pytest.raises(CvrError, match=f"cannot listen on {target}: the port is in use"):
        Server(Models("cvr", {3: servable}), target)


def test_models_serve_the_newest_version(servable: Servable, exported: Exported, tmp_path: Any) -> None:
    newer = Servable(exported.version)
    models = Models("cvr", {3: servable, 12: newer})
    spec = predict_pb2.PredictRequest().model_spec
    spec.name = "cvr"
    assert models.versions == [3, 12] and models.find(spec) is newer
    spec.version.value = 3
    assert models.find(spec) is servable
    with pytest.raises(CvrError, match="no model version under"):
        load_models(str(tmp_path), "cvr")


def test_version_that_cannot_rank_its_own_example(exported: Exported, tmp_path: Any) -> None:
    copy = shutil.copytree(exported.version, tmp_path / "7")
    (copy / "assets.extra" / "example_request.json").write_text('{"items": [{"item_id": "a", "colour": 1}]}', encoding="utf-8")
    with pytest.raises(CvrError, match="cannot rank its own"):
        load_models(str(tmp_path), "cvr")
    (copy / "assets.extra" / "example_request.json").unlink()
    assert load_models(str(tmp_path), "cvr").versions == [7]
