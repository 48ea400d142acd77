"""Processes that train are really killed, and the same command goes on: not a bit of the result differs."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import tensorflow as tf

from tests.cvr.jobs import small_model, train_job
from tests.support import random_columns, tiny_spec, write_lists

SPEC = """
dataset: bare
tasks: {purchase: {events: [purchase], window: 1d, primary: true}}
features:
  price: {kind: numerical, level: item, from: item.price}
  item: {kind: categorical, level: item, from: impression.item_id, embedding: {buckets: 30, dim: 2}}
"""
"""As few features as a table and a projection need: each process traces its graphs anew, which takes most of the test's time."""
FLAGS = small_model(
    "--epochs=2", "--batch_items=12", "--dropout=0.2", "--weight_decay=0.01", "--checkpoint_every=2", "--keep_best", "--deterministic"
)


def _train(log: Path, *arguments: str) -> None:
    """A child process: all that it prints goes to a file."""
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.exit(train_job(*arguments))


class _Command:
    """`cvr.train` with fixed arguments, each time in a new process that a server with all imports done forks."""

    def __init__(self, folder: Path, lists: Path) -> None:
        self.run, self._log = folder / "model", folder / "log"
        self._arguments = (f"--lists={lists}", f"--output={self.run}", *FLAGS)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.cvr.jobs"])
        folder.mkdir()

    def start(self) -> BaseProcess:
        process = self._context.Process(target=_train, args=(self._log, *self._arguments))
        process.start()
        return process

    def finish(self) -> int | None:
        process = self.start()
        process.join()
        return process.exitcode

    def send(self, number: int, checkpoints: int, seconds: float) -> int | None:
        """Sends a signal so many seconds after the process has written so many checkpoints; its exit code."""
        before, process = self._newest(), self.start()
        while process.is_alive() and self._newest() < before + 2 * checkpoints:
            time.sleep(0.002)
        time.sleep(seconds)
        os.kill(process.pid or 0, number)
        process.join()
        return process.exitcode

    def said(self) -> str:
        return self._log.read_text()

    def _newest(self) -> int:
        return max((int(path.stem[5:]) for path in (self.run / "checkpoints").glob("ckpt-*.index")), default=0)

    def variables(self) -> dict[str, np.ndarray]:
        """All values of the newest checkpoint: model, optimizers' moments, guard, place in the data."""
        reader = tf.train.load_checkpoint(str(self.run / "checkpoints" / f"ckpt-{self._newest()}"))
        names = [name for name in reader.get_variable_to_shape_map() if "OBJECT_GRAPH" not in name]
        return {name: reader.get_tensor(name) for name in names}

    def history(self) -> list[dict]:
        rows = [json.loads(line) for line in (self.run / "history.jsonl").read_text().splitlines()]
        timed = ("items_per_second", "flops_per_second", "input_wait_share")
        return [{key: value for key, value in row.items() if key not in timed} for row in rows]


def test_kills_at_random_moments_change_no_bit(tmp_path: Path) -> None:
    chance, spec, lists = random.Random(), tiny_spec(SPEC), tmp_path / "lists"
    write_lists(lists, {"train": [random_columns(spec, 20, seed) for seed in (1, 2)], "validation": [random_columns(spec, 9, 3)]}, SPEC)
    whole, broken = _Command(tmp_path / "whole", lists), _Command(tmp_path / "broken", lists)
    assert whole.finish() == 0, whole.said()
    for number, code in ((signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGKILL, -9)):
        assert broken.send(number, chance.randint(1, 2), chance.uniform(0.0, 0.03)) == code, broken.said()
        assert ("stopped by SIGTERM and saved; the same command resumes at this step" in broken.said()) == (code == 143)
    assert broken.finish() == 0, broken.said()
    assert "resuming at step" in broken.said()
    expected, found = whole.variables(), broken.variables()
    assert expected.keys() == found.keys() and len(expected) > 30
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    assert broken.history() == whole.history()
    info = [json.loads((command.run / "run.json").read_text()) for command in (whole, broken)]
    assert info[0]["checkpoint"] == info[1]["checkpoint"] and info[0]["steps"] == info[1]["steps"]
