"""Goes back to an older version: newer ones move into `retired/` by renames, and servers that watch the folder switch.

    python -m export.rollback --model_base_path=runs/NAME/export              to the version before the newest
    python -m export.rollback --model_base_path=runs/NAME/export --to=3       to version 3
    python -m export.rollback --model_base_path=runs/NAME/export --undo       back again

The version to go back to is loaded first and compared with its own answers of when it was exported; --nocheck leaves that out. Nothing is
deleted or changed, and numbers of retired versions are not given to new ones.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from cvr.errors import CvrError, run_main
from export import selfcheck, versions
from export.servable import Servable

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("model_base_path", None, "Folder of version folders.", required=True)
    flags.DEFINE_integer("to", None, "Version to go back to, the one before the newest if not given; with --undo, the newest to restore.")
    flags.DEFINE_bool("undo", False, "Puts back the retired versions that are newer than the newest one in use.")
    flags.DEFINE_bool("check", True, "Loads the version to serve and compares its answers with those stored in it, before anything moves.")


def choose(base: Path, wanted: int | None) -> int:
    """The version to go back to. Raises CvrError where there is none, or it is the newest already."""
    found = list(versions.published(base))
    if not found:
        raise CvrError(f"no model version under --model_base_path={base}")
    if wanted is None and len(found) == 1:
        raise CvrError(f"{base} has only version {found[0]}; there is none to go back to")
    chosen = found[-2] if wanted is None else wanted
    if chosen not in found:
        retired = ", ".join(map(str, versions.published(base / versions.RETIRED))) or "none"
        raise CvrError(f"--to={chosen}: {base} has versions {', '.join(map(str, found))} (retired: {retired})")
    if chosen == found[-1]:
        raise CvrError(f"--to={chosen}: it is the newest version already; nothing to do")
    return chosen


def _check(folder: Path) -> None:
    if FLAGS.check:
        with contextlib.closing(Servable(folder)) as servable:
            selfcheck.check(servable)


def _undo(base: Path) -> str:
    if FLAGS.to is not None and FLAGS.to not in versions.published(base / versions.RETIRED):
        raise CvrError(f"--undo --to={FLAGS.to}: there is no such version in {base / versions.RETIRED}")
    newest_used, retired = max(versions.published(base), default=0), versions.published(base / versions.RETIRED)
    waiting = [version for version in retired if newest_used < version and (FLAGS.to is None or version <= FLAGS.to)]
    if not waiting:
        raise CvrError(f"{base / versions.RETIRED} has no version newer than {newest_used}; nothing to put back")
    _check(retired[waiting[-1]])
    restored = versions.restore(base, FLAGS.to)
    return f"versions {_listed(restored)} are back; the newest version in {base} was {newest_used} and is {restored[0]}"


def main(argv: Sequence[str]) -> int:
    """Rolls back, or undoes it, and says what moved."""
    del argv
    base = Path(FLAGS.model_base_path)
    if FLAGS.undo:
        print(_undo(base))
        return 0
    chosen = choose(base, FLAGS.to)
    _check(versions.published(base)[chosen])
    retired = versions.retire(base, chosen)
    print(f"the newest version in {base} was {retired[-1]} and is {chosen}; {_listed(retired)} moved to {base / versions.RETIRED}")
    print(f"undo it:   python -m export.rollback --model_base_path={base} --undo")
    return 0


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main)


if __name__ == "__main__":
    entry()
