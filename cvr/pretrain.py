"""Generative pre-training of item vectors: `python -m cvr.pretrain --flagfile=configs/gpsd_pretrain.flags --lists=... --output=...`.

A decoder learns from the behaviour sequences of list records which item and which action comes next (GPSD, KDD'25). `cvr.train
--warm_start_from=<output>` then starts from it (docs/modelers.md).
"""

from __future__ import annotations

import dataclasses
import errno
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from cvr import pretrain_flags, runs
from cvr.data import split_files
from cvr.errors import CvrError, run_main
from cvr.generator import Generator, build_generator, choose_sequence
from cvr.manifest import Manifest, load_manifest
from cvr.preparation import choose_spec
from cvr.pretrain_loop import PretrainData, Pretrainer
from cvr.schema import Feature, FeatureSpec
from cvr.sequences import Sequences, read_sequences
from cvr.stopping import Stopped
from cvr.train import set_up_tensorflow

FLAGS = flags.FLAGS


def describe_run(names: list[str], spec: FeatureSpec, feature: Feature, manifest: Manifest) -> dict[str, Any]:
    """What `run.json` says of a run from its start."""
    return {
        "program": runs.PRETRAIN,
        "flags": pretrain_flags.recorded(names),
        "versions": runs.versions(),
        "data": manifest.data_fingerprint(),
        "dataset": manifest.dataset,
        "spec_fingerprint": spec.fingerprint,
        "model": dataclasses.asdict(pretrain_flags.generator_config(feature.name)),
        "last_training_time": max(manifest.split(name).last_time or 0 for name in FLAGS.train_splits) or None,
    }


def load_data(spec: FeatureSpec, feature: Feature, manifest: Manifest) -> PretrainData:
    """The sequences of the splits that the flags name. Raises CvrError where nothing can be learned from them."""
    groups = [split_files(FLAGS.lists, manifest, FLAGS.train_splits)]
    if FLAGS.validation_split:
        groups.append(split_files(FLAGS.lists, manifest, [FLAGS.validation_split]))
    train, *others = read_sequences(spec, feature.name, groups)
    if not train.targets:
        raise CvrError(
            f"no history {feature.name!r} in the splits {FLAGS.train_splits} has two events, so nothing tells what comes next; "
            "raise the history's length in the spec and rebuild the lists, or name another --sequence"
        )
    return PretrainData(train, others[0] if others and others[0].targets else None)


def counts(data: PretrainData) -> dict[str, dict[str, int]]:
    """Of lists read, sequences kept, their events and targets, and distinct items, by split's role."""

    def of(found: Sequences) -> dict[str, int]:
        sizes = {"lists": found.lists, "sequences": len(found), "events": len(found.item), "targets": found.targets}
        return {**sizes, "items": len(found.catalogue)}

    return {"train": of(data.train), **({"validation": of(data.validation)} if data.validation else {})}


def cost(generator: Generator) -> dict[str, int]:
    """Trainable numbers, and FLOPs of a sequence and of a target."""
    sizes = {
        name: sum(math.prod(variable.shape) for variable in found)
        for name, found in (("dense_parameters", generator.dense_variables), ("parameters", generator.trainable_variables))
    }
    return {**sizes, "flops_per_sequence": generator.sequence_flops(), "flops_per_target": generator.target_flops()}


def train(spec: FeatureSpec, feature: Feature, data: PretrainData, output: Path) -> None:
    """Trains to the end and marks the run as finished."""
    generator = build_generator(spec, pretrain_flags.generator_config(feature.name), data.train.catalogue)
    sizes = cost(generator)
    found = counts(data)["train"]
    print(
        f"{feature.name}: {found['targets']:,} targets in {found['sequences']:,} sequences of {found['lists']:,} lists, "
        f"{found['items']:,} items\nparameters {sizes['parameters']:,} ({sizes['dense_parameters']:,} dense), "
        f"FLOPs {sizes['flops_per_sequence']:,} a sequence and {sizes['flops_per_target']:,} a target",
        flush=True,
    )
    trainer = Pretrainer(generator, data, pretrain_flags.settings(), output)
    results = trainer.run()
    chosen = trainer.state.latest_prefix
    assert chosen is not None  # each epoch ends with a checkpoint
    results["checkpoint"] = str(Path(chosen).relative_to(output))
    runs.finish_run(output, {**results, **sizes, "counts": counts(data)})
    print(f"pre-trained {results['steps']} steps at {results['targets_per_second_train']:,.0f} targets/s; run in {output}")


def main(argv: Sequence[str], names: list[str]) -> int:
    """Reads sequences, builds and trains; `names` are the job's flags."""
    del argv
    set_up_tensorflow()
    manifest, output = load_manifest(FLAGS.lists), Path(FLAGS.output)
    spec, spec_text = choose_spec(manifest, FLAGS.spec, FLAGS.encoder)
    feature = choose_sequence(spec, FLAGS.sequence)
    with runs.alone_in(output):
        data = load_data(spec, feature, manifest)
        runs.start_run(output, spec_text, describe_run(names, spec, feature, manifest), pretrain_flags.FREE)
        try:
            train(spec, feature, data, output)
        except Stopped as stopped:
            print(f"stopped by {stopped} and saved; the same command resumes at this step", file=sys.stderr)
            return stopped.exit_code
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise CvrError(f"cannot write to --output={output}: {error.strerror}; make room and run the same command again") from error
    return 0


def entry() -> None:
    """Console entry point."""
    names = pretrain_flags.define_flags()
    run_main(lambda argv: main(argv, names))


if __name__ == "__main__":
    entry()
