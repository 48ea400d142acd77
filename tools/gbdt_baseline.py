"""LightGBM's LambdaMART on the records and features that our models read: does a network earn its cost?

python -m tools.gbdt_baseline --lists=<folder> --output=<folder> [--tune=20] [--final]

Writes what `cvr.evaluate` writes, by the same code, so `tools.compare` and all else that reads an evaluation reads it, and beside that
`model_<task>.txt`, `importances.parquet` and `trials.json`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf
from absl import flags

from cvr.data import Batch, Budget, split_files
from cvr.errors import CvrError, run_main
from cvr.evaluate import publish
from cvr.manifest import Manifest, load_manifest, publish_json
from cvr.preparation import choose_spec
from cvr.reports import table
from cvr.schema import FeatureSpec
from cvr.scoring import ScoredLists, score_files
from tools.gbdt.boosting import DEFAULTS, Booster, Fitted, Machine, Ranking, load_lightgbm, parse_params
from tools.gbdt.columns import Design, FeatureColumns
from tools.gbdt.tuning import Trial, as_flag, draw, search

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("lists", None, "Folder of list records.", required=True)
    flags.DEFINE_string("output", None, "Folder for the results; must not hold a finished evaluation.", required=True)
    flags.DEFINE_string("spec", None, "Feature spec; by default the one the lists were built with. Derived features may differ.")
    flags.DEFINE_list("train_splits", ["train"], "Splits to train on.")
    flags.DEFINE_string("validation_split", "validation", "Split that stops the training and chooses; empty for none.")
    flags.DEFINE_bool("final", False, "Train once more, on training and validation lists, with as many trees as were best.")
    flags.DEFINE_string("split", "test", "Split to evaluate.")
    flags.DEFINE_list("tasks", None, "Tasks, each with a model of its own; by default the primary one.")
    flags.DEFINE_integer("trees", 2000, "Trees at most; without a validation split, exactly.", lower_bound=1)
    flags.DEFINE_integer("patience", 100, "Trees without a better validation mAP that end a training.", lower_bound=1)
    flags.DEFINE_list("params", [], f"Parameters of LightGBM as name=value, of {', '.join(DEFAULTS)}.")
    flags.DEFINE_integer("tune", 1, "Configurations to try on the validation split: --params, then random ones.", lower_bound=1)
    flags.DEFINE_integer("max_categories", 256, "Buckets of a categorical feature at most; with more it is left out.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Seed of the trees and of the search.", lower_bound=0)
    flags.DEFINE_integer("threads", 0, "LightGBM's threads; 0 for all cores.", lower_bound=0)
    flags.DEFINE_integer("batch_items", 4096, "Items that are read at once.", lower_bound=1)
    flags.DEFINE_integer("bootstrap", 1000, "Bootstrap replicates of the intervals.", lower_bound=10)


@dataclasses.dataclass(frozen=True)
class Data:
    """The lists of a folder as matrices."""

    manifest: Manifest
    spec: FeatureSpec
    columns: FeatureColumns

    def read(self, splits: Sequence[str], function: Any = None) -> ScoredLists:
        """Lists of the splits; `scores` holds, for each item, what `function` gives for a batch: by default its features."""
        longest = max(self.manifest.split(name).max_list_size for name in splits)
        budget = Budget.for_manifest(self.manifest, splits, max(FLAGS.batch_items, longest))
        function = function or tf.function(self.columns.matrix, autograph=False, reduce_retracing=True)
        return score_files(function, self.spec, split_files(FLAGS.lists, self.manifest, splits), budget)


@dataclasses.dataclass(frozen=True)
class TaskModel:
    """A task's trees and how they came about."""

    fitted: Fitted
    design: Design
    trials: list[Trial]
    params: dict[str, float | int]

    def scores(self, matrix: np.ndarray) -> np.ndarray:
        """Scores float64 `[N]` of a matrix of features `[N, C]`."""
        return self.fitted.booster.predict(
            self.design.apply(matrix), num_iteration=self.fitted.trees, num_threads=FLAGS.threads
        )

    def describe(self) -> dict[str, Any]:
        """What `summary.json` says of it."""
        best = max((trial.validation_map for trial in self.trials), default=None)
        return {"params": self.params, "trees": self.fitted.trees, "validation_map": best, "configurations": max(len(self.trials), 1)}


def check_flags(spec: FeatureSpec, manifest: Manifest) -> tuple[str, ...]:
    """The chosen tasks. Raises CvrError for unknown tasks, parameters and splits, and for flags that contradict each other."""
    tasks = tuple(FLAGS.tasks or [spec.primary_task])
    unknown = [task for task in tasks if task not in spec.task_names]
    if unknown:
        raise CvrError(f"--tasks: no task {unknown[0]!r} in the spec; there are {', '.join(spec.task_names)}")
    if not FLAGS.validation_split and (FLAGS.final or FLAGS.tune > 1):
        raise CvrError("--final and --tune need lists to choose on; give --validation_split")
    trained_on = [*FLAGS.train_splits, *([FLAGS.validation_split] if FLAGS.final else [])]
    if FLAGS.split in trained_on or FLAGS.validation_split in FLAGS.train_splits:
        raise CvrError(f"--split and --validation_split must not name a split that is trained on ({', '.join(trained_on)})")
    manifest.split(FLAGS.split)
    parse_params(FLAGS.params)
    return tasks


