"""Training on two devices, in two processes and with parameter servers, all really started: the results are those of one process."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.cvr.clusters import Processes, cluster_of
from tests.cvr.jobs import evaluate_job, small_model
from tests.support import random_columns, tiny_spec, write_lists

SPEC = """
dataset: spread
tasks: {purchase: {events: [purchase], window: 1d, primary: true}}
features:
  price: {kind: numerical, level: item, from: item.price}
  item: {kind: categorical, level: item, from: impression.item_id, embedding: {buckets: 5001, dim: 2, shrinkage: 1.0}}
  tags: {kind: categorical, level: item, from: item.tags, separator: "|", embedding: {buckets: 30, dim: 2}}
"""
MODEL = small_model(
    "--epochs=2",
    "--batch_items=24",
    "--weight_decay=0.01",
    "--row_decay=0.001",
    "--clip_norm=0.3",
    "--checkpoint_every=2",
    "--keep_checkpoints=99",
    "--keep_best",
    "--threads=1",
    "--cluster_timeout=120",
)
LAST = 14
"""Two epochs of 6 batches, and one for each finished epoch: the number of the last checkpoint."""


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    made = Processes(tmp_path_factory.mktemp("logs"))
    yield made
    made.end()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, spec = tmp_path_factory.mktemp("spread"), tiny_spec(SPEC)
    parts = {"train": [random_columns(spec, 20, seed) for seed in (1, 2)], "validation": [random_columns(spec, 9, 3)]}
    write_lists(folder / "lists", parts, SPEC)
    return folder


def _flags(folder: Path, name: str, *more: str) -> tuple[str, ...]:
    return (f"--lists={folder / 'lists'}", f"--output={folder / name}", *MODEL, *more)


@pytest.fixture(scope="module")
def pair(folder: Path, processes: Processes) -> dict[str, list[str]]:
    """Two workers, the second of which kills itself after step 5, in the middle of an epoch; what happens is looked at last."""
    cluster = cluster_of(worker=2)
    _start_pair(processes, folder, cluster, "lost", die_at=5)
    return cluster


def _start_pair(processes: Processes, folder: Path, cluster: dict[str, list[str]], name: str, die_at: int = 0) -> None:
    for index in (0, 1):
        task = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        arguments = _flags(folder, "pair", "--distribute=multi_worker", "--deterministic")
        processes.start(f"{name}{index}", *arguments, task=task, die_at=die_at * index)


@pytest.fixture(scope="module")
def alone(pair: object, folder: Path, processes: Processes) -> Path:
    del pair  # trains meanwhile
    processes.start("alone", *_flags(folder, "alone"))
    assert processes.code("alone") == 0, processes.said("alone")
    return folder / "alone"


def _variables(run: Path) -> dict[str, np.ndarray]:
    """All values of the last checkpoint: model, moments of both optimizers, guard, gates, place in the data."""
    reader = tf.train.load_checkpoint(str(run / "checkpoints" / f"ckpt-{LAST}"))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map() if "OBJECT_GRAPH" not in name}


def _history(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def _assert_same(run: Path, expected: Path) -> None:
    """Same steps, losses and validations in the history, same variables at the end, within 1e-5."""
    ours, theirs = _history(run), _history(expected)
    assert [(row["kind"], row["step"]) for row in ours] == [(row["kind"], row["step"]) for row in theirs]
    for row, other in zip(ours, theirs, strict=True):
        for key in ("loss", "map", "gradient_norm", "gate_entropy/purchase", "expert_use/purchase/0"):
            assert row.get(key) == pytest.approx(other.get(key), abs=1e-5), key
    found, wanted = _variables(run), _variables(expected)
    assert found.keys() == wanted.keys() and len(found) > 50
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, atol=1e-5, err_msg=name)


def test_two_devices_are_one(alone: Path, folder: Path, processes: Processes) -> None:
    processes.start("mirrored", *_flags(folder, "mirrored", "--distribute=mirrored", "--deterministic"), cpus=2)
    assert processes.code("mirrored") == 0, processes.said("mirrored")
    assert "; 2 replicas" in processes.said("mirrored")
    _assert_same(folder / "mirrored", alone)


def _assert_split(places: Path) -> None:
    """5005 rows: 2503 on one of two parameter servers and 2502 on the other; everything is on one of them."""
    found = json.loads(places.read_text())
    servers = {f"/job:ps/replica:0/task:{i}/device:CPU:0" for i in (0, 1)}
    assert {device for device, _ in found} == servers
    large = [(device, shape) for device, shape in found if shape[0] > 100]
    assert {device for device, _ in large} == servers and sorted(shape for _, shape in large) == [[2502, 2], [2503, 2]]


def test_a_parameter_server_s_worker_goes_on_where_one_process_stopped(alone: Path, folder: Path, processes: Processes) -> None:
    """One worker alone takes the batches in turn, so from the same checkpoint the same comes out, split tables or not."""
    shutil.copytree(alone, folder / "served")
    for path in (folder / "served" / "checkpoints").glob("ckpt-*"):
        if not path.name.startswith("ckpt-2."):
            path.unlink()
    info = json.loads((folder / "served" / "run.json").read_text())
    (folder / "served" / "run.json").write_text(json.dumps({**info, "status": "training"}))
    task = {"cluster": cluster_of(chief=1, worker=1, ps=2), "task": {"type": "chief", "index": 0}, "inside": True}
    processes.start("served", *_flags(folder, "served", "--distribute=parameter_server"), task=task, places=folder / "served.json")
    assert processes.code("served") == 0, processes.said("served")
    assert "resuming at step 2" in processes.said("served")
    _assert_split(folder / "served.json")
    _assert_same(folder / "served", alone)


def test_parameter_servers_with_two_workers(alone: Path, folder: Path, processes: Processes, tmp_path: Path) -> None:
    cluster = cluster_of(chief=1, worker=2, ps=2)
    tasks = [(kind, index) for kind, found in cluster.items() for index in range(len(found))]
    for kind, index in tasks:
        task = {"cluster": cluster, "task": {"type": kind, "index": index}}
        places = folder / "many.json" if kind == "chief" else None
        processes.start(f"{kind}{index}", *_flags(folder, "many", "--distribute=parameter_server"), task=task, places=places)
    for kind, index in tasks:
        assert processes.code(f"{kind}{index}") == 0, processes.said(f"{kind}{index}")
    _assert_split(folder / "many.json")
    found, expected = _variables(folder / "many"), _variables(alone)
    assert [value for name, value in found.items() if "_iterations" in name] == [12, 12]  # of both optimizers: no step was lost
    table = "model/extraction/tables/item/table/.ATTRIBUTES/VARIABLE_VALUE"  # starts at 0: trained on the same lists
    np.testing.assert_array_equal(found[table].any(axis=1), expected[table].any(axis=1))
    assert found[table].shape == (5005, 2) and found[table].any(axis=1).sum() > 10
    assert all(np.isfinite(row["loss"]["purchase"]) for row in _history(folder / "many") if row["kind"] == "train")
    arguments = (f"--run={folder / 'many'}", f"--lists={folder / 'lists'}", f"--output={tmp_path / 'eval'}", "--split=validation")
    assert evaluate_job(*arguments, "--bootstrap=20") == 0
    measured = json.loads((tmp_path / "eval" / "summary.json").read_text())["tasks"]["purchase"]["map"]
    best = max(row["map"]["purchase"] for row in _history(folder / "many") if row["kind"] == "validation")
    assert measured == pytest.approx(best, abs=1e-6)


def test_a_killed_worker_stops_all_and_the_same_commands_go_on(
    pair: dict[str, list[str]], alone: Path, folder: Path, processes: Processes
) -> None:
    assert processes.code("lost1") == -signal.SIGKILL, processes.said("lost1")
    assert processes.code("lost0") == 1, processes.said("lost0")
    assert f"worker 0 lost its cluster: UnavailableError; worker 1 at {pair['worker'][1]} cannot be reached" in processes.said("lost0")
    assert json.loads((folder / "pair" / "run.json").read_text())["status"] == "training"
    _start_pair(processes, folder, pair, "again")
    for index in (0, 1):
        assert processes.code(f"again{index}") == 0, processes.said(f"again{index}")
        assert "resuming at step 4 (epoch 1)" in processes.said(f"again{index}")
        assert f"worker {index}: replicas {index} to {index} of 2" in processes.said(f"again{index}")
    _assert_same(folder / "pair", alone)
