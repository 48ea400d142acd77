"""Validates published search lists: `python -m pipelines.validate --lists=FOLDER --output=FOLDER [--baseline=OTHER]`.

Writes `validation.json` (all figures and checks) and `validation.html` (a page that needs no other file). Exits with 0 where all checks
passed, 3 where one failed, 1 on an error, 2 on wrong flags. Flags that are not listed by --help go to Beam: docs/validation.md.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from absl import flags, logging
from apache_beam.io.filesystems import FileSystems

from cvr.errors import CvrError, run_main
from cvr.manifest import Manifest
from pipelines import write
from pipelines.beam_flags import check_beam_flags, parse_flags
from pipelines.validation import job
from pipelines.validation.inputs import BASELINE, LISTS, Source, elements_of, load, source_of
from pipelines.validation.merging import Partial
from pipelines.validation.report import page_of, summary_of
from pipelines.validation.results import Figures, Thresholds
from pipelines.validation.verdict import Verdict, judge

FLAGS = flags.FLAGS
JSON_FILE, PAGE_FILE = "validation.json", "validation.html"


def define_flags() -> None:
    """The command's flags."""
    default = Thresholds()
    flags.DEFINE_string("lists", None, "Folder of the published lists.", required=True)
    flags.DEFINE_string(
        "output",
        None,
        "Folder for validation.json and validation.html; files of these names are replaced.",
        required=True,
    )
    flags.DEFINE_string("baseline", None, "Another folder of published lists to compare with, such as yesterday's.")
    flags.DEFINE_enum("fail_on", "fail", ["fail", "warn"], "Whether warnings fail the validation too.")
    flags.DEFINE_float(
        "leak_auc", default.leak_auc, "A feature fails if its AUC within lists is surely above this.", 0.5, 1.0
    )
    flags.DEFINE_float(
        "leak_jump", default.leak_jump, "Warn if AUCs above 0.8 are surely ahead of all others by this.", 0.0, 1.0
    )
    flags.DEFINE_integer(
        "leak_lists", 100_000, "Lists per split on which rates of ids are measured, a second pass.", lower_bound=1
    )
    flags.DEFINE_float(
        "drift", default.drift, "Warn of a Jensen-Shannon divergence above chance by this, in bits.", 0.0, 1.0
    )
    flags.DEFINE_float(
        "coverage_drop", default.coverage_drop, "Warn if the share of present values falls by this.", 0.0, 1.0
    )
    flags.DEFINE_float(
        "change", default.change, "Warn if a count or label rate differs from the baseline's by this share.", 0.0
    )
    flags.DEFINE_integer(
        "min_lists", default.min_lists, "Fewest lists of a day or split whose drift is judged.", lower_bound=1
    )


def _thresholds() -> Thresholds:
    names = ("leak_auc", "leak_jump", "drift", "coverage_drop", "change", "min_lists")
    return Thresholds(**{name: getattr(FLAGS, name) for name in names})


def _folders() -> list[tuple[Source, Manifest]]:
    asked = [(LISTS, FLAGS.lists)] + ([(BASELINE, FLAGS.baseline)] if FLAGS.baseline else [])
    manifests = [(role, folder, load(folder, role)) for role, folder in asked]
    return [(source_of(role, folder, manifest), manifest) for role, folder, manifest in manifests]


def _figures(source: Source, manifest: Manifest, partials: dict[job.Key, Partial]) -> Figures:
    own = {
        (split, day, half): partial
        for (role, split, day, half), partial in partials.items()
        if role == source.role and split
    }
    return Figures(source.folder, manifest, source.spec, own)


def validate(beam_flags: Sequence[str] = ()) -> Verdict:
    """Validates as the flags say, without writing the results. Raises CvrError where a folder holds no published lists."""
    folders = _folders()
    elements = [e for source, manifest in folders for e in elements_of(source.role, manifest, FLAGS.leak_lists)]
    partials = job.measure([source for source, _ in folders], elements, FLAGS.output, beam_flags)
    figures = [_figures(source, manifest, partials) for source, manifest in folders]
    duplicates = partials.get(job.WHOLE, {}).get("duplicates", {})
    return judge(figures[0], duplicates, figures[1] if len(figures) > 1 else None, _thresholds(), FLAGS.fail_on)


def publish(output: str, verdict: Verdict) -> None:
    """Writes the page and then the document. Raises CvrError where the folder cannot be written."""
    texts = {PAGE_FILE: page_of(verdict), JSON_FILE: json.dumps(verdict.document, indent=1, allow_nan=False) + "\n"}
    try:
        for name, text in texts.items():
            write.write_bytes(FileSystems.join(output, name), text.encode())
    except OSError as error:
        raise CvrError(f"--output={output} cannot be written: {error}") from error


def main(argv: Sequence[str]) -> int:
    """Validates, writes both files and prints a summary; gives the exit code."""
    started = time.monotonic()
    logging.set_verbosity(logging.WARNING)
    check_beam_flags(argv[1:])
    write.check_filesystem(FLAGS.output, "output")
    verdict = validate(argv[1:])
    publish(FLAGS.output, verdict)
    print(summary_of(verdict))
    print(f"wrote {FileSystems.join(FLAGS.output, PAGE_FILE)} and {JSON_FILE} after {time.monotonic() - started:.1f} s")
    return verdict.exit_code


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main, flags_parser=parse_flags)


if __name__ == "__main__":
    entry()
