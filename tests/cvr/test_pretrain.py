"""`cvr.pretrain` and what a ranker takes of it: resumable, immutable, the item table under its own path, bit-equal where it is frozen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from cvr.checkpoints import TrainingState
from cvr.data import dummy_batch
from cvr.errors import CvrError
from cvr.preparation import with_encoder
from cvr.ranker import Ranker, RankerConfig, build_ranker
from cvr.runs import load_ranker
from cvr.schema import parse_spec
from cvr.warm_start import find_base, variables_of, warm_start
from tests.cvr.jobs import evaluate_job, message, pretrain_job, small_model, train_job
from tests.support import LEAN

FLAGS = (
    "--encoder={name: decoder, layers: 1, heads: 1}",
    "--epochs=2",
    "--batch_sequences=8",
    "--negatives=8",
    "--learning_rate=0.01",
    "--checkpoint_every=2",
    "--deterministic",
)
RANKER = small_model("--epochs=1", "--validation_split=", "--weight_decay=0.1", "--row_decay=0.1")
BATCH = dummy_batch(parse_spec(LEAN))
TABLE = "extraction/tables/recent/table"
ACTIONS = "extraction/_events/recent/action_table"


class _Interrupted(BaseException):
    """Stands for a lost machine."""


@pytest.fixture(scope="module", autouse=True)
def _determinism_ends() -> Iterator[None]:
    yield
    from tensorflow.python.framework import config

    config.disable_op_determinism()


@pytest.fixture(scope="module")
def run(lists: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished pre-training."""
    folder = tmp_path_factory.mktemp("pretrained") / "run"
    assert pretrain_job(f"--lists={lists}", f"--output={folder}", *FLAGS) == 0
    return folder


def _values(folder: Path) -> dict[str, np.ndarray]:
    reader = tf.train.load_checkpoint(find_base(str(folder)).checkpoint)
    names = [name for name in reader.get_variable_to_shape_map() if "OBJECT_GRAPH" not in name and "save_counter" not in name]
    return {name: reader.get_tensor(name) for name in names}


def test_what_a_run_says_and_holds(run: Path) -> None:
    info = json.loads((run / "run.json").read_text())
    assert (info["program"], info["status"], info["epochs_done"]) == ("cvr.pretrain", "finished", 2)
    found = info["counts"]["train"]
    assert info["steps"] == 2 * -(-found["sequences"] // 8) and found["lists"] == 40 and found["targets"] >= found["sequences"]
    assert set(info["validation"]) == {"next_item", "next_action"} and all(value > 0 for value in info["validation"].values())
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows if row["kind"] == "validation"] == [1, 2]
    values = find_base(str(run)).values()
    assert {TABLE, ACTIONS} <= set(values) and "extraction/_events/recent/age_table" not in values
    assert info["parameters"] == sum(value.size for path, value in values.items() if path != "draws")


def test_resumed_is_bit_equal(run: Path, lists: Path, tmp_path: Path) -> None:
    command = (f"--lists={lists}", f"--output={tmp_path}", *FLAGS)
    advance = TrainingState.advance

    def guarded(state: TrainingState) -> int:
        done = advance(state)
        if done == 3:
            raise _Interrupted
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingState, "advance", guarded)
        with pytest.raises(_Interrupted):
            pretrain_job(*command)
    assert "negatives: 8 then, 9 now" in message(pretrain_job, *command, "--negatives=9")
    unfinished = (f"--lists={lists}", f"--output={tmp_path / 'm'}", f"--warm_start_from={tmp_path}")
    assert "this run is not finished" in message(train_job, *unfinished)
    assert pretrain_job(*command) == 0
    expected, found = _values(run), _values(tmp_path)
    assert expected.keys() == found.keys() and len(expected) > 20
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert "already holds a finished run" in message(pretrain_job, *command)


def test_it_is_no_ranker(run: Path, lists: Path, tmp_path: Path) -> None:
    text = message(evaluate_job, f"--run={run}", f"--lists={lists}", "--split=test", f"--output={tmp_path / 'e'}")
    assert "is a pre-training, which ranks nothing; train a ranker with --warm_start_from" in text


def test_sparse_parameters_loaded_and_frozen(run: Path, lists: Path, tmp_path: Path) -> None:
    """STSF: the table alone, with its bits, whatever decays; all else starts anew and is trained."""
    command = (f"--lists={lists}", f"--warm_start_from={run}", *RANKER, "--warm_start_parts=tables")
    assert train_job(*command, f"--output={tmp_path / 'm'}", "--freeze_tables=recent") == 0
    report = json.loads((tmp_path / "m" / "warm_start.json").read_text())
    assert [row["variable"] for row in report["variables"] if row["status"] == "loaded"] == [TABLE]
    before = find_base(str(run)).values()[TABLE]
    np.testing.assert_array_equal(find_base(str(tmp_path / "m")).values()[TABLE], before)
    np.testing.assert_array_equal(load_ranker(tmp_path / "m")[0].extraction.tables["recent"].table, before)
    text = message(train_job, *command, f"--output={tmp_path / 'n'}", "--freeze_tables=tags")
    assert "does not give table 'tags' (not in the base), which would stay random" in text


def _started(run: Path, encoder: str, spec: str = LEAN, parts: str = "all") -> tuple[dict[str, tuple[str, str]], Ranker]:
    """(status and reason by variable, a ranker that starts from the run)."""
    ranker = build_ranker(parse_spec(with_encoder(spec, encoder)), RankerConfig("dcnv2", {"cross_width": 4, "deep_width": 4}), BATCH)
    outcomes = warm_start(ranker, find_base(str(run)), parts)
    return {one.variable: (one.status, one.reason) for one in outcomes}, ranker


def test_full_transfer(run: Path) -> None:
    """With the same decoder all that the generator has and a ranker, too."""
    found, ranker = _started(run, FLAGS[0].removeprefix("--encoder="))
    loaded = {path for path, (status, _) in found.items() if status == "loaded"}
    decoder = {path for path in found if path.startswith("extraction/_encoders/recent/")}
    assert loaded == {TABLE, ACTIONS, *decoder} and len(decoder) == 10
    assert found["extraction/_events/recent/age_table"] == ("new", "not in the base")
    assert {path for path, (status, _) in found.items() if status == "dropped"} == {"draws", "next_action/kernel"}
    base, now = find_base(str(run)).values(), variables_of(ranker)
    for path in loaded:
        np.testing.assert_array_equal(now[path], base[path], err_msg=path)


def test_what_is_loaded_where_less_fits(run: Path) -> None:
    """With another encoder item and action vectors; with --warm_start_parts=tables the table; with another dim nothing, which is said."""
    for encoder, parts, expected in (("mean", "all", {TABLE, ACTIONS}), (FLAGS[0].removeprefix("--encoder="), "tables", {TABLE})):
        found, _ = _started(run, encoder, parts=parts)
        assert {path for path, (status, _) in found.items() if status == "loaded"} == expected
    with pytest.raises(CvrError, match="no embedding table of it fits this spec"):
        _started(run, "mean", LEAN.replace("buckets: 20, dim: 2", "buckets: 20, dim: 4"))


def test_nothing_to_learn_from(lists: Path, tmp_path: Path) -> None:
    text = message(pretrain_job, f"--lists={lists}", f"--output={tmp_path}", "--encoder=gru")
    assert "gru cannot tell what comes next" in text and not (tmp_path / "run.json").exists()
