"""A cluster that is described wrongly, or of which a part is missing: errors that name it, and no waiting for ever."""

from __future__ import annotations

import json
import socket

import pytest
import tensorflow as tf

from cvr.cluster import Cluster, meet, read_cluster
from cvr.distribution import check_flags, check_ranker, make_placement, task_of
from cvr.errors import CvrError
from cvr.layers.sparse_per_token_ffn import SparsePerTokenFFN
from cvr.parameter_servers import serve
from cvr.runs import check_same, start_run
from tests.cvr.clusters import free_ports
from tests.cvr.jobs import message

TWO = {"worker": ["one:2222", "two:2222"]}
SERVED = {"chief": ["a:1"], "worker": ["b:1"], "ps": ["c:1", "d:1"]}


def _task(patch: pytest.MonkeyPatch, cluster: object, kind: object = "worker", index: object = 0) -> None:
    patch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}}))


def test_a_right_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    _task(monkeypatch, TWO, "worker", 1)
    cluster = task_of("multi_worker")
    assert cluster == Cluster({"worker": ("one:2222", "two:2222")}, "worker", 1)
    assert (cluster.address, cluster.is_chief, cluster.others()) == ("two:2222", False, {"worker 0": "one:2222"})
    _task(monkeypatch, {"chief": ["a:1"], "worker": ["b:1"]}, "chief", 0)
    chief = task_of("multi_worker")
    assert chief is not None and chief.is_chief and chief.trainers == ["a:1", "b:1"]
    assert task_of("none") is None and task_of("mirrored") is None


@pytest.mark.parametrize(
    ("cluster", "kind", "index", "expected"),
    [
        (TWO, "worker", 2, "this process is task 'worker' 2, but its cluster has worker 0..1"),
        (TWO, "chief", 0, "this process is task 'chief' 0"),
        (TWO, None, 0, "this process is task 'None' 0"),
        ({"worker": ["one"]}, "worker", 0, "'one' in TF_CONFIG is no host:port"),
        ({"worker": ["a:1", "a:1"]}, "worker", 0, "a:1 stands in TF_CONFIG more than once"),
        ({"worker": ["a:1"], "evaluator": ["b:1"]}, "worker", 0, "has tasks evaluator; there may be chief, worker"),
        ({"chief": ["a:1"]}, "chief", 0, "0 tasks 'worker', 1 or more are needed"),
        ({"chief": ["a:1", "b:1"], "worker": ["c:1"]}, "chief", 0, "2 tasks 'chief'"),
    ],
)
def test_wrong_clusters(monkeypatch: pytest.MonkeyPatch, cluster: object, kind: object, index: object, expected: str) -> None:
    _task(monkeypatch, cluster, kind, index)
    assert expected in message(task_of, "multi_worker")


def test_parameter_servers_need_all_three_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    for missing in SERVED:
        _task(monkeypatch, {kind: found for kind, found in SERVED.items() if kind != missing}, "worker", 0)
        assert f"0 tasks {missing!r}" in message(task_of, "parameter_server")


def test_no_tf_config_or_no_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert "--distribute=multi_worker needs TF_CONFIG in the environment" in message(task_of, "multi_worker")
    for text in ("{", '{"cluster": 3}', '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": "x"}}', "[]"):
        monkeypatch.setenv("TF_CONFIG", text)
        assert "TF_CONFIG" in message(read_cluster, "--distribute=x", {"worker": range(1, 9)})


def test_a_missing_process_is_named() -> None:
    own, there, gone = free_ports(3)
    cluster = Cluster({"worker": tuple(f"localhost:{port}" for port in (own, there, gone))}, "worker", 0)
    with socket.create_server(("", there)), pytest.raises(CvrError) as caught:
        meet(cluster, cluster.others(), 0.3)
    text = str(caught.value)
    assert f"worker 0 waited 0.3 s (--cluster_timeout) for worker 2 at localhost:{gone}: start each" in text and "worker 1" not in text


def test_processes_that_are_there_find_each_other() -> None:
    own, there = free_ports(2)
    cluster = Cluster({"worker": (f"localhost:{own}", f"localhost:{there}")}, "worker", 0)
    with socket.create_server(("", there)):
        meet(cluster, cluster.others(), 5.0)
    with socket.create_server(("", own)), pytest.raises(CvrError, match=f"cannot listen on port {own} .* is another process of this task"):
        meet(cluster, cluster.others(), 0.3)


def test_a_parameter_server_without_a_chief_ends(tmp_path_factory: pytest.TempPathFactory) -> None:
    chief, own, worker = (f"localhost:{port}" for port in free_ports(3))
    cluster = Cluster({"chief": (chief,), "worker": (worker,), "ps": (own,)}, "ps", 0)
    with pytest.raises(CvrError, match="ps 0 waited 0.3 s .* for the chief at localhost"):
        serve(cluster, 0.3, tmp_path_factory.mktemp("none"))


def test_a_process_that_differs_from_the_chief(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder, info = tmp_path_factory.mktemp("chief"), {"flags": {"seed": 1, "splits": ("train",), "threads": 0}, "data": "abc"}
    assert "is not the chief's folder: all processes need the same one" in message(check_same, folder, info)
    start_run(folder, "", info)
    check_same(folder, {**info, "flags": {**info["flags"], "threads": 4}}, ("threads",))
    with pytest.raises(CvrError, match=r"than the chief \(seed: 1 in the chief, 2 here; data: 'abc' in the chief, 'x' here\)"):
        check_same(folder, {"flags": {**info["flags"], "seed": 2}, "data": "x"})


def test_one_device_is_nothing_to_spread_over() -> None:
    with pytest.raises(CvrError, match="--distribute=mirrored needs two devices on this host"):
        make_placement("mirrored", None, 1.0)


def test_what_cannot_go_together_is_refused() -> None:
    check_flags("none", jit_compile=True, deterministic=True, warm_start=True)
    check_flags("multi_worker", jit_compile=False, deterministic=True, warm_start=True)
    for distribute, refused, expected in (
        ("mirrored", "jit_compile", "cannot be part of one XLA program"),
        ("parameter_server", "deterministic", "in no fixed order"),
        ("parameter_server", "warm_start", "rows of split tables cannot be carried over"),
    ):
        flags = {name: name == refused for name in ("jit_compile", "deterministic", "warm_start")}
        with pytest.raises(CvrError, match=expected):
            check_flags(distribute, **flags)


def test_sparse_experts_are_refused() -> None:
    model = tf.keras.Sequential([SparsePerTokenFFN(2, 2)])
    check_ranker("none", model)
    with pytest.raises(CvrError, match="sparse experts .* with --distribute=mirrored"):
        check_ranker("mirrored", model)
