"""Whole builds of a tiny log: what comes out, and everything that a build refuses."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from absl import app

from cvr.errors import CvrError
from cvr.manifest import Manifest, load_manifest
from cvr.transforms import hash_strings
from pipelines import beam_flags, checks, write
from pipelines.job import build
from pipelines.sources import canonical
from tests.pipelines.logs import (
    DAY,
    HOUR,
    ITEMS,
    MINUTE,
    SPEC,
    T0,
    done,
    read_split,
    settings,
    shown,
    small_log,
    write_jsonl,
    write_log,
)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("log"), *small_log())


@pytest.fixture(scope="module")
def built(log: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    output = tmp_path_factory.mktemp("lists")
    return output, build(settings(log, output))


def test_lists_labels_and_splits(built: tuple[Path, Manifest]) -> None:
    output, manifest = built
    # 40 searches every 2 h; the log ends at 78 h + 1 min, so a list is mature if its time + 24 h <= that: searches 0..27.
    assert manifest.counts["lists"] == {
        "seen": 40,
        "other_domain": 0,
        "out_of_range": 0,
        "immature": 12,
        "unconverted": 0,
        "not_sampled": 0,
        "kept": 28,
    }
    train, test = manifest.split("train"), manifest.split("test")
    assert (train.lists, test.lists) == (24, 4)
    assert train.labels == {"click": 24, "purchase": 12} and test.labels == {"click": 4, "purchase": 2}
    assert {file.day for file in train.files} == {"2026-01-01", "2026-01-02"} and {file.day for file in test.files} == {
        "2026-01-03"
    }
    assert (train.first_time, test.first_time) == (T0 + 7, T0 + 2 * DAY + 7)
    assert manifest.counts["attribution"]["purchase"]["attributed"] == 20
    assert manifest.counts["rows"] == {"impressions": 133, "engagements": 60, "items": 3}
    assert load_manifest(output) == manifest


def test_records_of_a_list(built: tuple[Path, Manifest]) -> None:
    found = read_split(built[0], "test")
    assert found["search_id"].tolist() == [b"s24", b"s25", b"s26", b"s27"]
    rows = slice(*found["offsets"][2:4])
    assert found["item"][rows].tolist() == hash_strings(["b", "d", "a", "c"]).numpy().tolist()
    assert found["labels"][rows].tolist() == [[1, 1], [0, 0], [0, 0], [0, 0]]
    assert found["delay"][rows].tolist() == [[MINUTE, 3 * HOUR], [-1, -1], [-1, -1], [-1, -1]]
    spec = built[1].spec()
    names = [feature.name for feature in spec.select(kind="numerical", level="item", stored=True)]
    values = dict(zip(names, found["item_num"][rows].T, strict=True))
    assert values["price"].tolist() == [26.0] * 4
    np.testing.assert_array_equal(values["stock"], [np.nan, np.nan, 3.0, 0.0])
    # s0..s25 were clicked on their first item: a on 9 of them (0, 3, ..), c on 9 (1, 4, ..), b on 8 (2, 5, ..).
    assert values["item_clicks"].tolist() == [8.0, 0.0, 9.0, 9.0]
    # The customer's earlier searches are s1, s6, s11, s16, s21: c, a, b, c, a were clicked.
    assert values["own_clicks"].tolist() == [1.0, 0.0, 2.0, 2.0]


def test_histories_are_the_customer_s_own(built: tuple[Path, Manifest]) -> None:
    found = read_split(built[0], "test")
    assert found["seq/recent/lengths"].tolist() == [3] * 4
    # s26: customer u1; before 52 h: clicks at 42 h (s21, a), 32 h (s16, c), with a purchase at 35 h (c).
    assert found["seq/recent/item"][6:9].tolist() == hash_strings(["a", "c", "c"]).numpy().tolist()
    assert found["seq/recent/action"][6:9].tolist() == [4, 5, 4]
    np.testing.assert_allclose(found["seq/recent/age"][6:9], [10 * 3600 - 60, 17 * 3600, 20 * 3600 - 60])


def test_statistics_come_from_each_split_alone(built: tuple[Path, Manifest]) -> None:
    for name, low, high in (("train", 0, 24), ("test", 24, 28)):
        moments = built[1].split(name).statistics["price"]
        sizes = [len([["a"] * 3, ["a"] * 3, ["a"] * 4][i % 3]) for i in range(low, high)]
        prices = np.repeat(np.arange(low, high), sizes)
        assert moments.count == len(prices)
        np.testing.assert_allclose(moments.mean_std(), (prices.mean(), prices.std()))


def test_checksums_and_counts_of_files(built: tuple[Path, Manifest]) -> None:
    import hashlib

    output, manifest = built
    for split in manifest.splits.values():
        assert (
            sum(file.lists for file in split.files) == split.lists
            and sum(file.items for file in split.files) == split.items
        )
        for file in split.files:
            data = (output / file.path).read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (file.bytes, file.sha256)


def test_histograms_for_the_report(built: tuple[Path, Manifest]) -> None:
    counts = built[1].counts
    assert counts["attribution"]["click"]["delay_histogram"] == {"63096": 40}
    assert counts["splits"]["train"]["list_lengths"] == {"3": 16, "4": 8}
    assert counts["splits"]["train"]["positions"]["click"] == {"1": 24}
    assert counts["events"] == {"click": 40, "purchase": 20}


def test_the_number_of_partitions_and_the_order_of_rows_change_nothing(
    built: tuple[Path, Manifest], tmp_path: Path
) -> None:
    rows, events = small_log()
    random = np.random.default_rng(3)
    shuffled = [[content[i] for i in random.permutation(len(content))] for content in (rows, events)]
    twice = [*shuffled[1], *shuffled[1]]
    manifest = build(settings(write_log(tmp_path / "log", shuffled[0] * 2, twice), tmp_path / "lists", partitions=1))
    assert manifest.counts["duplicates"] == {"impressions": 133, "engagements": 60}
    for split in ("train", "test"):
        expected, found = read_split(built[0], split), read_split(tmp_path / "lists", split)
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_jsonl_gives_the_same_records(built: tuple[Path, Manifest], tmp_path: Path) -> None:
    for name, content in zip(("impressions", "engagements", "items"), (*small_log(), ITEMS), strict=True):
        write_jsonl(tmp_path / "log", name, content)
    build(settings(tmp_path / "log", tmp_path / "lists"))
    expected, found = read_split(built[0], "train"), read_split(tmp_path / "lists", "train")
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_changing_the_future_changes_no_feature(built: tuple[Path, Manifest], tmp_path: Path) -> None:
    rows, events = small_log()
    cut = T0 + 2 * DAY + 7
    changed = [event for event in events if event["time"] < cut]
    changed += [done("click", 2 * DAY + 7 + i, "d", f"u{i % 5}") for i in range(30)]
    changed += [done("purchase", 2 * DAY + 7 + i, "a", f"u{i % 5}") for i in range(30)]
    rows = [row for row in rows if row["time"] <= cut] + shown("new", 2 * DAY + 8, ["a", "d"], "u1", query="q0")
    log = write_log(tmp_path / "log", rows, changed)
    build(settings(log, tmp_path / "lists", log_end=T0 + 9 * DAY))
    expected, found = read_split(built[0], "test"), read_split(tmp_path / "lists", "test")
    first = slice(0, expected["offsets"][1])
    assert found["search_id"][0] == expected["search_id"][0] == b"s24"
    for name in ("item_num", "popularity"):
        np.testing.assert_array_equal(found[name][first], expected[name][first], err_msg=name)
    np.testing.assert_array_equal(found["context_num"][0], expected["context_num"][0])
    np.testing.assert_array_equal(found["seq/recent/item"][:3], expected["seq/recent/item"][:3])
    assert found["labels"][first].tolist() != expected["labels"][first].tolist()


# What a build refuses -------------------------------------------------------------------------------------------------------------


def _refused(log: Path, output: Path, message: str, spec: str = SPEC, **changes: Any) -> None:
    with pytest.raises(CvrError, match=message):
        build(settings(log, output, spec, **changes))
    assert not list(output.glob("**/manifest.json")) and not list(output.glob("data-*"))


REFUSED: dict[str, tuple[Callable[[str], str], dict[str, Any], str]] = {
    "unknown impression column": (
        lambda s: s.replace("impression.price", "impression.prize"), {}, "the impressions have no column 'prize'; they have cust",
    ),
    "unknown item column": (lambda s: s.replace("item.stock", "item.stocks"), {}, "features.stock: the items have no column 'stocks'"),
    "unknown event of a task": (
        lambda s: s.replace("{events: [click], w", "{events: [klick], w"), {}, "tasks.click.events: the log has no event klick",
    ),
    "unknown event of a feature": (
        lambda s: s.replace("purchase], length", "share], length"), {}, "features.recent: the log has no event share; it has click",
    ),
    "no positive": (lambda s: s.replace(": 1h", ": 1s"), {}, "tasks.click: no training list .*out_of_window 40, unattributed 0"),
    "empty training split": (lambda s: s, {"test_from": T0}, r"train split \(from the beginning to 2026-01-01T00:00:00Z\) holds no"),
    "empty test split": (lambda s: s, {"test_from": T0 + 30 * DAY}, r"test split \(from 2026-01-31T00:00:00Z to the end\) holds no list"),
    "range outside the log": (lambda s: s, {"start": T0 - 9 * DAY, "test_from": T0 - DAY, "end": T0}, "the train split .* holds no list"),
}  # fmt: skip


NEEDS_A_RUN = ("no positive", "empty test split", "unknown item column")


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, log: Path, built: tuple[Path, Manifest], tmp_path: Path) -> None:
    change, flags, message = REFUSED[name]
    assert change(SPEC) != SPEC or flags
    if name in NEEDS_A_RUN:
        _refused(log, tmp_path / "out", message, change(SPEC), **flags)
        return
    wanted = settings(log, tmp_path / "out", change(SPEC), **flags)
    counts = json.loads(next(built[0].glob("data-*/counts.json")).read_text())
    if flags:
        counts["splits"] = {name: {"lists": 0} for name in counts["splits"]}
    with pytest.raises(CvrError, match=message):
        checks.check_columns(wanted, canonical.find(wanted.input))
        checks.check_counts(wanted, counts)


def test_a_missing_input_and_an_unknown_source(tmp_path: Path) -> None:
    _refused(tmp_path / "nowhere", tmp_path / "out", "--input=.*nowhere: no such folder")


def test_a_log_without_rows(tmp_path: Path) -> None:
    _refused(
        write_log(tmp_path / "log", [], []),
        tmp_path / "out",
        "features.price: the impressions have no column|the log has no impressions",
    )


def test_a_log_with_columns_but_no_rows(tmp_path: Path) -> None:
    bare = (
        SPEC[: SPEC.index("features:")] + "features:\n  p: {kind: numerical, level: item, from: impression.position}\n"
    )
    _refused(write_log(tmp_path / "log", [], []), tmp_path / "out", "the log has no impressions", bare)


def test_a_truncated_file_names_it(log: Path, tmp_path: Path) -> None:
    import gzip

    copy = write_log(tmp_path / "log", *small_log())
    rows, _ = small_log()
    whole = gzip.compress("".join(json.dumps(row) + "\n" for row in rows * 2000).encode())
    (copy / "impressions" / "zz.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    _refused(copy, tmp_path / "out", r"zz.jsonl.gz: the file is cut off")


def test_too_many_bad_rows_fail_and_few_are_set_aside(tmp_path: Path) -> None:
    rows, events = small_log()
    rows[3]["item_id"] = None
    log = write_log(tmp_path / "log", rows, events)
    message = r"1 of 196 rows are bad \(0.51%, allowed --max_bad_fraction=0.001\); the first: .*row 3 .*item_id is null"
    _refused(log, tmp_path / "out", message)
    manifest = build(settings(log, tmp_path / "out", max_bad_fraction=0.01))
    assert manifest.counts["bad"] == {"impressions": 1, "engagements": 0, "items": 0}
    letters = [
        json.loads(line)
        for path in (tmp_path / "out").glob("data-*/bad/*.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert [(letter["table"], letter["row"], letter["reason"]) for letter in letters] == [
        ("impressions", 3, "item_id is null or empty")
    ]
    assert letters[0]["record"]["search_id"] == "s1"


def test_a_published_output_is_refused_and_left_alone(built: tuple[Path, Manifest], log: Path) -> None:
    before = sorted(built[0].rglob("*"))
    with pytest.raises(CvrError, match="holds published lists"):
        build(settings(log, built[0]))
    assert sorted(built[0].rglob("*")) == before


def test_ctrl_c_publishes_nothing_and_the_next_run_works(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: str, records: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(write, "write_records", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build(settings(log, tmp_path / "out"))
    assert not list((tmp_path / "out").glob("*"))
    (tmp_path / "out" / "data-0123456789ab" / "train").mkdir(parents=True)  # what kill -9 leaves behind
    assert build(settings(log, tmp_path / "out")).split("train").lists == 24
    assert len(list((tmp_path / "out").glob("data-*"))) == 1


# The command ----------------------------------------------------------------------------------------------------------------------


def _command(log: Path, output: Path, spec: Path, *more: str) -> list[str]:
    flags = [
        f"--input={log}",
        f"--spec={spec}",
        f"--output={output}",
        "--test_from=2026-01-03",
        "--drop_unconverted=none",
        *more,
    ]
    return [sys.executable, "-m", "pipelines.build_lists", *flags]


@pytest.fixture(scope="module")
def spec_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spec") / "tiny.yaml"
    path.write_text(SPEC)
    return path


def test_the_command_builds_with_beam_flags(log: Path, spec_file: Path, tmp_path: Path) -> None:
    command = _command(log, tmp_path / "out", spec_file, "--runner=DirectRunner", "--direct_num_workers=1")
    found = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr
    assert "apitools" not in found.stderr, "Beam's warning about a library that nothing here uses"
    assert re.search(r"^train: 24 lists, 80 items, labels: click 24, purchase 12$", found.stdout, re.M)


def test_a_flag_that_nobody_knows_is_a_usage_error() -> None:
    beam_flags.check_beam_flags(["--runner=FlinkRunner", "--flink_master=localhost:8081", "--direct_num_workers=2"])
    for wrong in ("--partition=3", "logs"):
        with pytest.raises(app.UsageError, match=f"unknown flag or argument '{wrong}'"):
            beam_flags.check_beam_flags(["--runner=DirectRunner", wrong])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_ctrl_c_while_the_command_reads(spec_file: Path, tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", *small_log())
    pipe = log / "impressions" / "waits.jsonl"
    os.mkfifo(pipe)
    process = subprocess.Popen(
        _command(log, tmp_path / "out", spec_file), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    writer = _open_when_read(pipe, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    os.close(writer)
    assert process.returncode == 130, errors
    assert "interrupted; nothing was published" in errors
    assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True


def _open_when_read(pipe: Path, process: subprocess.Popen[str]) -> int:
    """Opens the pipe for writing as soon as the command reads from it."""
    for _ in range(2400):
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
    raise AssertionError("the command never opened its input")
