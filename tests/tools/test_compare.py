"""`tools.compare` on made-up evaluations: what must agree, slices, corrections, and what is published."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from absl import flags

from cvr.errors import CvrError
from cvr.manifest import load_manifest
from tests.commands import run_main
from tests.support import LEAN, random_columns, tiny_spec, write_lists
from tools import compare
from tools.comparison.slices import by_category, by_frequency, by_value
from tools.comparison.statistics import Comparison
from tools.comparison.table import Row, correct

LISTS = 60


def _evaluation(folder: Path, values: np.ndarray, about: dict | None = None, **columns: object) -> Path:
    """An evaluation of task purchase; list 3 has no positive, and of task click without one."""
    folder.mkdir(parents=True)
    frame = pd.DataFrame(
        {
            "search_id": [f"s{number // 2}-{number}" for number in range(LISTS)],
            "time": 1_767_225_600_000 + 3_600_000 * np.arange(LISTS),
            "items": 1 + np.arange(LISTS) % 3,
            "positives": (np.arange(LISTS) != 3).astype(np.int64),
            "map": np.where(np.arange(LISTS) == 3, np.nan, values),
            "map_display_order": np.where(np.arange(LISTS) == 3, np.nan, 0.5),
            "task": "purchase",
        }
    ).assign(**columns)
    nothing = frame.assign(task="click", map=np.nan)
    pd.concat([frame, nothing], ignore_index=True).to_parquet(folder / "per_list.parquet")
    (folder / "summary.json").write_text(json.dumps({"split": "test", "data": "d1", **(about or {})}))
    return folder


@pytest.fixture
def low() -> np.ndarray:
    return np.linspace(0.2, 0.6, LISTS)


def _run(*arguments: object) -> None:
    """The command; arguments without -- are the systems."""
    given = [str(argument) for argument in arguments]
    systems = [argument for argument in given if not argument.startswith("--")]

    class Command:
        __name__ = "compare"
        define_flags = staticmethod(compare.define_flags)
        main = staticmethod(lambda _: compare.main(["compare", *systems]))

    run_main(Command, *(argument for argument in given if argument.startswith("--")))  # type: ignore[arg-type]


def _error(*arguments: object) -> str:
    with pytest.raises(CvrError) as caught:
        _run(*arguments)
    return str(caught.value)


def test_table_json_and_plot(tmp_path: Path, low: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    noise = np.where(np.arange(LISTS) % 2, 0.05, -0.05)
    for seed in range(3):
        _evaluation(tmp_path / f"b_{seed}", low + 0.1 + noise * (seed - 1) + 0.001 * seed)
    a, out = _evaluation(tmp_path / "a", low), tmp_path / "out"
    _run(f"a={a}", f"b={tmp_path}/b_*", "display_order", f"--output={out}", "--tasks=purchase", "--margin=0.15", "--replicates=500")
    result = json.loads((out / "comparison.json").read_text())
    first, second = result["overall"]
    assert (first["system"], first["reference"], first["lists"], first["seeds"]) == ("b", "a", 59, [1, 3])
    assert first["difference"] == pytest.approx(0.101) and first["mean_reference"] == pytest.approx(np.delete(low, 3).mean())
    assert first["se_seeds"] == pytest.approx(np.std(np.delete(noise, 3).mean() * np.arange(3) + 0.001 * np.arange(3), ddof=1) / np.sqrt(3))
    assert second["system"] == "display_order" and second["difference"] == pytest.approx(0.5 - np.delete(low, 3).mean())
    assert first["verdict"] == second["verdict"] == "higher, equivalent"
    assert second["p"] < first["p"] and [row["p_corrected"] for row in (first, second)] == pytest.approx([first["p"], 2 * second["p"]])
    assert result["systems"]["b"] == [str(tmp_path / f"b_{seed}") for seed in range(3)]
    assert (out / "forest_purchase_map.png").read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out
    assert "purchase, map: reference a, 0.4030 on 59 lists, 1 seed" in said and "a system with one seed" in said
    assert "already holds a comparison" in _error(a, tmp_path / "b_0", f"--output={out}")


def test_slices(tmp_path: Path, low: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    """The second system is better by .2 on the lists of one item."""
    a = _evaluation(tmp_path / "a", low)
    b = _evaluation(tmp_path / "b", low + 0.2 * (np.arange(LISTS) % 3 == 0) + 0.01 * np.sin(np.arange(LISTS)))
    _run(a, b, f"--output={tmp_path}/out", "--tasks=purchase", "--slices=items,time", "--min_lists=16", "--replicates=500")
    rows = json.loads((tmp_path / "out" / "comparison.json").read_text())["slices"]
    found = {(row["slicing"], row["slice"]): row for row in rows}
    assert [key[1] for key in found if key[0] == "items"] == ["1", "2", "3"]
    assert [found["items", value]["lists"] for value in "123"] == [19, 20, 20]
    assert found["items", "1"]["difference"] == pytest.approx(0.2, abs=0.003) and found["items", "1"]["verdict"] == "higher"
    assert found["items", "2"]["verdict"] == "undecided"
    said = capsys.readouterr().out
    assert "left out: purchase, map, time 01-01 00:00 to 01-01 15:00: 15 lists, fewer than --min_lists" in said


def test_lists_in_another_order_are_paired_by_their_search(tmp_path: Path, low: np.ndarray) -> None:
    a, b = _evaluation(tmp_path / "a", low), _evaluation(tmp_path / "b", low + 0.1)
    frame = pd.read_parquet(b / "per_list.parquet")
    frame.sample(frac=1, random_state=0).to_parquet(b / "per_list.parquet")
    _run(a, b, f"--output={tmp_path}/out", "--tasks=purchase", "--replicates=100")
    (row,) = json.loads((tmp_path / "out" / "comparison.json").read_text())["overall"]
    assert row["interval"] == pytest.approx([0.1, 0.1]) and row["se_lists"] == pytest.approx(0, abs=1e-12)


def test_clusters_of_searches(tmp_path: Path, low: np.ndarray) -> None:
    """Lists 2k and 2k + 1 belong together, and b gains on both of every second pair: pairs count, not lists."""
    a, b = _evaluation(tmp_path / "a", low), _evaluation(tmp_path / "b", low + 0.1 * (np.arange(LISTS) // 2 % 2))
    result = {}
    for name, flag in (("lists", "--cluster="), ("pairs", r"--cluster=^(s\d+)-")):
        _run(a, b, f"--output={tmp_path}/{name}", "--tasks=purchase", "--replicates=100", flag)
        (result[name],) = json.loads((tmp_path / name / "comparison.json").read_text())["overall"]
    assert (result["lists"]["clusters"], result["pairs"]["clusters"]) == (59, 30)
    assert result["pairs"]["se_lists"] == pytest.approx(np.sqrt(2) * result["lists"]["se_lists"], rel=0.02)
    assert "does not match search id 's0-0'" in _error(a, b, f"--output={tmp_path}/x", "--tasks=purchase", "--cluster=^(x)")


def test_what_differs_is_named(tmp_path: Path, low: np.ndarray) -> None:
    a, out = _evaluation(tmp_path / "a", low), f"--output={tmp_path}/out"
    other = _evaluation(tmp_path / "data", low, {"data": "d2"})
    assert f"data is d1 in {a} and d2 in {other}" in _error(a, other, out)
    _run(a, other, f"--output={tmp_path}/forced", "--nosame_data", "--tasks=purchase", "--replicates=100")
    split = _evaluation(tmp_path / "split", low, {"split": "validation"})
    assert f"split is test in {a} and validation in {split}" in _error(a, split, out, "--nosame_data")
    ids = _evaluation(tmp_path / "ids", low, search_id=[f"s{n // 2}-{n}" for n in range(LISTS - 1)] + ["new"])
    assert "rank different lists: 2 are in one only, such as" in _error(a, ids, out)
    twice = _evaluation(tmp_path / "twice", low, search_id="s")
    assert "search s has two lists of task" in _error(a, twice, out)
    labels = _evaluation(tmp_path / "labels", low, positives=1)
    assert f"list s1-3: positives is 0 in {a} and 1 in {labels}" in _error(a, labels, out)
    undefined = _evaluation(tmp_path / "undefined", low, map=np.nan)
    assert "map of" in _error(a, undefined, out, "--tasks=purchase")
    assert "map is defined on 0 lists" in _error(undefined, a, out, "--tasks=click")


def test_arguments(tmp_path: Path, low: np.ndarray) -> None:
    a, b, out = _evaluation(tmp_path / "a", low), _evaluation(tmp_path / "b", low), f"--output={tmp_path}/out"
    assert "two or more systems" in _error(a, out)
    assert f"no finished evaluation in {tmp_path}/c" in _error(a, tmp_path / "c", out)
    assert "no folder fits" in _error(a, f"{tmp_path}/c*", out)
    assert "is given twice" in _error(a, f"b={a},{b}", out)
    assert "two systems are called 'x'" in _error(f"x={a}", f"x={b}", out)
    assert "none of p, q is a folder" in _error("p", "q", out)
    assert "popularity is neither a folder nor, for map, a baseline" in _error(a, "popularity", out)
    assert "has no column 'auc'; there are map, map_display_order" in _error(a, b, out, "--metrics=auc")
    assert "not all evaluations have rent; in all of them: purchase, click" in _error(a, b, out, "--tasks=rent")
    assert "'device' needs --lists" in _error(a, b, out, "--tasks=purchase", "--slices=device")


def test_features_of_the_lists(tmp_path: Path) -> None:
    """Sliced by the lists' own device, by how often training saw it, and by the number of events in the history."""
    spec, folder = tiny_spec(LEAN), tmp_path / "lists"
    parts = {split: random_columns(spec, count, seed) for seed, (split, count) in enumerate((("train", 50), ("test", LISTS)))}
    for part in parts.values():
        part.cat["device"][:] = np.where(np.arange(len(part.lengths)) % 3 == 0, 77, 88)
    parts["test"].cat["device"][:10] = 99
    write_lists(folder, {split: [part] for split, part in parts.items()}, LEAN)
    about = {"data": load_manifest(folder).data_fingerprint()}
    ids, values = [f"1-{n}" for n in range(LISTS)], np.linspace(0, 1, LISTS)
    a, b = (_evaluation(tmp_path / name, values, about, search_id=ids) for name in "ab")
    common = (a, b, f"--lists={folder}", "--tasks=purchase", "--replicates=100", "--min_lists=2")
    _run(*common, f"--output={tmp_path}/out", "--slices=device,frequency:device,recent")
    rows = json.loads((tmp_path / "out" / "comparison.json").read_text())["slices"]
    sizes = {(row["slicing"], row["slice"]): row["lists"] for row in rows}
    counted = {name: sum(size for (slicing, _), size in sizes.items() if slicing == name) for name, _ in sizes}
    assert set(counted.values()) == {LISTS - 1}
    assert sizes["device", "88"] == 34 and sizes["device", "77"] == 16 and sizes["device", "99"] == 9
    assert sizes["frequency:device", "head (n 33 to 33)"] == 34 and sizes["frequency:device", "torso (n 17 to 17)"] == 16
    assert sizes["frequency:device", "new"] == 9
    lengths = parts["test"].sequences["recent"].lengths
    unseen = np.array([len(h) == 1 and h[0] == 1 for h in np.split(parts["test"].sequences["recent"].item, np.cumsum(lengths)[:-1])])
    unseen[3] = False
    assert sizes["recent (events)", "unseen"] == unseen.sum() > 1
    assert "'price' is no context feature" in _error(*common, f"--output={tmp_path}/x", "--slices=price")
    other = _evaluation(tmp_path / "other", values), _evaluation(tmp_path / "another", values)
    assert "and evaluated was d1" in _error(*other, *common[2:], f"--output={tmp_path}/x", "--slices=device")


