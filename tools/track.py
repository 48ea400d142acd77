"""Runs and evaluations in one table, and what differs between two of them.

    python -m tools.track --runs=runs,studies --output=runs.parquet        a row per run and evaluation; the same as runs.json
    python -m tools.track --diff runs/a runs/b                             settings, spec, lists, versions, metrics that differ
    python -m tools.track --diff runs/a/eval runs/b/eval                   also the paired difference on the same lists
    python -m tools.track --runs=runs --mlflow=http://localhost:5000       the same rows as runs of MLflow

docs/tracking.md names the columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from cvr.errors import CvrError, run_main
from cvr.evaluate import without_nan
from cvr.manifest import publish_json
from tools.tracking import difference, mlflow_export
from tools.tracking.gather import Record, find, record_of, rows_of, run_of, table

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The command's flags; with --diff the two folders are arguments."""
    flags.DEFINE_list("runs", [], "Folders in which runs and evaluations are looked for, at any depth.")
    flags.DEFINE_string("output", None, "Table to write, .parquet; the same as .json beside it. Replaced if it is there.")
    flags.DEFINE_bool("diff", False, "Tells what differs between the two folders given as arguments; --runs says where else runs may be.")
    flags.DEFINE_string("mlflow", None, "Tracking URI of MLflow to log the rows to; those it has are left out.")
    flags.DEFINE_string("mlflow_experiment", "cvr", "MLflow experiment.")


def with_run(folder: Path, records: Sequence[Record]) -> tuple[Record, Record | None]:
    """The record of a folder and, of an evaluation, its run: among `records`, or where the evaluation says it was."""
    record = record_of(folder)
    if record.kind == "run":
        return record, None
    named = Path(record.info.get("run", ""))
    places = [named, *(parent / named.name for parent in record.folder.resolve().parents)]
    near = [record_of(place) for place in places if named.parts and (place / "run.json").is_file()]
    return record, run_of(record, [*records, *near])


def diff(folders: Sequence[str]) -> str:
    """The report of --diff. Raises CvrError unless two folders are given."""
    if len(folders) != 2:
        raise CvrError(f"--diff takes two folders, of runs or of evaluations; got {len(folders)}: --diff runs/a runs/b")
    records = find(FLAGS.runs) if FLAGS.runs else []
    a, b = (with_run(Path(folder), records) for folder in folders)
    if a[0].kind != b[0].kind:
        raise CvrError(f"{folders[0]} is of kind {a[0].kind}, {folders[1]} of kind {b[0].kind}; give two runs or two evaluations")
    return difference.text(difference.difference(a, b))


def gather() -> None:
    """Writes the table and logs it to MLflow, as the flags say. Raises CvrError without anything to do."""
    if not FLAGS.runs or not (FLAGS.output or FLAGS.mlflow):
        raise CvrError("give --runs=FOLDER,.. with --output=runs.parquet or --mlflow=URI, or --diff A B")
    output = Path(FLAGS.output) if FLAGS.output else None
    if output is not None and output.suffix != ".parquet":
        raise CvrError(f"--output={output}: expected a name that ends in .parquet")
    rows = rows_of(find(FLAGS.runs))
    kinds = [row["kind"] for row in rows]
    print(f"{kinds.count('run')} runs and {kinds.count('evaluation')} evaluations")
    for row in rows:
        if row["kind"] == "evaluation" and not row["run_found"]:
            print(f"{row['folder']}: its run {row['run'] or '(not named)'} is not in --runs, or has another checkpoint now")
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        table(rows).to_parquet(output, index=False)
        publish_json(output.with_suffix(".json"), {"rows": without_nan(rows)})
        print(f"written to {output}")
    if FLAGS.mlflow:
        print(f"{mlflow_export.export(rows, FLAGS.mlflow, FLAGS.mlflow_experiment)} rows logged to {FLAGS.mlflow}")


def main(argv: Sequence[str]) -> int:
    """Gathers, or tells differences."""
    if FLAGS.diff:
        print(diff(argv[1:]))
        return 0
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; every option is a flag (--name=value)")
    gather()
    return 0


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main, flags_parser=lambda argv: app.parse_flags_with_usage(list(argv)))


if __name__ == "__main__":
    entry()
