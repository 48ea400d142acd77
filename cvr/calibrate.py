"""Fits probabilities to a run's scores: `python -m cvr.calibrate --run=<folder> --lists=<folder> --split=validation --method=platt`.

Writes `calibration.json` into the run's folder; `cvr.evaluate` then reports the run's probabilities before and after it, and an export of
the run returns them.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from absl import flags

from cvr.calibration import CALIBRATION_FILE, METHODS, Calibration, fit_task
from cvr.errors import CvrError, run_main
from cvr.links import condition_of, conditioned, link_of
from cvr.manifest import Manifest, load_manifest, publish_json
from cvr.runs import Run, load_ranker, load_run
from cvr.scoring import ScoredLists, score_split

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The job's flags."""
    flags.DEFINE_string("run", None, "Folder of a finished training run; must not hold a calibration.", required=True)
    flags.DEFINE_string("lists", None, "Folder of list records.", required=True)
    flags.DEFINE_string("split", "validation", "Split to fit on; not one that the run was trained on.")
    flags.DEFINE_enum("method", "platt", METHODS, "How log-odds become probabilities (docs/modelers.md).")
    flags.DEFINE_integer("batch_items", 4096, "Items per batch.", lower_bound=1)


def check_split(info: dict[str, Any], manifest: Manifest, split: str) -> None:
    """Raises CvrError where the run was trained on the split, or may have been: in other lists, where it is not later than all of them."""
    trained = info["flags"]["train_splits"]
    if info["data"] == manifest.data_fingerprint():
        if split in trained:
            raise CvrError(
                f"--split={split}: the run was trained on it ({', '.join(trained)}), so its scores there are better than elsewhere; "
                "fit on a split that it has not seen"
            )
        return
    first, last = manifest.split(split).first_time, info.get("last_training_time")
    if first is None or last is None or first <= last:
        raise CvrError(
            f"these are not the lists that the run was trained on, and their split {split!r} does not begin after its training lists end, "
            "so it may hold some of them; give the run's own lists, or later ones"
        )


def fit(run: Run, scored: ScoredLists, manifest: Manifest) -> Calibration:
    """The calibration of every task. Raises CvrError naming a task that cannot be calibrated."""
    condition, link = condition_of(manifest), link_of(run.info)
    names = run.spec.task_names
    about = conditioned(scored, condition, names.index(run.spec.primary_task))
    tasks = {
        task: fit_task(FLAGS.method, link, about.scores[:, place], about.labels[:, place], about.lengths, task)
        for place, task in enumerate(names)
    }
    return Calibration(
        method=FLAGS.method,
        loss=link.loss.name,
        anchor_label=link.loss.anchor_label,
        condition=condition,
        split=FLAGS.split,
        data=manifest.data_fingerprint(),
        checkpoint=run.info["checkpoint"],
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        lists=len(about.lengths),
        tasks=tasks,
    )


def describe(calibration: Calibration) -> str:
    """A line per task for a terminal."""
    lines = [f"{calibration.method} on {calibration.lists:,} lists of split {calibration.split!r}: {calibration.meaning}"]
    for task, found in calibration.tasks.items():
        shape = (
            f"{len(found.log_odds)} knots"
            if found.log_odds
            else f"slope {found.slope:.4f}  intercept {found.intercept:+.4f}  temperature {found.temperature:.4f}"
        )
        before, after = found.log_loss
        lines.append(f"  {task:<12} {found.positives:>8,} of {found.items:,} items  log loss {before:.5f} -> {after:.5f}  {shape}")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    """Scores the split, fits every task and publishes the file in one rename."""
    del argv
    run = load_run(FLAGS.run)
    path = run.folder / CALIBRATION_FILE
    if path.is_file():
        raise CvrError(f"{path} is there already; remove it to fit another, and export the run again afterwards")
    check_split(run.info, load_manifest(FLAGS.lists), FLAGS.split)
    ranker, run = load_ranker(FLAGS.run)
    scored, manifest = score_split(ranker, run.spec, FLAGS.lists, FLAGS.split, FLAGS.batch_items)
    calibration = fit(run, scored, manifest)
    publish_json(path, calibration)
    print(f"{describe(calibration)}\nwritten to {path}")
    return 0


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main)


if __name__ == "__main__":
    entry()
