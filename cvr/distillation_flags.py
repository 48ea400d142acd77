"""The flags of distillation, and what they make."""

from __future__ import annotations

from absl import flags

from cvr.distillation import DISTILL_LOSSES, Distillation
from cvr.errors import CvrError

FLAGS = flags.FLAGS

HOW = ("distill_loss", "distill_weight", "distill_temperature", "distill_both")


def define_distillation_flags() -> None:
    """Defines them."""
    flags.DEFINE_string("teacher_run", None, "Finished run whose model teaches this one; it does not change (docs/modelers.md).")
    flags.DEFINE_string("teacher_flagfile", None, "Flagfile of a model that is trained beside this one and teaches it.")
    flags.DEFINE_enum("distill_loss", "bce", DISTILL_LOSSES, "What draws the student's logits to the teacher's.")
    flags.DEFINE_float("distill_weight", 1.0, "w: a task's distillation loss is added w t^2 times.", lower_bound=0.0)
    flags.DEFINE_float("distill_temperature", 1.0, "t, by which that loss divides logits; not for mse.", lower_bound=1e-3)
    flags.DEFINE_bool("distill_both", False, "Let the distillation loss train the teacher, too, instead of stopping its gradient there.")


def has_teacher() -> bool:
    """Whether the flags ask for one."""
    return bool(FLAGS.teacher_run or FLAGS.teacher_flagfile)


def distillation() -> Distillation | None:
    """How the flags say to teach; None without a teacher. Raises CvrError for flags that do not go together."""
    if FLAGS.teacher_run and FLAGS.teacher_flagfile:
        raise CvrError("--teacher_run and --teacher_flagfile: a student has one teacher; give one of them")
    if not has_teacher():
        given = [f"--{name}" for name in HOW if FLAGS[name].present]
        if given and not (FLAGS["teacher_run"].present or FLAGS["teacher_flagfile"].present):  # an empty one is meant so
            raise CvrError(f"{', '.join(given)} without a teacher: give --teacher_flagfile=<flags of a model> or --teacher_run=<run>")
        return None
    if FLAGS.teacher_run and FLAGS.distill_both:
        raise CvrError("--distill_both with --teacher_run: a finished run is not trained; use --teacher_flagfile")
    return Distillation(FLAGS.distill_loss, FLAGS.distill_weight, FLAGS.distill_temperature, FLAGS.distill_both)
