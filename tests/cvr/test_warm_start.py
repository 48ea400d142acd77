"""Starting from another run: what is loaded, bit for bit, and what starts anew, for each kind of change."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from cvr.data import dummy_batch
from cvr.errors import CvrError
from cvr.manifest import publish_json
from cvr.ranker import Ranker, RankerConfig, build_ranker
from cvr.warm_start import Base, Outcome, find_base, summary, variables_of, warm_start
from tests.cvr.jobs import message, small_model, train_job
from tests.support import LEAN, random_columns, tiny_spec, write_lists

FACTORS = {"cross_width": 4, "deep_width": 4, "parallel_blocks": 1}
GROWN = LEAN.replace("  touched:", "  rating: {kind: numerical, level: item, from: item.rating}\n  touched:")
MODEL = small_model("--epochs=1")


def _ranker(text: str, seed: int, backbone: str = "masknet", **factors: int) -> Ranker:
    spec = tiny_spec(text)
    config = RankerConfig(backbone, {**FACTORS, **factors} if backbone == "masknet" else {}, 2, 4, 3, seed=seed)
    return build_ranker(spec, config, dummy_batch(spec))


@dataclasses.dataclass(frozen=True)
class _Saved:
    """A base and its values by path."""

    base: Base
    values: dict[str, np.ndarray]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> _Saved:
    return _save(LEAN, tmp_path_factory.mktemp("base"))


def _save(text: str, folder: Path) -> _Saved:
    """A ranker, saved as a finished run: every number of it random."""
    ranker = _ranker(text, 1)
    random = np.random.default_rng(1)
    for variable in variables_of(ranker).values():
        if variable.dtype.is_floating:
            variable.assign(random.normal(size=variable.shape))
    tf.train.Checkpoint(model=ranker).write(str(folder / "checkpoints" / "ckpt-7"))
    (folder / "spec.yaml").write_text(text)
    model = {"backbone": "masknet", "backbone_config": FACTORS}
    publish_json(folder / "run.json", {"status": "finished", "model": model, "checkpoint": "checkpoints/ckpt-7", "data": "abc"})
    return _Saved(find_base(str(folder)), {path: variable.numpy() for path, variable in variables_of(ranker).items()})


def _start(text: str, saved: _Saved) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict, dict[str, Outcome]]:
    """(the base's values, those as initialised, those after the warm start, outcomes), each by path."""
    ranker = _ranker(text, seed=2)
    fresh = {path: variable.numpy() for path, variable in variables_of(ranker).items()}
    outcomes = {outcome.variable: outcome for outcome in warm_start(ranker, saved.base)}
    assert outcomes.keys() >= fresh.keys()
    return saved.values, fresh, {path: variable.numpy() for path, variable in variables_of(ranker).items()}, outcomes


def test_a_context_feature_more_and_an_encoder_that_reads_it(tmp_path: Path) -> None:
    """Which layer of a profile is whose would change; all others of the encoder are loaded."""
    text = LEAN.replace("length: 4}, ", "length: 4}, encoder: {name: suan, width: 4}, ")
    hour = text.replace("  touched:", "  hour: {kind: numerical, level: context, from: impression.hour}\n  touched:")
    outcomes = _start(hour, _save(text, tmp_path))[3]
    found: dict[bool, set[str]] = {}
    for path, outcome in outcomes.items():
        if path.startswith("extraction/_encoders/"):
            found.setdefault("/_profile/" in path, set()).add(f"{outcome.status} {outcome.reason}".strip())
    assert found == {True: {"re-initialised features added hour", "new not in the base"}, False: {"loaded"}}


def test_paths_are_those_of_checkpoints(saved: _Saved) -> None:
    values = saved.base.values()
    assert values.keys() == saved.values.keys()
    for path, value in values.items():
        np.testing.assert_array_equal(value, saved.values[path], err_msg=path)


def test_a_feature_more_makes_only_the_projection_start_anew(saved: _Saved) -> None:
    old, fresh, now, outcomes = _start(GROWN, saved)
    anew = {path for path, outcome in outcomes.items() if outcome.status != "loaded"}
    projection = {path for path in now if path.startswith("projection/")}
    assert projection == {"projection/context_kernel", "projection/item_kernel", "projection/bias"}
    assert anew == projection | {"dropout_step", "extraction/numericals/item/statistics"}
    for path, value in now.items():
        np.testing.assert_array_equal(value, fresh[path] if path in anew else old[path], err_msg=path)
    assert outcomes["projection/bias"].reason == "features added rating"
    assert outcomes["projection/item_kernel"].base_shape != outcomes["projection/item_kernel"].shape
    text = summary(saved.base, list(outcomes.values()))
    assert "re-initialised: projection/bias, projection/context_kernel, projection/item_kernel (features added rating)" in text


def test_a_feature_less_drops_its_table(saved: _Saved) -> None:
    without = LEAN.replace("  device: {kind: categorical, level: context, from: impression.device, embedding: {buckets: 5, dim: 2}}\n", "")
    old, _, now, outcomes = _start(without, saved)
    assert outcomes["extraction/tables/device/table"].status == "dropped"
    assert outcomes["projection/bias"].reason == "features removed device"
    np.testing.assert_array_equal(now["extraction/tables/tags/table"], old["extraction/tables/tags/table"])


def test_the_same_features_keep_the_projection_with_new_statistics(saved: _Saved) -> None:
    old, fresh, now, outcomes = _start(LEAN, saved)
    anew = {path for path, outcome in outcomes.items() if outcome.status != "loaded"}
    assert anew == {"dropout_step", "extraction/numericals/item/statistics"}
    np.testing.assert_array_equal(now["projection/item_kernel"], old["projection/item_kernel"])
    np.testing.assert_array_equal(now["extraction/numericals/item/statistics"], fresh["extraction/numericals/item/statistics"])


def test_a_resized_table_leaves_the_projection_alone(saved: _Saved) -> None:
    old, _, now, outcomes = _start(LEAN.replace("buckets: 30", "buckets: 60"), saved)
    table = old["extraction/tables/tags/table"]
    assert outcomes["extraction/tables/tags/table"].status == "resized"
    np.testing.assert_array_equal(now["extraction/tables/tags/table"], np.concatenate([table, table[4:]]))
    assert outcomes["projection/item_kernel"].status == "loaded"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("embedding: {buckets: 30, dim: 2}", "embedding: {buckets: 30, dim: 3}"), "features changed tags"),
        (("from: item.price", "from: item.cost"), "features changed price"),
        (("from: item.price}", "from: item.price, transforms: [zscore]}"), "features changed price"),
    ],
)
def test_a_feature_that_means_something_else(change: tuple[str, str], named: str, saved: _Saved) -> None:
    _, _, _, outcomes = _start(LEAN.replace(*change), saved)
    assert outcomes["projection/bias"].status == "re-initialised" and named in outcomes["projection/bias"].reason


