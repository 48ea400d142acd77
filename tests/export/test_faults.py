"""What may go wrong on the way to a server: broken requests, clients that leave, and a server that is killed."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from export.client import Client
from export.example import example_search
from export.prediction_log import predict_request
from export.request import to_arrays
from export.servable import Servable
from tests.conftest import ROOT
from tests.export.conftest import Exported
from tools.fuzz_requests import broken
from tools.fuzz_serving import METHOD, Fuzzer, whole_requests

FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None)
_FILES = ("Read", "Write", "Save", "Restore", "File", "Checkpoint", "PyFunc", "Summary", "Shard", "Iterator", "Dataset", "Print")


@pytest.fixture
def channel(target: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(target) as opened:
        yield opened


@pytest.fixture(scope="session")
def whole(servable: Servable) -> list[Any]:
    return whole_requests(servable, "cvr")


def test_broken_requests_are_refused_by_name(channel: grpc.Channel, whole: list[Any]) -> None:
    fuzzer = Fuzzer(channel, whole)
    fuzzer.run(400, seed=1)
    assert not fuzzer.wrong and fuzzer.answers["INVALID_ARGUMENT"] > 200 and fuzzer.answers.total() == 400


def test_a_wrong_answer_counts(whole: list[Any]) -> None:
    """The fuzzer's own check: a server that is not there, and one that refuses without a name."""
    with grpc.insecure_channel("127.0.0.1:1") as nobody:
        fuzzer = Fuzzer(nobody, whole, timeout=0.2)
        fuzzer.send(*broken(random.Random(0), whole))
    assert len(fuzzer.wrong) == 1 and fuzzer.answers.keys() <= {"UNAVAILABLE", "DEADLINE_EXCEEDED"}


@FUZZ
@given(data=st.binary(max_size=300))
def test_any_bytes(channel: grpc.Channel, whole: list[Any], data: bytes) -> None:
    fuzzer = Fuzzer(channel, whole)
    fuzzer.send(data, "")
    assert not fuzzer.wrong and fuzzer.answers["OK"] == 0


_TENSORS = st.builds(
    tensor_pb2.TensorProto,
    dtype=st.sampled_from([types_pb2.DT_FLOAT, types_pb2.DT_STRING, types_pb2.DT_INT32, types_pb2.DT_HALF, types_pb2.DT_INVALID]),
    tensor_content=st.binary(max_size=24),
    float_val=st.lists(st.floats(width=32), max_size=5),
    string_val=st.lists(st.binary(max_size=9), max_size=5),
    int_val=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=5),
)


@FUZZ
@given(data=st.data())
def test_any_tensor_in_place_of_an_input(channel: grpc.Channel, whole: list[Any], data: st.DataObject) -> None:
    request = predict_pb2.PredictRequest()
    request.CopyFrom(whole[data.draw(st.integers(0, len(whole) - 1))])
    name = data.draw(st.sampled_from(sorted(request.inputs)))
    tensor = data.draw(_TENSORS)
    for size in data.draw(st.lists(st.sampled_from([-1, 0, 1, 3, 2**40]), max_size=3)):
        tensor.tensor_shape.dim.add(size=size)
    request.inputs[name].CopyFrom(tensor)
    fuzzer = Fuzzer(channel, whole)
    fuzzer.send(request.SerializeToString(), name)
    assert not fuzzer.wrong


def _arrays(exported: Exported, servable: Servable, items: int) -> dict[str, np.ndarray]:
    return to_arrays(example_search(exported.run.spec, items), servable.inputs("serving_default"))


def test_nan_and_text_that_is_no_utf8_are_values(channel: grpc.Channel, exported: Exported, servable: Servable) -> None:
    arrays = _arrays(exported, servable, 3)
    arrays |= {"price": np.full(3, np.nan, np.float32), "item_id": np.array([b"\xc3"] * 3, object)}
    arrays["query"] = np.array([b"\xff\xfe\x00"], object)
    answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(predict_request(arrays, "serving_default"), timeout=60)
    assert np.isfinite(tf.make_ndarray(answer.outputs["score"])).all()


def test_ten_thousand_items_are_refused(channel: grpc.Channel, exported: Exported, servable: Servable) -> None:
    request = predict_request(_arrays(exported, servable, 10_000), "serving_default")
    with pytest.raises(grpc.RpcError) as refused:
        prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=60)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT and "input item_id holds more items than" in refused.value.details()


def test_clients_that_leave_midway(channel: grpc.Channel, target: str, whole: list[Any]) -> None:
    host, port = target.split(":")
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    for sent in (b"", b"GET / HTTP/1.1\r\n\r\n", preface, preface + bytes(9), preface + b"\x00\xff\xff\x01\x04\x00\x00\x00\x01cut"):
        with socket.create_connection((host, int(port))) as raw:
            raw.sendall(sent)
    call = channel.unary_unary(METHOD)
    for _ in range(10):
        call.future(whole[0].SerializeToString(), timeout=60).cancel()
    assert call(whole[0].SerializeToString(), timeout=60)


def _ops(model: saved_model_pb2.SavedModel) -> set[str]:
    """Every op that a call of a signature can reach, in the graph and in the functions that it calls."""
    (graph,) = model.meta_graphs
    functions = {function.signature.name: function for function in graph.graph_def.library.function}
    nodes = {node.name: node for node in graph.graph_def.node}
    ops, seen = set[str](), set[str]()
    wanted = [info.name.split(":")[0] for definition in graph.signature_def.values() for info in definition.outputs.values()]
    queue = [nodes[name] for name in wanted]
    while queue:
        node = queue.pop()
        ops.add(node.op)
        called = {node.op, *(f.name for value in node.attr.values() for f in (value.func, *value.list.func))}
        for name in called & functions.keys() - seen:
            queue += functions[name].node_def
        sources = {source.lstrip("^").split(":")[0] for source in node.input} & nodes.keys() if node in nodes.values() else set()
        queue += [nodes[name] for name in sources - seen]
        seen |= called | sources
    return ops


def test_no_op_of_a_signature_touches_files(exported: Exported) -> None:
    """Restoring variables is a function of the SavedModel that no signature calls."""
    data = (exported.version / "saved_model.pb").read_bytes()
    ops = _ops(saved_model_pb2.SavedModel.FromString(data))
    assert b"RestoreV2" in data
    assert {"BatchFunction", "ParseExampleV2", "MatMul", "StringSplitV2", "VarHandleOp"} <= ops
    assert not {op for op in ops - {"ReadVariableOp"} if any(part in op for part in _FILES)}


def _serve(base: Path, port: int) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "export.serve", f"--model_base_path={base}", f"--port={port}"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().split(" on ")[-1].split()[0]


def test_killed_started_again_on_the_same_port_and_ended_by_sigterm(exported: Exported) -> None:
    search = example_search(exported.run.spec)
    process, target = _serve(exported.base, 0)
    try:
        with Client(target, timeout=60.0) as client:
            assert len(client.rank(search.context, search.items, search.history)) == len(search.items)
            process.kill()
            process.wait()
            process, same = _serve(exported.base, int(target.split(":")[1]))
            assert same == target
        with Client(target, timeout=60.0) as client:
            assert len(client.rank(search.context, search.items, search.history)) == len(search.items)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0 and "stopping" in out
    finally:
        process.kill()
        process.wait()
