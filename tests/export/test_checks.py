from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from cvr import records
from cvr.errors import CvrError
from cvr.schema import parse_spec
from export.checks import Difference, Subject, compare_all, report, table
from export.example import example_search
from export.lists import permuted, read_lists
from tests.export.conftest import Exported
from tests.export.tiny import SPEC, make_run

CHECKS = [
    "padding", "saved_model", "grpc", "batch_mates", "permutation",
    "raw_requests", "two_phases", "raw_batch_mates", "raw_permutation",
]  # fmt: skip


def test_everything_gives_the_same_scores(subject: Subject, exported: Exported) -> None:
    searches = [example_search(exported.run.spec, items=1 + 2 * seed, seed=seed, gaps=0.1) for seed in range(8)]
    differences = compare_all(subject, exported.records, searches)
    assert [entry.name for entry in differences] == CHECKS
    assert max(entry.largest_difference for entry in differences) <= 1e-5, table(differences, 1e-5)


def test_other_weights_are_found_out(subject: Subject, exported: Exported, tmp_path: Path) -> None:
    other, _ = make_run(tmp_path / "model")
    other.extraction.table_variables[0].assign_add(tf.ones_like(other.extraction.table_variables[0]))
    wrong = dataclasses.replace(subject, ranker=other)
    failed = {d.name for d in compare_all(wrong, exported.records[:4], [example_search(exported.run.spec)]) if d.largest_difference > 1e-5}
    assert failed == {"saved_model", "grpc", "raw_requests"}


def test_display_order_matters_to_this_model(subject: Subject, exported: Exported) -> None:
    """Otherwise the permutation check would prove nothing."""
    arrays = {"examples": np.array(exported.records, object)}
    before = subject.servable.run("score_lists", arrays)["score"]
    spec = exported.run.spec
    turned = []
    for record in exported.records:
        columns = records.parse(spec, tf.constant([record]))
        n = int(columns["list_size"][0])
        backwards = permuted(spec, record, range(n - 1, -1, -1))
        turned.append(backwards)
    same = subject.servable.run("score_lists", {"examples": np.array(turned, object)})["score"]
    sizes = subject.servable.run("score_lists", arrays)["list_size"]
    ends = np.cumsum(sizes)
    back = np.concatenate([same[end - size : end][::-1] for size, end in zip(sizes, ends, strict=True)])
    np.testing.assert_allclose(back, before, atol=1e-5)
    batch_of_rows = subject.of_records(turned)[:, 0]
    by_row = np.concatenate([batch_of_rows[end - size : end][::-1] for size, end in zip(sizes, ends, strict=True)])
    assert np.abs(by_row - before).max() > 1e-3


def test_permuted_record_holds_the_same_items(exported: Exported) -> None:
    spec, record = exported.run.spec, max(exported.records, key=len)
    size = int(records.parse(spec, tf.constant([record]))["list_size"][0])
    order = np.random.default_rng(0).permutation(size)
    assert permuted(spec, permuted(spec, record, order), np.argsort(order)) == permuted(spec, record, range(size))


def test_report() -> None:
    entries = [Difference("a", "one", 1e-6, 3), Difference("b", "two", float("inf"), 4)]
    assert report(entries[:1], 1e-5)["passed"] and not report(entries, 1e-5)["passed"]
    assert report(entries, 1e-5)["checks"]["b"]["logits"] == 4
    assert [line[:4] for line in table(entries, 1e-5).splitlines()] == ["ok  ", "FAIL"]


def test_lists_of_another_spec(exported: Exported) -> None:
    other = parse_spec(SPEC.replace("ngrams: [3]", "ngrams: [2]"))
    with pytest.raises(CvrError, match="the lists in .* were built with feature spec"):
        read_lists(str(exported.lists), "test", 3, other)


def test_damaged_record_file(exported: Exported, tmp_path: Path) -> None:
    manifest = (exported.lists / "manifest.json").read_text(encoding="utf-8")
    (tmp_path / "manifest.json").write_text(manifest, encoding="utf-8")
    source = next(exported.lists.rglob("*.gz"))
    copy = tmp_path / source.relative_to(exported.lists)
    copy.parent.mkdir(parents=True)
    content = bytearray(source.read_bytes())
    content[len(content) // 2] ^= 0xFF
    copy.write_bytes(content)
    with pytest.raises(CvrError, match="is damaged"):
        read_lists(str(tmp_path), "test", 100)