def test_a_history_of_other_events_starts_anew(saved: _Saved) -> None:
    _, _, _, outcomes = _start(LEAN.replace("events: [click, purchase], length", "events: [click, view], length"), saved)
    own = [outcome for path, outcome in outcomes.items() if path.startswith(("extraction/_events/", "extraction/_encoders/"))]
    assert own and all((outcome.status, outcome.reason) == ("re-initialised", "feature recent changed") for outcome in own)
    assert outcomes["extraction/tables/recent/table"].status == "loaded"


def test_tasks_are_matched_by_name(saved: _Saved) -> None:
    """purchase, click becomes click, booking: click's gates, tower and logit move to the first place, booking's are as initialised."""
    tasks = "  click: {events: [click], window: 1h, primary: true}\n  booking: {events: [purchase], window: 1d}\n"
    changed = LEAN[: LEAN.index("  purchase:")] + tasks + LEAN[LEAN.index("features:") :]
    old, fresh, now, outcomes = _start(changed, saved)
    for name in ("logit_kernel", "tower_kernel", "tower_bias"):
        np.testing.assert_array_equal(now[f"head/{name}"], [old[f"head/{name}"][1], fresh[f"head/{name}"][1]], err_msg=name)
    gates = "head/_gates/kernel"  # [D, T * E], two experts
    np.testing.assert_array_equal(now[gates], np.concatenate([old[gates][:, 2:], fresh[gates][:, 2:]], axis=1))
    assert (outcomes[gates].status, outcomes[gates].reason) == ("resized", "tasks click loaded, booking new")
    np.testing.assert_array_equal(now["head/_experts/kernel"], old["head/_experts/kernel"])


