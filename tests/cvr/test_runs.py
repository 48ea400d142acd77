"""A run's folder: started once, resumed only with the same settings, read only when finished."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from cvr.data import dummy_batch
from cvr.errors import CvrError
from cvr.ranker import RankerConfig, build_ranker
from cvr.runs import alone_in, finish_run, load_ranker, load_run, start_run, versions
from tests.support import LEAN, tiny_spec

FACTORS = {"cross_width": 4, "deep_width": 4, "parallel_blocks": 1}


def _info(**flags: Any) -> dict[str, Any]:
    model = dataclasses.asdict(RankerConfig("masknet", FACTORS, experts=2, expert_width=4))
    return {
        "flags": {"seed": 1, "splits": ["train"], **flags},
        "data": "abc",
        "spec_fingerprint": "def",
        "model": model,
    }


def _checkpoint(run: Path) -> None:
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "ckpt-3.index").touch()


def test_start_finish_and_load(tmp_path: Path) -> None:
    run = tmp_path / "deep" / "run"
    start_run(run, LEAN, _info())
    with pytest.raises(CvrError, match="is not finished"):
        load_run(run)
    start_run(run, LEAN, _info())  # an interrupted run goes on
    finish_run(run, {"checkpoint": "checkpoints/ckpt-3", "steps": 3})
    loaded = load_run(run)
    assert loaded.config.backbone_config == FACTORS and loaded.info["steps"] == 3
    assert loaded.checkpoint == str(run / "checkpoints/ckpt-3") and loaded.spec.dataset == "lean"
    with pytest.raises(CvrError, match="already holds a finished run"):
        start_run(run, LEAN, _info())


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({**_info(), "data": "xyz"}, "data: 'abc' then, 'xyz' now"),
        ({**_info(), "spec_fingerprint": "0"}, "spec: 'def' then, '0' now"),
        (_info(seed=2), "seed: 1 then, 2 now"),
        (_info(fresh=True), "fresh: None then, True now"),
    ],
)
def test_another_run_is_not_mixed_in(changed: dict[str, Any], named: str, tmp_path: Path) -> None:
    start_run(tmp_path, LEAN, _info())
    _checkpoint(tmp_path)
    before = (tmp_path / "run.json").read_text()
    with pytest.raises(CvrError) as caught:
        start_run(tmp_path, LEAN, changed)
    assert named in str(caught.value)
    assert (tmp_path / "run.json").read_text() == before


def test_free_flags_may_change_and_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start_run(tmp_path, LEAN, _info(threads=1))
    _checkpoint(tmp_path)
    start_run(tmp_path, LEAN, _info(threads=2), free=["threads"])
    assert "resuming with another threads: 1 then, 2 now" in capsys.readouterr().err
    with pytest.raises(CvrError, match="seed: 1 then, 2 now") as caught:
        start_run(tmp_path, LEAN, _info(threads=2, seed=2), free=["threads"])
    assert "threads" not in str(caught.value)


def test_a_run_without_a_checkpoint_starts_over_with_any_settings(tmp_path: Path) -> None:
    start_run(tmp_path, LEAN, _info())
    start_run(tmp_path, LEAN, _info(seed=2))
    assert json.loads((tmp_path / "run.json").read_text())["flags"]["seed"] == 2


def test_two_processes_do_not_train_in_one_folder(tmp_path: Path) -> None:
    with alone_in(tmp_path / "run"):
        with pytest.raises(CvrError, match="another process trains in --output="), alone_in(tmp_path / "run"):
            pass
    with alone_in(tmp_path / "run"):
        pass


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(CvrError, match="no run.json in .*train a model first"):
        load_run(tmp_path)


def test_a_ranker_is_loaded_with_its_weights(tmp_path: Path) -> None:
    config, spec = RankerConfig("masknet", FACTORS, experts=2, expert_width=4), tiny_spec(LEAN)
    ranker = build_ranker(spec, config, dummy_batch(spec))
    for variable in ranker.trainable_variables:
        variable.assign_add(tf.ones_like(variable))
    start_run(tmp_path, LEAN, _info())
    prefix = tf.train.Checkpoint(model=ranker).save(str(tmp_path / "weights"))
    finish_run(tmp_path, {"checkpoint": Path(prefix).name})
    loaded, _ = load_ranker(tmp_path)
    batch = dummy_batch(spec)
    assert loaded(batch).numpy().tolist() == ranker(batch).numpy().tolist()


def test_a_checkpoint_that_is_gone(tmp_path: Path) -> None:
    start_run(tmp_path, LEAN, _info())
    finish_run(tmp_path, {"checkpoint": "checkpoints/ckpt-3"})
    with pytest.raises(CvrError, match="ckpt-3 does not fit the run's spec and model"):
        load_ranker(tmp_path)


def test_versions_name_what_decides_numbers() -> None:
    assert {"python", "tensorflow", "tf-keras", "numpy"} <= set(versions())
    json.dumps(versions())