def test_ranges_keep_a_value_together() -> None:
    found = by_value("items", np.array([25] * 70 + list(range(1, 25)) + [0] * 6), 4)
    assert found.labels == ("0 to 19", "20 to 24", "25") or found.labels == ("0 to 24", "25")
    assert [found.labels[code] for code in found.codes[[0, -1]]] == ["25", found.labels[0]]
    zeros = by_value("count", np.array([0.0] * 80 + [1, 2, 3, 4] * 5), 4)
    assert zeros.labels == ("0", "1 to 4") and np.bincount(zeros.codes).tolist() == [80, 20]
    even = by_value("x", np.arange(100.0), 4)
    assert np.bincount(even.codes).tolist() == [25, 25, 25, 25] and even.labels[0] == "0 to 24"
    states = by_value("x", np.array([1.0, np.nan, np.nan]), 4, np.array(["present", "unseen", "missing"], object))
    assert states.labels == ("1", "missing", "unseen") and states.codes.tolist() == [0, 2, 1]


def test_head_torso_and_tail() -> None:
    """12 training lists: a in 5, b in 3, c in 2, d and e in 1. Thirds begin at 0, 4 and 8: a and b begin below 4 and 8."""
    train = np.repeat(np.array([1, 2, 3, 4, 5]), [5, 3, 2, 1, 1])
    found = by_frequency("query", np.array([1, 2, 3, 4, 5, 6]), train)
    assert found.labels == ("head (n 5 to 5)", "torso (n 3 to 3)", "tail (n 1 to 2)", "new")
    assert found.codes.tolist() == [0, 1, 2, 2, 2, 3]


