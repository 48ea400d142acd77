"""Exports training steps and backbones as XLA programs, and times them on any device that JAX has, such as a GPU.

    python -m tools.benchmarks.gpu_step --output=DIR [--backbones=masknet,rankmixer] [--variants=M,L] [--precisions=float32,mixed_bfloat16]
    python DIR/run_hlo.py DIR --json=FILE        # there: needs jax and numpy only

`step` is a whole training step on reference content, embedding tables and their optimizer included; `dense` begins behind the extraction;
`backbone` is its inference alone. docs/performance.md explains the figures.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf
from absl import flags

from cvr import backbones
from cvr.data import Batch, dummy_batch
from cvr.errors import CvrError, run_main
from cvr.guard import LossGuard
from cvr.losses import Loss, listwise_losses
from cvr.optimizers import TABLE_OPTIMIZERS, OptimizerConfig, RankerOptimizer, make_optimizer
from cvr.precision import PRECISIONS
from cvr.ranker import Ranker, RankerConfig, build_ranker
from cvr.schedules import WarmupCosine
from cvr.step import TrainingStep
from tools.benchmarks.hlo_programs import write_program
from tools.benchmarks.reference_batch import LENGTH, reference_batch, reference_spec

FLAGS = flags.FLAGS
PROGRAMS = ("step", "dense", "backbone")
RUNNER = "run_hlo.py"


class Found(NamedTuple):
    """A program: what is computed, of which batch, and the optimizers' variables."""

    function: Callable[[Batch], Any]
    batch: Batch
    states: Sequence[tf.Variable] = ()



def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("output", None, "Folder for the programs; must not exist.", required=True)
    flags.DEFINE_list("backbones", ["masknet"], "Backbones.")
    flags.DEFINE_list("variants", ["M"], "Their sizes.")
    flags.DEFINE_list("precisions", list(PRECISIONS), "What layers compute in.")
    flags.DEFINE_list("programs", list(PROGRAMS), "What to export.")
    flags.DEFINE_enum("table_optimizer", "lazy_adam", list(TABLE_OPTIMIZERS), "Optimizer of the embedding tables.")
    flags.DEFINE_integer("lists", 64, f"Lists of {LENGTH} items in a batch.", lower_bound=1)
    flags.DEFINE_integer("rows", 1_000_000, "Rows of the table of items.", lower_bound=1)
    flags.DEFINE_integer("dim", 16, "Width of the tables.", lower_bound=1)
    flags.DEFINE_bool("values", False, "Also store all variables, and what one run gives here for the runner to compare.")


def _without_strings(batch: Batch) -> Batch:
    return {name: value for name, value in batch.items() if value.dtype != tf.string}


def _optimizer(tables: Sequence[tf.Variable], dense: Sequence[tf.Variable], table_optimizer: str) -> RankerOptimizer:
    schedule = WarmupCosine(1e-3, 100, 100_000)
    config = OptimizerConfig(table_optimizer, by_sorting=True)
    return make_optimizer(lambda: tables, lambda: dense, schedule, schedule, config)


def _states(optimizer: RankerOptimizer) -> list[tf.Variable]:
    return [variable for one in optimizer.optimizers for variable in one.variables]


def step_program(ranker: Ranker, batch: Batch, table_optimizer: str) -> Found:
    """The whole training step on a raw batch."""
    optimizer = _optimizer(ranker.extraction.table_variables, ranker.dense_variables, table_optimizer)
    step = TrainingStep(ranker, optimizer, LossGuard(len(ranker.task_names)), LENGTH, Loss())
    return Found(step.__call__, _without_strings(batch), _states(optimizer))


