"""What flat packing, the context's own projection and lazy tables save, on lists of 16 items on average and 40 at most.

Two comparisons of one MaskNet, whose variants take turns. `saved`: a step on the same lists in memory by the same optimizers, packed or
padded, with the context part of the projection once per list or once per item. `pipelines`: one pass over the same lists from their files,
ours (flat records, packed, lazy Adam) beside TF-Ranking's (ELWC with a key per feature, padded to the longest of a batch, Keras Adam).
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from cvr import records
from cvr.data import Batch, Budget, assemble, batches, dummy_batch
from cvr.elwc import encode_elwc
from cvr.guard import LossGuard
from cvr.losses import Loss
from cvr.optimizers import make_optimizer
from cvr.ranker import Ranker, RankerConfig, build_ranker
from cvr.schedules import WarmupCosine
from cvr.schema import FeatureSpec
from cvr.step import TrainingStep
from tools.benchmarks import train_padded
from tools.benchmarks.input_content import content
from tools.benchmarks.reference_batch import LENGTH, reference_spec
from tools.benchmarks.summary import Spread
from tools.benchmarks.train_steps import Plan, Step, turn

LONGEST, MEAN = 40, 16
DRAW = "16-40"
SAVED = ("packed, per list", "packed, per item", "padded, per list", "padded, per item")
PIPELINES = ("ours", "tf_ranking")


@dataclasses.dataclass(frozen=True)
class Variant:
    """Milliseconds of a step or seconds of a pass, a value per turn, over so many real items in `rows` rows of the dense layers."""

    comparison: str
    name: str
    precision: str
    items: int
    rows: int
    times: list[float]

    @property
    def spread(self) -> Spread:
        """Of the times."""
        return Spread.of(self.times)


def compiled_step(ranker: Ranker) -> Callable[[Batch], tf.Tensor]:
    """The training step of `cvr.train` on batches of lists of at most 40 items."""
    schedule = WarmupCosine(1e-4, 100, 100_000)
    optimizer = make_optimizer(lambda: ranker.extraction.table_variables, lambda: ranker.dense_variables, schedule, schedule)
    return TrainingStep(ranker, optimizer, LossGuard(len(ranker.task_names)), LONGEST, Loss()).__call__


def two_batches(spec: FeatureSpec, columns: records.ListColumns) -> dict[str, Batch]:
    """The same lists packed and padded to 40, both without an empty row."""
    parsed = records.parse(spec, tf.constant(records.encode(spec, columns)))
    found = {
        "packed": assemble(spec, parsed, Budget(int(columns.lengths.sum()), len(columns.lengths))),
        "padded": train_padded.padded_batch(spec, train_padded.parse(spec, encode_elwc(spec, columns), LONGEST)),
    }
    return {name: {key: value for key, value in batch.items() if value.dtype != tf.string} for name, batch in found.items()}


def saved(config: RankerConfig, plan: Plan) -> list[Variant]:
    """Times a step of each variant on a batch of as many lists as hold the plan's items."""
    spec, lists = reference_spec(plan.rows, plan.dim), plan.lists * LENGTH // MEAN
    columns = content(lists, DRAW, 1)
    given = two_batches(spec, columns)
    rankers = {"list": build_ranker(spec, config, dummy_batch(spec)), "item": train_padded.build_per_item(spec, config, dummy_batch(spec))}
    steps: dict[str, Step] = {}
    for layout, level in itertools.product(given, rankers):
        graph = tf.function(compiled_step(rankers[level]), autograph=False).get_concrete_function(given[layout])
        steps[f"{layout}, per {level}"] = functools.partial(graph, given[layout])
    times: dict[str, list[float]] = {name: [] for name in SAVED}
    for _ in range(plan.repeats):
        for name in SAVED:
            times[name].append(turn(steps[name], plan)[0])
    rows = {name: int(given[name.partition(",")[0]]["item_mask"].shape[0]) for name in SAVED}
    items = int(columns.lengths.sum())
    return [Variant("saved", name, config.precision, items, rows[name], found) for name, found in times.items()]


def write(folder: Path, spec: FeatureSpec, columns: records.ListColumns) -> dict[str, Path]:
    """The same lists as our records and as ELWC, plain."""
    paths = {name: folder / f"{name}.tfrecord" for name in PIPELINES}
    for name, encoder in zip(PIPELINES, (records.encode, encode_elwc), strict=True):
        with tf.io.TFRecordWriter(str(paths[name])) as writer:
            for record in encoder(spec, columns):
                writer.write(record)
    return paths


def _without_strings(batch: Batch) -> Batch:
    return {name: value for name, value in batch.items() if value.dtype != tf.string}


def pipelines(config: RankerConfig, plan: Plan, lists: int, threads: int) -> list[Variant]:
    """Times whole passes over the same files, each with its reader, its batches of about the plan's items, and its optimizer."""
    spec, columns = reference_spec(plan.rows, plan.dim), content(lists, DRAW, 2)
    budget = Budget.for_mean(plan.lists * LENGTH, float(np.mean(columns.lengths)))
    with tempfile.TemporaryDirectory() as folder:
        paths = write(Path(folder), spec, columns)
        data = {
            "ours": batches(spec, [str(paths["ours"])], budget, parallel=threads).map(_without_strings),
            "tf_ranking": train_padded.dataset(spec, str(paths["tf_ranking"]), plan.lists * LENGTH // MEAN, threads),
        }
        rankers = [build_ranker(spec, config, dummy_batch(spec)) for _ in PIPELINES]
        steps = (compiled_step(rankers[0]), train_padded.training_step(rankers[1]))
        passes = {
            name: functools.partial(_pass, data[name], tf.function(step, autograph=False, input_signature=[data[name].element_spec]))
            for name, step in zip(PIPELINES, steps, strict=True)
        }
        times: dict[str, list[float]] = {name: [] for name in PIPELINES}
        rows = {name: run(1) for name, run in passes.items()}
        for _ in range(plan.repeats):
            for name, run in passes.items():
                started = time.perf_counter()
                rows[name] = run()
                times[name].append(time.perf_counter() - started)
    items = int(columns.lengths.sum())
    return [Variant("pipelines", name, config.precision, items, rows[name], found) for name, found in times.items()]


def _pass(data: tf.data.Dataset, step: Callable[[Any], tf.Tensor], most: int = -1) -> int:
    """One pass, of `most` batches at most; the rows that went through the dense layers."""
    rows = 0
    for batch in data.take(most):
        step(batch)
        rows += _rows(batch)
    return rows


def _rows(batch: dict[str, tf.Tensor]) -> int:
    return int(tf.size(batch["item_mask" if "item_mask" in batch else train_padded.MASK_KEY]))
