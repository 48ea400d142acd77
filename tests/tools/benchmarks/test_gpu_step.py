"""Programs for other devices: what they hold, that they have no loop, and that JAX alone computes what TensorFlow does."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from cvr.data import Budget, dummy_batch
from cvr.errors import CvrError
from cvr.ranker import RankerConfig, build_ranker
from tests.conftest import ROOT
from tests.support import LEAN, batch_of, random_columns, tiny_spec
from tools.benchmarks import gpu_step
from tools.benchmarks.hlo_programs import write_program
from tools.benchmarks.reference_batch import LENGTH, reference_batch, reference_spec

SPEC = tiny_spec(LEAN)
FACTORS = {"cross_width": 8, "deep_width": 8, "cross_layers": 1, "deep_layers": 2}
CONFIG = RankerConfig("dcnv2", FACTORS, experts=2, expert_width=4, tower_width=0)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`step`, `dense` and `backbone` of a tiny ranker in bfloat16, the last two with values."""
    folder = tmp_path_factory.mktemp("programs")
    ranker = build_ranker(SPEC, dataclasses.replace(CONFIG, precision="mixed_bfloat16"), dummy_batch(SPEC))
    batch = batch_of(SPEC, random_columns(SPEC, 8), Budget(50, 10, pad_bags=True))
    made = {
        "step": gpu_step.step_program(ranker, batch, "lazy_adam"),
        "dense": gpu_step.dense_program(ranker, batch),
        "backbone": gpu_step.backbone_program(ranker, batch),
    }
    for name, (function, arguments, states) in made.items():
        write_program(folder / name, function, arguments, {"program": name, "items": 50}, name != "step", states)
    return folder


def _about(programs: Path, name: str) -> dict:
    return json.loads((programs / name / "program.json").read_text())


def test_no_program_has_a_loop(programs: Path) -> None:
    assert [_about(programs, name)["loops"] for name in ("step", "dense", "backbone")] == [0, 0, 0]


def test_loops_are_counted(tmp_path: Path) -> None:
    found = write_program(tmp_path / "p", lambda batch: tf.unique(batch["ids"])[1], {"ids": tf.constant([3, 3, 1])}, {})
    assert found["loops"] > 0


def test_parameters_and_next_values_by_hand(tmp_path: Path) -> None:
    """y = a x + b; b <- b + 1; an empty argument is no parameter."""
    a, b = tf.Variable([[2.0, 4.0]], name="a"), tf.Variable(5.0, name="b")

    def program(batch: dict[str, tf.Tensor]) -> tf.Tensor:
        result = a * batch["x"] + b + tf.reduce_sum(batch["empty"])
        b.assign_add(1.0)
        return result

    found = write_program(tmp_path / "p", program, {"x": tf.constant([[3.0]]), "empty": tf.zeros([0])}, {"name": "p"}, values=True)
    parameters = {entry.get("variable", entry.get("argument")): entry for entry in found["parameters"]}
    assert list(parameters)[0] == "x" and set(parameters) == {"x", "a:0", "b:0"}
    assert (parameters["a:0"]["mean"], parameters["a:0"]["std"], parameters["b:0"]["std"]) == (3.0, 1.0, 0.0)
    place = list(parameters).index("b:0")
    assert (found["outputs"], found["next"]) == (2, [[1, place]])
    expected = np.load(tmp_path / "p" / "expected.npz")
    np.testing.assert_array_equal(expected["0"], [[11.0, 17.0]])
    assert expected["1"] == 6.0


def test_the_whole_step_holds_tables_and_their_moments(programs: Path) -> None:
    names = [entry.get("variable", "") for entry in _about(programs, "step")["parameters"]]
    tables = [name for name in names if name.endswith("/table:0")]
    assert len([name for name in tables if not name.startswith(("m/", "v/"))]) == 3
    assert len(tables) == 9
    assigned = {parameter for _, parameter in _about(programs, "step")["next"]}
    assert {place for place, name in enumerate(names) if name in tables} <= assigned


def test_reference_content() -> None:
    spec = reference_spec(rows=50, dim=2)
    assert len(spec.select(kind="numerical")) == 60 and len(spec.select(kind="text")) == 3
    batch = reference_batch(spec, lists=3)
    assert batch["item_mask"].shape == [3 * LENGTH] and batch["list_size"].numpy().tolist() == [LENGTH] * 3 + [0]
    assert batch["labels"].numpy().reshape(3, LENGTH, 3).sum(axis=1).tolist() == [[1, 1, 2]] * 3
    assert batch["ragged/title/values"].shape[0] == 2560  # 3 lists of 32 titles of 24 ids are 2304
    assert (batch["ragged/title/values"].numpy() > 3).sum() == 2304


def test_runner_needs_nothing_of_ours() -> None:
    text = (ROOT / "tools" / "benchmarks" / gpu_step.RUNNER).read_text()
    imports = {line.split()[1].split(".")[0] for line in text.splitlines() if line.startswith(("import ", "from "))}
    assert imports - sys.stdlib_module_names == {"jax", "numpy"}


def test_jax_computes_what_tensorflow_does(programs: Path, tmp_path: Path) -> None:
    """In a process that cannot find this project."""
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed: pip install '.[jax]'")
    shutil.copy(ROOT / "tools" / "benchmarks" / gpu_step.RUNNER, tmp_path)
    command = [sys.executable, tmp_path / gpu_step.RUNNER, programs, "--repeats=2", "--seconds=0.01", f"--json={tmp_path / 'r.json'}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    results = {result["name"]: result for result in json.loads((tmp_path / "r.json").read_text())["results"]}
    assert set(results) == {"step", "dense", "backbone"}
    assert results["step"]["error"] is None and all(result["ms"] > 0 for result in results.values())
    assert results["backbone"]["error"] < 1e-2 and results["dense"]["error"] < 1e-2


def test_an_output_that_exists_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Flags:
        output = str(tmp_path)

    monkeypatch.setattr(gpu_step, "FLAGS", Flags)
    with pytest.raises(CvrError, match="exists"):
        gpu_step.main([])
