"""Where a student's teacher comes from, a finished run or the flagfile of a model that is trained beside it, and what both cost."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import flags

from cvr import train_flags
from cvr.distillation import Distillation, Teacher
from cvr.distillation_flags import distillation
from cvr.errors import CvrError
from cvr.flops import Cost, cost_of
from cvr.losses import Loss
from cvr.manifest import Manifest
from cvr.preparation import choose_spec, prepare
from cvr.ranker import Ranker, RankerConfig
from cvr.runs import SPEC_FILE, Run, load_ranker, load_run
from cvr.schema import FeatureSpec
from cvr.settings import TrainingData

FLAGS = flags.FLAGS
SEED_OFFSET = 500_009
"""A teacher's seed less the student's: with the same one both would start alike and drop the same numbers."""


@dataclasses.dataclass(frozen=True)
class TeacherPlan:
    """A teacher before it is made: how it teaches, its spec and its model, and its run where it is a finished one."""

    how: Distillation
    spec: FeatureSpec
    text: str
    config: RankerConfig
    run: Run | None = None

    def describe(self) -> dict[str, Any]:
        """For `run.json`; none of it may change while a run is interrupted."""
        model = {"model": dataclasses.asdict(self.config), "spec": hashlib.sha256(self.text.encode()).hexdigest()[:16]}
        if self.run is None:
            return {"trained": "beside", **model}
        info = self.run.info
        found = {key: info.get(key) for key in ("checkpoint", "data", "created")}
        return {"trained": "before", "run": str(self.run.folder), **found, **model}

    def make(self, manifest: Manifest, data: TrainingData) -> Teacher:
        """Builds or loads it. To be called before the student is built, whose seed decides the order of the data."""
        if self.run is None:
            with _naming_the_file():
                ranker = prepare(self.spec, manifest, data, self.config)
            return Teacher(ranker, train_flags.settings().objective, True, self.how)
        ranker, run = load_ranker(self.run.folder)
        return Teacher(ranker, loss_of(run), False, self.how)


def plan_teacher(manifest: Manifest) -> TeacherPlan | None:
    """The teacher that the flags ask for, if they do. Raises CvrError where it does not fit the lists, or has seen the validation lists."""
    how = distillation()
    if how is None:
        return None
    if FLAGS.teacher_run:
        run = load_run(FLAGS.teacher_run)
        check_run(run, manifest)
        return TeacherPlan(how, run.spec, (run.folder / SPEC_FILE).read_text(encoding="utf-8"), run.config, run)
    values = flags_in(FLAGS.teacher_flagfile)
    with _naming_the_file():
        spec, text = choose_spec(manifest, values.spec, values.encoder)
        return TeacherPlan(how, spec, text, train_flags.ranker_config(values))


@contextlib.contextmanager
def _naming_the_file() -> Iterator[None]:
    """Errors inside are about the teacher, not about the student."""
    try:
        yield
    except CvrError as error:
        raise CvrError(f"--teacher_flagfile={FLAGS.teacher_flagfile}: {error}") from error


def flags_in(flagfile: str) -> flags.FlagValues:
    """The flags of a model in a file; all others are at their defaults, but for the loss, which is the student's, and the seed.

    Raises CvrError for a flag that does not describe a model, and for one that does not exist.
    """
    if not Path(flagfile).is_file():
        raise CvrError(f"no flagfile at --teacher_flagfile={flagfile}")
    values = flags.FlagValues()
    for module in ("cvr.train_flags", "cvr.backbone_flags"):
        for flag in FLAGS.get_flags_for_module(module):
            if flag.name not in train_flags.PLACES:
                values[flag.name] = copy.deepcopy(flag)
                values[flag.name].unparse()
    try:
        unknown = values(["teacher", f"--flagfile={flagfile}"], known_only=True)[1:]
    except flags.Error as error:
        raise CvrError(f"--teacher_flagfile={flagfile}: {error}") from error
    foreign = [f"--{name}" for name in values if values[name].present and name not in train_flags.MODEL]
    if foreign or unknown:
        raise CvrError(
            f"--teacher_flagfile={flagfile}: {', '.join([*foreign, *unknown])}: no flag of a model. "
            "A teacher is trained as its student is; its file says what it is made of (--backbone, --variant, factors, --encoder ..)"
        )
    values.loss = FLAGS.loss
    if not values["seed"].present:
        values.seed = FLAGS.seed + SEED_OFFSET
    return values


def check_run(run: Run, manifest: Manifest) -> None:
    """Raises CvrError where a finished run cannot read the lists, or was trained on those that this run is validated on, whose labels
    would reach the student through it."""
    name, split = f"--teacher_run={run.folder}", FLAGS.validation_split
    if run.spec.fingerprint != manifest.spec_fingerprint:
        raise CvrError(f"{name} has other features or tasks than the lists in {FLAGS.lists}; train a teacher on lists like these")
    if not split:
        return
    if run.info["data"] == manifest.data_fingerprint():
        if split in run.info["flags"]["train_splits"]:
            raise CvrError(f"{name} was trained on {split!r}, the --validation_split of this run; take another teacher or another split")
        return
    first, last = manifest.split(split).first_time, run.info.get("last_training_time")
    if first is None or last is None or first <= last:
        raise CvrError(
            f"{name} was trained on other lists, and split {split!r} of these does not begin after they end, so it may have seen it; "
            "take a teacher of these lists or of earlier ones"
        )


def loss_of(run: Run) -> Loss:
    """What a finished run was trained with."""
    given = run.info["flags"]
    known = {name: given[name] for name in ("anchor_label", "listwise_share") if name in given}
    return Loss(given.get("loss", "softmax"), **known)


@dataclasses.dataclass(frozen=True)
class TrainingCost:
    """Of a student and, where it has one, of its teacher."""

    student: Cost
    teacher: Cost | None = None
    about: str = ""
    teacher_passes: float = 0.0

    @classmethod
    def of(cls, student: Ranker, teacher: Teacher | None) -> TrainingCost:
        """Of built rankers."""
        if teacher is None:
            return cls(cost_of(student))
        kind = "trained beside" if teacher.trains else "a finished run"
        about = f"{teacher.ranker.config.backbone}, {kind}; {teacher.how.describe()}"
        return cls(cost_of(student), cost_of(teacher.ranker), about, 3.0 if teacher.trains else 1.0)

    def step_flops(self, items_per_list: float) -> float:
        """FLOPs per item of a training step: three times those of scoring, since the backward pass makes two products for each of the
        forward pass; a teacher that is not trained scores only."""
        taught = self.teacher_passes * self.teacher.per_item(items_per_list) if self.teacher else 0.0
        return 3.0 * self.student.per_item(items_per_list) + taught

    def describe(self) -> str:
        """For a terminal."""
        if self.teacher is None:
            return self.student.describe()
        return f"{self.student.describe()}\nteacher          {self.about}\n{self.teacher.describe()}"

    def for_run(self) -> dict[str, Any]:
        """For `run.json`: the student's numbers by their names, those of the teacher in `teacher_cost`."""
        of_teacher = {"teacher_cost": dataclasses.asdict(self.teacher)} if self.teacher else {}
        return {**dataclasses.asdict(self.student), **of_teacher}
