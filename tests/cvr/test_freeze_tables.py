"""--freeze_tables: the same bits before and after a training, whatever optimizer and decay, and no state of theirs anywhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from cvr.checkpoints import TrainingState
from cvr.data import dummy_batch
from cvr.errors import CvrError
from cvr.losses import Loss, listwise_losses
from cvr.ranker import Ranker, RankerConfig, build_ranker
from cvr.runs import load_ranker, load_run
from tests.cvr.jobs import message, small_model, train_job
from tests.support import LEAN, batch_of, random_columns, tiny_spec

DECAYED = small_model("--epochs=1", "--validation_split=", "--weight_decay=0.1", "--row_decay=0.1", "--checkpoint_every=2")
TABLES = {"device": (9, 2), "tags": (34, 2), "recent": (24, 2)}


class _Interrupted(BaseException):
    """Stands for a lost machine."""


def _tables(ranker: Ranker) -> dict[str, np.ndarray]:
    return {name: layer.table.numpy() for name, layer in ranker.extraction.tables.items()}


def _before(run: Path) -> dict[str, np.ndarray]:
    """The tables that a run started with: weights come from its seed."""
    spec = load_run(run).spec
    return _tables(build_ranker(spec, load_run(run).config, dummy_batch(spec)))


def _shapes(run: Path) -> list[tuple[int, ...]]:
    """Of all that the run's checkpoint holds."""
    reader = tf.train.load_checkpoint(load_run(run).checkpoint)
    return [tuple(shape) for shape in reader.get_variable_to_shape_map().values()]


def test_bit_equal_after_a_resumed_training(lists: Path, tmp_path: Path) -> None:
    """With lazy Adam, decays and a clip: the frozen table stays, has no moments, and the others learn."""
    command = (f"--lists={lists}", f"--output={tmp_path}", *DECAYED, "--clip_norm=1", "--freeze_tables=recent")
    advance = TrainingState.advance

    def guarded(state: TrainingState) -> int:
        done = advance(state)
        if done == 3:
            raise _Interrupted
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingState, "advance", guarded)
        with pytest.raises(_Interrupted):
            train_job(*command)
    assert "freeze_tables: ['recent'] then, None now" in message(train_job, *command[:-1])
    assert train_job(*command) == 0
    before, after = _before(tmp_path), _tables(load_ranker(tmp_path)[0])
    np.testing.assert_array_equal(after["recent"], before["recent"])
    assert all(np.any(after[name] != before[name]) for name in ("device", "tags"))
    shapes = _shapes(tmp_path)
    assert {name: shapes.count(shape) for name, shape in TABLES.items()} == {"device": 3, "tags": 3, "recent": 1}
    info = json.loads((tmp_path / "run.json").read_text())
    assert info["flags"]["freeze_tables"] == info["model"]["frozen_tables"] == ["recent"]
    assert info["embedding_bytes"] == 4 * 2 * (9 + 34 + 24)  # what they hold, trained or not


def test_all_tables_with_rowwise_adagrad(lists: Path, tmp_path: Path) -> None:
    assert train_job(f"--lists={lists}", f"--output={tmp_path}", *DECAYED, "--table_optimizer=rowwise_adagrad", "--freeze_tables=all") == 0
    before, after = _before(tmp_path), _tables(load_ranker(tmp_path)[0])
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values, err_msg=name)
    assert all((rows,) not in _shapes(tmp_path) for rows, _ in TABLES.values())


def test_no_gradient() -> None:
    """Nobody who asks for it gets one, not even of the table itself; the other tables' are those without a freeze."""
    spec = tiny_spec(LEAN)
    batch = batch_of(spec, random_columns(spec, 9))
    found = {}
    for frozen in ([], ["recent", "device"]):
        ranker = build_ranker(spec, RankerConfig("dcnv2", experts=2, expert_width=4, frozen_tables=frozen), batch)
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(listwise_losses(ranker(batch), batch, 6, Loss("softmax")))
        tables = {name: layer.table for name, layer in ranker.extraction.tables.items()}
        found[len(frozen)] = tape.gradient(total, tables)
        names = {name for name, table in tables.items() if any(table is variable for variable in ranker.extraction.table_variables)}
        assert names == set(tables) - set(frozen)
        assert len(ranker.extraction.all_table_variables) == 3
        assert not {v.ref() for v in ranker.dense_variables} & {table.ref() for table in tables.values()}
    assert found[2]["recent"] is None and found[2]["device"] is None
    np.testing.assert_array_equal(tf.convert_to_tensor(found[2]["tags"]), tf.convert_to_tensor(found[0]["tags"]))


def test_an_unknown_table_names_those_there_are() -> None:
    spec = tiny_spec(LEAN)
    with pytest.raises(CvrError, match=r"--freeze_tables=item: no such table; there are device, tags, recent, and all"):
        Ranker(spec, RankerConfig("dcnv2", frozen_tables=["item"]))