def ranking(lists: ScoredLists, values: np.ndarray, spec: FeatureSpec, task: str) -> Ranking:
    """A task's lists. Raises CvrError where none has a positive."""
    found = Ranking.of(values, lists, spec.task_names.index(task))
    if not len(found.lengths):
        raise CvrError(f"task {task!r} has no positive label in the training or validation lists; leave it out of --tasks")
    return found


def train_task(data: Data, task: str, train: ScoredLists, validation: ScoredLists | None) -> TaskModel:
    """Trains, with a validation split chooses, and with --final trains once more."""
    machine, params = Machine(FLAGS.seed, FLAGS.threads), parse_params(FLAGS.params)

    def booster(lists: ScoredLists) -> tuple[Booster, Design]:
        design = Design.fit(data.columns.names, lists.scores)
        rows = ranking(lists, design.apply(lists.scores), data.spec, task)
        print(f"{task}: {len(rows.lengths):,} lists with a positive, {len(rows.labels):,} items, {len(design.names)} columns", flush=True)
        return Booster(design.names, data.columns.categorical, rows, machine), design

    first, design = booster(train)
    if validation is None:
        return TaskModel(first.fit(params, FLAGS.trees), design, [], params)
    held_out = ranking(validation, design.apply(validation.scores), data.spec, task)
    fitted, trials = search(first, held_out, draw(params, FLAGS.tune, FLAGS.seed), FLAGS.trees, FLAGS.patience)
    params = max(trials, key=lambda trial: trial.validation_map).params
    if FLAGS.final:
        both = [{f.name: getattr(lists, f.name) for f in dataclasses.fields(ScoredLists)} for lists in (train, validation)]
        last, design = booster(ScoredLists(**{name: np.concatenate([part[name] for part in both]) for name in both[0]}))
        fitted = last.fit(params, fitted.trees)
    print(f"  chosen: {fitted.trees} trees, --params={as_flag(params)}", flush=True)
    return TaskModel(fitted, design, trials, params)


def evaluate(data: Data, models: dict[str, TaskModel]) -> ScoredLists:
    """The lists of --split with the scores and labels of the models' tasks."""
    features = tf.function(data.columns.matrix, autograph=False, reduce_retracing=True)

    def scores(batch: Batch) -> tf.Tensor:
        matrix = features(batch).numpy()
        return tf.constant(np.stack([model.scores(matrix) for model in models.values()], axis=1))

    scored = data.read([FLAGS.split], scores)
    chosen = [data.spec.task_names.index(task) for task in models]
    return dataclasses.replace(scored, labels=scored.labels[:, chosen], delay=scored.delay[:, chosen])


def write_models(output: Path, models: dict[str, TaskModel]) -> pd.DataFrame:
    """The models, what was tried, and the importances, which are returned: task, column, gain, its share, splits."""
    output.mkdir(parents=True, exist_ok=True)
    rows = []
    for task, model in models.items():
        model.fitted.booster.save_model(output / f"model_{task}.txt", num_iteration=model.fitted.trees)
        rows += [(task, *row) for row in model.fitted.importances(model.design.names)]
    frame = pd.DataFrame(rows, columns=["task", "column", "gain", "splits"])
    frame.insert(3, "share", frame["gain"] / frame.groupby("task")["gain"].transform("sum"))
    frame.to_parquet(output / "importances.parquet")
    publish_json(output / "trials.json", {task: [dataclasses.asdict(t) for t in model.trials] for task, model in models.items()})
    return frame


def about(data: Data, scored: ScoredLists, models: dict[str, TaskModel]) -> dict[str, Any]:
    """The head of `summary.json`."""
    return {
        "run": str(FLAGS.output),
        "model": f"LightGBM {load_lightgbm().__version__} LambdaMART",
        "split": FLAGS.split,
        "lists": len(scored.lengths),
        "items": len(scored.item),
        "data": data.manifest.data_fingerprint(),
        "train_splits": [*FLAGS.train_splits, *([FLAGS.validation_split] if FLAGS.final else [])],
        "seed": FLAGS.seed,
        "features": data.columns.names,
        "left_out": data.columns.left_out,
        "models": {task: model.describe() for task, model in models.items()},
    }


def main(argv: Sequence[str]) -> int:
    """Trains a model per task and publishes its evaluation."""
    del argv
    output = Path(FLAGS.output)
    if (output / "summary.json").is_file():
        raise CvrError(f"--output={output} already holds an evaluation; choose another folder or remove it")
    load_lightgbm()
    manifest = load_manifest(FLAGS.lists)
    spec = choose_spec(manifest, FLAGS.spec)[0]
    tasks = check_flags(spec, manifest)
    data = Data(manifest, spec, FeatureColumns(spec, FLAGS.max_categories))
    print(f"{len(data.columns.names)} features, {len(data.columns.categorical)} of them categorical")
    print("".join(f"  left out: {name}: {reason}\n" for name, reason in data.columns.left_out.items()), end="", flush=True)
    train = data.read(FLAGS.train_splits)
    validation = data.read([FLAGS.validation_split]) if FLAGS.validation_split else None
    models = {task: train_task(data, task, train, validation) for task in tasks}
    importances = write_models(output, models)
    scored = evaluate(data, models)
    summaries = publish(output, scored, about(data, scored, models), tasks, FLAGS.bootstrap)
    top = importances.groupby("task", sort=False).head(10)[["task", "column", "share"]]
    print(top.to_string(index=False, formatters={"share": "{:.1%}".format}))
    print(f"{len(scored.lengths):,} lists of split {FLAGS.split!r}, {len(scored.item):,} items\n{table(summaries)}\nwritten to {output}")
    return 0


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main)


if __name__ == "__main__":
    entry()