def dense_program(ranker: Ranker, batch: Batch) -> Found:
    """The training step from the extraction's output on: projection, backbone, head, losses, Adam."""
    context, items = ranker.extract(batch)
    parts = (ranker.projection, ranker.backbone, ranker.head)
    variables = [variable for part in parts for variable in part.trainable_variables]
    optimizer = _optimizer([], variables, "lazy_adam")

    def step(given: Batch) -> tf.Tensor:
        with tf.GradientTape() as tape:
            projected = tf.gather(ranker.project_context(_like(given["context"], context)), given["list_index"])
            logits = tf.cast(ranker.head(ranker.hidden(projected, _like(given["items"], items), training=True)), tf.float32)
            losses = listwise_losses(logits, given, LENGTH, Loss())
            total = tf.reduce_sum(losses) + sum(ranker.losses)
        optimizer.apply_gradients(zip(tape.gradient(total, variables), variables, strict=True))
        return losses

    needed = {name: batch[name] for name in ("list_index", "list_size", "item_offset", "item_mask", "labels")}
    return Found(step, {**needed, "context": tf.cast(context, tf.float32), "items": tf.cast(items, tf.float32)}, _states(optimizer))


def _like(values: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """npz has no bfloat16: such arguments travel as float32."""
    return tf.cast(values, other.dtype)


def backbone_program(ranker: Ranker, batch: Batch) -> Found:
    """Inference of the backbone on its views of the projection."""
    context, items = ranker.extract(batch)
    views = ranker.projection.finish(tf.gather(ranker.project_context(context), batch["list_index"]), items)
    kind = items.dtype

    def infer(given: Batch) -> tf.Tensor:
        return tf.cast(ranker.backbone({name: tf.cast(value, kind) for name, value in given.items()}), tf.float32)

    return Found(infer, {name: tf.cast(value, tf.float32) for name, value in views.items()})


def export(folder: Path, config: RankerConfig, programs: Sequence[str], about: dict[str, Any]) -> None:
    """Writes the programs of one ranker."""
    spec = reference_spec(FLAGS.rows, FLAGS.dim)
    batch = reference_batch(spec, FLAGS.lists)
    ranker = build_ranker(spec, config, dummy_batch(spec))
    make: dict[str, Callable[[], Found]] = {
        "step": lambda: step_program(ranker, batch, FLAGS.table_optimizer),
        "dense": lambda: dense_program(ranker, batch),
        "backbone": lambda: backbone_program(ranker, batch),
    }
    items = FLAGS.lists * LENGTH
    for program in programs:
        made = make[program]()
        flops = {"flops": 2 * ranker.backbone.multiply_adds() * items} if program == "backbone" else {}
        told = {**about, "program": program, "items": items, **flops}
        found = write_program(folder / program, made.function, made.batch, told, FLAGS.values, made.states)
        print(f"{folder.name}/{program}: {len(found['parameters'])} parameters, {found['loops']} loops", flush=True)


def _check(flag: str, known: Sequence[str]) -> Sequence[str]:
    given = FLAGS[flag].value
    if not given or not set(given) <= set(known):
        raise CvrError(f"--{flag}={','.join(given)}: there are {', '.join(known)}")
    return given


def main(argv: Sequence[str]) -> int:
    """Exports every chosen backbone, size and precision, and the runner beside them."""
    del argv
    output = Path(FLAGS.output)
    if output.exists():
        raise CvrError(f"--output={output} exists; choose another folder or remove it")
    programs = _check("programs", PROGRAMS)
    precisions = _check("precisions", PRECISIONS)
    for backbone, variant, precision in itertools.product(_check("backbones", backbones.names()), FLAGS.variants, precisions):
        factors = backbones.make_config(backbone, {}, variant)
        config = RankerConfig(backbone, vars(factors), precision=precision)
        about = {"backbone": backbone, "variant": variant, "precision": precision, "table_rows": FLAGS.rows}
        export(output / f"{backbone}-{variant}-{precision}", config, programs, about)
    shutil.copy(Path(__file__).with_name(RUNNER), output / RUNNER)
    print(f"programs in {output}; time them where the device is: python {output / RUNNER} {output}")
    return 0


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main)


if __name__ == "__main__":
    entry()
