"""Devices in the graph as it was written, read from saved_model.pb and its function library."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2

from cvr.data import dummy_batch
from cvr.ranker import RankerConfig, build_ranker
from cvr.schema import parse_spec
from export.batching import Batching
from export.placement import pin_variables
from export.signatures import ServingModule
from tests.export.conftest import Exported
from tests.support import LEAN

CPU, GPU = "/device:CPU:0", "/device:GPU:0"
ANYWHERE = {"Identity", "NoOp", "PartitionedCall", "StatefulPartitionedCall"}
"""Passes values on or calls a function whose operations have devices of their own."""


class Written:
    """A saved_model.pb: its functions by name."""

    def __init__(self, folder: Path) -> None:
        self.graph = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs[0]
        self.functions = {function.signature.name: function for function in self.graph.graph_def.library.function}

    def entry(self, signature: str) -> Any:
        """The node that calls a signature's function."""
        (name, *_) = [info.name.partition(":")[0] for info in self.graph.signature_def[signature].outputs.values()]
        return next(node for node in self.graph.graph_def.node if node.name == name)

    def reached(self, node: Any, stop: str = "") -> Iterator[Any]:
        """All operations of the functions that a node calls, and of those that these call; not below operations of kind `stop`."""
        for attribute in node.attr.values():
            for func in [attribute.func, *attribute.list.func]:
                for inner in self.functions[func.name].node_def if func.name else ():
                    yield inner
                    if inner.op != stop:
                        yield from self.reached(inner, stop)


@pytest.fixture(scope="module")
def written(exported: Exported) -> Written:
    return Written(exported.version)


def _devices(nodes: list[Any]) -> set[str]:
    return {node.device for node in nodes if node.op not in ANYWHERE}


def _holds_text(node: Any) -> bool:
    listed = [kind for value in node.attr.values() for kind in (value.type, *value.list.type)]
    return types_pb2.DT_STRING in listed or node.op.startswith("String")


def test_preprocessing_is_on_the_cpu(written: Written) -> None:
    nodes = list(written.reached(written.entry("preprocess")))
    assert len(nodes) > 1000 and _devices(nodes) == {CPU}
    assert {"ResourceGather", "While"} <= {node.op for node in nodes} and any(_holds_text(node) for node in nodes)


@pytest.mark.parametrize("signature", ["serving_default", "score_lists"])
def test_only_the_batched_backbone_is_on_the_gpu(written: Written, signature: str) -> None:
    entry = written.entry(signature)
    outside = list(written.reached(entry, stop="BatchFunction"))
    assert _devices(outside) == {CPU} and not any(node.op == "MatMul" and node.device == GPU for node in outside)
    (batcher,) = [node for node in outside if node.op == "BatchFunction"]
    backbone = list(written.reached(batcher))
    assert _devices(backbone) == {GPU} and Counter(node.op for node in backbone)["MatMul"] > 5


def test_score_computes_on_the_gpu(written: Written) -> None:
    nodes = list(written.reached(written.entry("score")))
    assert {node.device for node in nodes if node.op in ("MatMul", "Softmax", "Relu", "BatchMatMulV2")} == {GPU}
    assert {node.device for node in nodes if node.op in ("Assert", "StridedSlice")} == {CPU} and "" not in _devices(nodes)


@pytest.mark.parametrize("signature", ["preprocess", "score", "serving_default", "score_lists", "limits"])
def test_no_text_on_the_gpu(written: Written, signature: str) -> None:
    nodes = list(written.reached(written.entry(signature)))
    assert not [node.name for node in nodes if _holds_text(node) and node.device != CPU and node.op not in ANYWHERE]


def test_variables_that_the_cpu_reads_are_pinned_to_it(written: Written, exported: Exported) -> None:
    """The others are left to the runtime, which prefers a GPU, and are read there."""
    devices = Counter(node.device for node in written.graph.graph_def.node if node.op == "VarHandleOp")
    backbone = [*exported.ranker.backbone.variables, *exported.ranker.head.variables, *exported.ranker.projection.variables]
    assert devices[""] == len(backbone) - 1  # without the context's kernel
    assert devices[CPU] == len(exported.ranker.variables) - devices[""]
    assert {node.device for node in written.reached(written.entry("score")) if node.op == "ReadVariableOp"} == {GPU}
    assert tf.saved_model.experimental.read_fingerprint(str(exported.version)).saved_model_checksum


class Both(tf.Module):
    """A table that is looked up on one device, a kernel that multiplies on the GPU, a variable that nothing reads."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.table, self.kernel = tf.Variable(tf.ones([5, 2]), name="table"), tf.Variable(tf.ones([2, 2]), name="kernel")
        self.unread = tf.Variable(1.0, name="unread")
        self._inner = tf.function(self._product)
        self._device = device

    def _product(self, x: tf.Tensor) -> tf.Tensor:
        with tf.device("/GPU:0"):
            return tf.matmul(x, self.kernel)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64)])
    def call(self, rows: tf.Tensor) -> dict[str, tf.Tensor]:
        """Looks up and multiplies."""
        with tf.device(self._device):
            found = tf.cond(tf.size(rows) > 1, lambda: tf.gather(self.table, rows), lambda: tf.gather(self.table, rows) + 1.0)
        return {"y": self._inner(found)}


@pytest.mark.parametrize("device", [CPU, GPU])
def test_pinning_follows_calls_and_branches(tmp_path: Path, device: str) -> None:
    module = Both(device)
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": module.call})
    found = {name.split("/")[-1]: where for name, where in pin_variables(tmp_path).items()}
    assert found == {"table": device, "kernel": GPU, "unread": CPU}
    answer = tf.saved_model.load(str(tmp_path)).signatures["serving_default"](rows=tf.constant([1, 2], tf.int64))["y"]
    assert answer.numpy().tolist() == [[2.0, 2.0], [2.0, 2.0]]


def test_tables_on_the_gpu() -> None:
    spec = parse_spec(LEAN)
    ranker = build_ranker(spec, RankerConfig("dcnv2", {"cross_width": 4, "deep_width": 4, "cross_layers": 1}), dummy_batch(spec))
    module = ServingModule(spec, ranker, Batching(), tables="gpu")
    graph = module.signatures()["preprocess"].graph.as_graph_def()
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    gathers = [node.device for node in nodes if node.op == "ResourceGather"]
    assert len(gathers) == len(ranker.extraction.table_variables) and set(gathers) == {GPU}
    assert not [node.name for node in nodes if _holds_text(node) and node.device == GPU]
