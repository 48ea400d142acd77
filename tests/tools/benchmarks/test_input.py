"""The input benchmark: its content, both readers on a few lists, packing and n-grams by hand, goals and tables from hand-made figures."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from absl import flags

from cvr.elwc import decode_elwc
from cvr.errors import CvrError
from cvr.records import decode
from tools.benchmarks import input as command
from tools.benchmarks import input_ngrams, input_packing, input_readers, input_report
from tools.benchmarks.input_content import content, draw_lengths, file_of, spec, write
from tools.benchmarks.input_readers import Plan, Reading
from tools.benchmarks.summary import Spread

SMALL = Plan(lists=24, batch_items=128, passes=1, repeats=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("input")
    write(path, "32", content(SMALL.lists, "32", 3))
    return path


def _stored(path: Path) -> list[bytes]:
    zipped = "GZIP" if path.suffix == ".gz" else ""
    return [record.numpy() for record in tf.data.TFRecordDataset(str(path), zipped)]


def test_lengths_by_their_draw() -> None:
    source = np.random.default_rng(0)
    assert draw_lengths(source, "32", 3).tolist() == [32, 32, 32]
    lengths = draw_lengths(source, "16-40", 20_000)
    assert (lengths.min(), lengths.max()) == (1, 40)
    assert lengths.mean() == pytest.approx(16, abs=0.3)


def test_all_files_hold_the_same_lists(folder: Path) -> None:
    expected = content(SMALL.lists, "32", 3)
    for kind, decoder in (("lists", decode), ("elwc", decode_elwc)):
        plain, zipped = (_stored(file_of(folder, "32", kind, zipped)) for zipped in (False, True))
        assert plain == zipped
        found = decoder(spec(), plain)
        np.testing.assert_array_equal(found.item_num, expected.item_num)
        np.testing.assert_array_equal(found.bags["title"].values, expected.bags["title"].values)
    assert expected.bags["title"].lengths.mean() == pytest.approx(24, abs=0.5)


@pytest.mark.parametrize("part", ["labels", "title"])
def test_unlike_readers_are_refused(folder: Path, tmp_path: Path, part: str) -> None:
    columns = content(SMALL.lists, "32", 3)
    if part == "title":
        columns.bags["title"].values[5] += 1
    else:
        columns.labels[7, 0] += 1
    write(tmp_path, "32", columns)
    ours = file_of(tmp_path, "32", "lists", False)
    ours.write_bytes(file_of(folder, "32", "lists", False).read_bytes())
    named = {"labels": "'purchase'", "title": "'title'"}
    with pytest.raises(CvrError, match=named[part]):
        input_readers.check_equal(tmp_path, SMALL, "32", 32)


def test_a_turn_by_hand() -> None:
    """Two timed batches of 3 items in 2 seconds, after five that are not timed."""
    batches = tf.data.Dataset.from_tensors({"list_size": tf.constant([2, 1, 0])}).repeat(7)
    clock = iter([10.0, 12.0])
    assert input_readers.timed(batches, lambda: next(clock))[0] == 3.0
    with pytest.raises(CvrError, match="raise --lists"):
        input_readers.timed(batches.take(5))


def test_packing_waste_by_hand() -> None:
    """Two lists of 3 in 7 items; the last batch, with one list, is left out."""
    found = input_packing.waste("32", np.array([3, 3, 3, 3, 3]), 7)
    assert (found.batches, found.lists) == (2, 2.0)
    assert found.padded == pytest.approx(1 / 7)


def test_little_padding_at_usual_sizes() -> None:
    """A batch ends in a list of E[n^2] / E[n] = 23 items on average, as longer lists meet its end more often; half of it is left: 1.1 %."""
    lengths = draw_lengths(np.random.default_rng(1), "16-40", 4000)
    padded = input_packing.waste("16-40", lengths, 1024).padded
    assert padded == pytest.approx((lengths**2).mean() / lengths.mean() / 2 / 1024, rel=0.2)
    assert padded < 0.03


def test_ways_to_ngrams() -> None:
    texts = tf.constant(["abc", "白白"] * 16)
    ids = input_ngrams.points(texts)
    assert ids.row_lengths().numpy().tolist() == [3, 1] * 16
    stored = input_ngrams.stored(tf.constant(input_ngrams.stored_records(ids)))
    made = {"points": ids, "stored": stored, "strings": input_ngrams.strings(texts)}
    assert input_ngrams.check(made) == 2.0
    with pytest.raises(CvrError, match="unlike work"):
        input_ngrams.check({**made, "strings": input_ngrams.strings(texts + "x")})
    found, per_text = input_ngrams.measure(1, 1, 0)
    assert list(found) == list(input_ngrams.WAYS) and per_text == pytest.approx(24, abs=0.3)


def _reading(reader: str, draw: str, rate: float) -> Reading:
    return Reading(reader, draw, False, Spread(rate, rate, rate), Spread(1, 1, 1), 600.4)


def _report(*readings: Reading, cpus: int = 1) -> dict:
    packing = [dataclasses.asdict(input_packing.Waste("16-40", 1024, 9, 60.0, 0.031))]
    return {"settings": {"cpus": cpus}, "results": [dataclasses.asdict(reading) for reading in readings], "packing": packing}


def test_goals_by_hand() -> None:
    cells = (_reading("lists", "32", 900e3), _reading("elwc", "32", 100e3))
    speed, padded = input_report.goals_of(_report(*cells))
    assert speed.reached == 9.0 and speed.met is True
    assert padded.reached == pytest.approx(3.1) and padded.met is False
    assert input_report.goals_of(_report(*cells, cpus=2))[0].met is None
    assert input_report.goals_of(_report(cells[0]))[0].met is None


def test_table_by_hand() -> None:
    rows = input_report.reading_rows([_reading("lists", "32", 900e3), _reading("elwc", "32", 100e3)])
    assert rows[0] == ("cvr.data.batches", "32", "plain", "900 (900-900)k", "9.00", "1 (1-1)", "600")
    assert rows[1][4] == ""


def _parsed(*arguments: str) -> None:
    command.parse_flags(["input", *arguments])
    command.main(["input"])


@pytest.fixture
def _command() -> Iterator[None]:
    known = set(flags.FLAGS)
    command.define_flags()
    yield
    for name in set(flags.FLAGS) - known:
        delattr(flags.FLAGS, name)
    flags.FLAGS.unparse_flags()


@pytest.mark.usefixtures("_command")
def test_the_command_writes_what_it_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "pin", lambda cpus: None)  # threads cannot change in a process that has begun
    monkeypatch.setattr(command, "_PACKED_LISTS", 600)
    monkeypatch.setattr(command, "_NGRAM_CALLS", 1)
    monkeypatch.setattr(command, "DRAWS", {"16-40": "mean 16, at most 40"})
    path = tmp_path / "i.json"
    _parsed(f"--json={path}", "--lists=40", "--batch_items=64", "--passes=1", "--repeats=1")
    first = capsys.readouterr().out
    _parsed(f"--read={path}")
    assert capsys.readouterr().out == first
    found = json.loads(path.read_text())
    assert [(cell["reader"], cell["zipped"]) for cell in found["results"]] == list(itertools.product(("lists", "elwc"), (False, True)))
    assert all(cell["rate"]["least"] > 0 for cell in found["results"])
    assert found["compared_items"]["16-40"] == int(content(40, "16-40", 1).lengths[:4].sum())
    for row in ("cvr.data.batches", "TF-Ranking ELWC", "strings in the graph", "not measured"):
        assert row in first


@pytest.mark.usefixtures("_command")
def test_wrong_flags_and_reports(tmp_path: Path) -> None:
    command.parse_flags(["input", "--cpus=4096"])
    with pytest.raises(CvrError, match="--cpus=4096"):
        command.pin(flags.FLAGS.cpus)
    (tmp_path / "i.json").write_text("{}")
    with pytest.raises(CvrError, match="no report"):
        input_report.read(tmp_path / "i.json")