def test_another_width_of_the_body(saved: _Saved) -> None:
    """Layers of another shape start anew; where no layer of the backbone fits, there is nothing to start from."""
    base = saved.base
    outcomes = {o.variable: o for o in warm_start(_ranker(LEAN, 2, deep_width=5), base)}
    assert {o.status for path, o in outcomes.items() if path.startswith("backbone/")} == {"loaded", "re-initialised"}
    with pytest.raises(CvrError, match="no variable of its masknet fits this one's scaling factors"):
        warm_start(_ranker(LEAN, 2, deep_width=5, cross_width=5), base)
    with pytest.raises(CvrError, match="has backbone masknet and this run dcnv2"):
        warm_start(_ranker(LEAN, 2, backbone="dcnv2"), base)


# As a user -----------------------------------------------------------------------------------------------------------------


def test_a_run_that_starts_from_another(lists: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On lists with a feature more: validated before the first step, its base noted, and resumable without the base."""
    old = (f"--lists={lists}", f"--output={tmp_path / 'old'}", *MODEL)
    assert train_job(*old) == 0
    spec = tiny_spec(GROWN)
    write_lists(tmp_path / "lists", {"train": [random_columns(spec, 20, 5)], "validation": [random_columns(spec, 9, 6)]}, GROWN)
    new = (f"--lists={tmp_path / 'lists'}", f"--output={tmp_path / 'new'}", f"--warm_start_from={tmp_path / 'old'}", *MODEL)
    assert train_job(*new, "--dry_run") == 0
    assert "(features added rating)" in capsys.readouterr().out and not (tmp_path / "new").exists()
    assert train_job(*new) == 0
    assert "projection/item_kernel (features added rating)" in capsys.readouterr().out
    info = json.loads((tmp_path / "new" / "run.json").read_text())
    before = json.loads((tmp_path / "old" / "run.json").read_text())
    assert info["warm_start"] == {
        "run": str(tmp_path / "old"),
        **{key: before[key] for key in ("checkpoint", "data", "spec_fingerprint")},
    }
    rows = [json.loads(line) for line in (tmp_path / "new" / "history.jsonl").read_text().splitlines()]
    assert [(row["epoch"], row["step"] > 0) for row in rows if row["kind"] == "validation"] == [(0, False), (1, True)]
    assert rows[1]["step"] == 1 and rows[1]["learning_rate"] < 0.01  # a warm-up of its own
    report = json.loads((tmp_path / "new" / "warm_start.json").read_text())
    assert {row["status"] for row in report["variables"]} == {"loaded", "re-initialised"}


@pytest.mark.parametrize(
    ("place", "named"),
    [("nowhere", "no run.json there"), ("run", "this run is not finished"), ("run/checkpoints/ckpt-9", "no checkpoint")],
)
def test_a_base_that_is_not_there(place: str, named: str, lists: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text('{"status": "training"}')
    text = message(train_job, f"--lists={lists}", f"--output={tmp_path / 'm'}", f"--warm_start_from={tmp_path / place}", *MODEL)
    assert named in text and str(tmp_path / place) in text
    assert not (tmp_path / "m" / "run.json").exists()