def test_categories() -> None:
    found = by_category("device", np.array(["a", "b", "b", "c", "c", "c", "d"], object), 2)
    assert found.labels == ("c", "b", "other") and found.codes.tolist() == [2, 1, 1, 0, 0, 0, 2]
    assert by_category("device", np.array(["a", "b"], object), 2).labels == ("a", "b")


@pytest.mark.parametrize(("correction", "expected"), [("holm", [0.06, 0.06]), ("bh", [0.04, 0.04]), ("none", [0.03, 0.04])])
def test_a_table_is_corrected_as_a_whole(correction: str, expected: list[float]) -> None:
    found = [Comparison(9, 9, (1, 1), 0.5, 0.6, 0.1, (0, 1), 0.2, (0, 1), p, None, 0.1, 0.0, 0.1) for p in (0.03, 0.04)]
    rows = correct([Row("t", "map", "", "", "a", name, one) for name, one in zip("bc", found, strict=True)], correction)
    assert [row.p for row in rows] == pytest.approx(expected)
    assert [row.verdict for row in rows] == ["undecided" if p >= 0.05 else "higher" for p in expected]


def test_flags_and_systems_may_be_mixed() -> None:
    before = set(flags.FLAGS)
    try:
        compare.define_flags()
        assert flags.FLAGS(["compare", "x", "--output=o", "y"]) == ["compare", "x", "y"]
    finally:
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()
