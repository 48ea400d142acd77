"""Trains a ranker: `python -m cvr.train --flagfile=configs/<model>.flags --lists=<folder> --output=<folder>`."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from absl import flags

from cvr import distribution, runs, train_flags, warm_start
from cvr.distillation import Teacher
from cvr.distillation_flags import has_teacher
from cvr.errors import CvrError, run_main
from cvr.loop import Trainer
from cvr.manifest import Manifest, load_manifest
from cvr.parameter_servers import serve
from cvr.placement import Placement
from cvr.preparation import check_tasks, choose_spec, load_data, prepare, try_out
from cvr.ranker import Ranker
from cvr.schema import FeatureSpec
from cvr.settings import TrainingData
from cvr.stopping import Stopped
from cvr.teachers import TeacherPlan, TrainingCost, plan_teacher

FLAGS = flags.FLAGS


def set_up_tensorflow() -> None:
    """Threads and determinism as the flags say."""
    if FLAGS.threads:
        tf.config.threading.set_intra_op_parallelism_threads(FLAGS.threads)
        tf.config.threading.set_inter_op_parallelism_threads(FLAGS.threads)
    if FLAGS.deterministic:
        tf.config.experimental.enable_op_determinism()


def describe_run(names: list[str], spec: FeatureSpec, manifest: Manifest, data: TrainingData, plan: TeacherPlan | None) -> dict[str, Any]:
    """What `run.json` says of a run from its start; of a teacher where there is one."""
    return {
        "flags": train_flags.recorded(names),
        "versions": runs.versions(),
        "data": manifest.data_fingerprint(),
        "dataset": manifest.dataset,
        "spec_fingerprint": spec.fingerprint,
        "model": dataclasses.asdict(train_flags.ranker_config()),
        "tasks": list(spec.task_names),
        "primary_task": spec.primary_task,
        "lists": data.lists,
        "items": data.items,
        "last_training_time": max(manifest.split(name).last_time or 0 for name in FLAGS.train_splits) or None,
        **({"teacher": plan.describe()} if plan else {}),
    }


def start_warm(ranker: Ranker, output: Path | None) -> None:
    """Loads what --warm_start_from has and prints the report of it, which is also written to the run's folder, if there is one."""
    base = warm_start.find_base(FLAGS.warm_start_from)
    outcomes = warm_start.warm_start(ranker, base, FLAGS.warm_start_parts)
    print(warm_start.summary(base, outcomes), flush=True)
    if output:
        warm_start.write_report(output, base, outcomes)


def train(ranker: Ranker, cost: TrainingCost, data: TrainingData, output: Path, placement: Placement, teacher: Teacher | None) -> None:
    """Trains to the end and marks the run as finished."""
    step_flops = cost.step_flops(data.items / data.lists)
    trainer = Trainer(ranker, data, train_flags.settings(), output, step_flops, placement, teacher)
    report = output if placement.is_chief else None
    results = trainer.run((lambda: start_warm(ranker, report)) if FLAGS.warm_start_from else None)
    if not placement.is_chief:
        return
    chosen = trainer.state.best_prefix if FLAGS.keep_best or FLAGS.patience else trainer.state.latest_prefix
    assert chosen is not None  # each epoch ends with a checkpoint, and check_tasks saw that validation has one to choose by
    results["checkpoint"] = str(Path(chosen).relative_to(output))
    runs.finish_run(output, {**results, **cost.for_run()})
    print(f"trained {results['steps']} steps at {results['items_per_second_train']:,.0f} items/s; run in {output}")


def main(argv: Sequence[str], names: list[str]) -> int:
    """Builds, trains and reports; `names` are the job's flags."""
    del argv
    set_up_tensorflow()
    distribution.check_flags(FLAGS.distribute, FLAGS.jit_compile, FLAGS.deterministic, bool(FLAGS.warm_start_from), has_teacher())
    cluster, output = distribution.task_of(FLAGS.distribute), Path(FLAGS.output)
    if cluster and distribution.only_serves(cluster):
        return serve(cluster, FLAGS.cluster_timeout, output)
    manifest = load_manifest(FLAGS.lists)
    spec, spec_text = choose_spec(manifest, FLAGS.spec, FLAGS.encoder)
    check_tasks(spec, manifest)
    data = load_data(manifest)
    train_flags.settings()
    plan = plan_teacher(manifest)
    writes = not FLAGS.dry_run and (cluster is None or cluster.is_chief)
    with runs.alone_in(output) if writes else contextlib.nullcontext():
        info = describe_run(names, spec, manifest, data, plan)
        if writes:
            if FLAGS.warm_start_from and not runs.has_checkpoint(output):  # a run that goes on needs its base no more
                info["warm_start"] = warm_start.find_base(FLAGS.warm_start_from).describe()
            runs.start_run(output, spec_text, info, train_flags.FREE)
        placement = distribution.make_placement(FLAGS.distribute, cluster, FLAGS.cluster_timeout)
        if not writes and not FLAGS.dry_run:
            runs.check_same(output, info, train_flags.FREE)
        try:
            with placement.guarded():
                build_and_train(spec, manifest, data, placement, plan)
        except Stopped as stopped:
            print(f"stopped by {stopped} and saved; the same command resumes at this step", file=sys.stderr)
            return stopped.exit_code
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise CvrError(f"cannot write to --output={output}: {error.strerror}; make room and run the same command again") from error
    return 0


def build_and_train(spec: FeatureSpec, manifest: Manifest, data: TrainingData, placement: Placement, plan: TeacherPlan | None) -> None:
    """All of a run after its start, or what --dry_run leaves of it."""
    teacher = plan.make(manifest, data) if plan else None  # first: the seed that is set last decides the order of the data
    with placement.scope():
        ranker = prepare(spec, manifest, data)
    distribution.check_ranker(FLAGS.distribute, ranker)
    cost = TrainingCost.of(ranker, teacher)
    where = placement.describe()
    print(f"{FLAGS.backbone} on {data.lists:,} lists, {data.items:,} items{where and f'; {where}'}\n{cost.describe()}", flush=True)
    if not FLAGS.dry_run:
        train(ranker, cost, data, Path(FLAGS.output), placement, teacher)
        placement.total(0.0)  # nobody leaves before the chief is done
        return
    if FLAGS.warm_start_from:
        start_warm(ranker, None)
    print(try_out(ranker, data, teacher))


def entry() -> None:
    """Console entry point."""
    names = train_flags.define_flags()
    run_main(lambda argv: main(argv, names))


if __name__ == "__main__":
    entry()
