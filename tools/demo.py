"""The whole way in one command, which is what `make demo` calls: logs to lists to a ranker to a served model and a report.

    python -m tools.demo                                              synthetic logs
    python -m tools.demo --source=trivago2019 --input=sessions.parquet
    python -m tools.demo --force                                      from the first stage, whatever is there

Every stage is a command that can be run by itself; the demo prints it. Finished stages are kept when it runs again.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from cvr.errors import CvrError, run_main
from tools.demo_plan import SOURCES, Choices, check, stages
from tools.stages import Runner, child, interrupt_on_termination, remove, run_child

ROOT = Path(__file__).resolve().parents[1]
SERVER_SECONDS = 120.0

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_enum("source", "synthetic", sorted(SOURCES), "What kind of logs.")
    flags.DEFINE_string("input", None, "File or folder of the logs; none for synthetic ones, which are made.")
    flags.DEFINE_string("run", None, "The run's name, and its folder's; the source's name by default.")
    flags.DEFINE_string("runs", "runs", "Folder of all runs.")
    flags.DEFINE_bool("force", False, "Delete the run's folder first.")
    flags.DEFINE_string("spec", None, "Feature spec, in place of the source's own.")
    flags.DEFINE_string("train_flagfile", None, "Flags of cvr.train, in place of the source's own.")
    flags.DEFINE_string("validation_from", None, "First time of the validation lists (ISO 8601, UTC).")
    flags.DEFINE_string("test_from", None, "First time of the test lists (ISO 8601, UTC).")
    flags.DEFINE_list("make_logs", [], "Flags of tools.make_logs, such as --days=14,--searches_per_day=2500.")


def choices_of_flags() -> Choices:
    """The run that the flags ask for. Raises CvrError for a name that is not a folder's."""
    name = FLAGS.run or FLAGS.source
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise CvrError(
            f"--run={name}: a name of letters, digits, _ . and - is expected, it becomes the folder runs/<name>"
        )
    given = {
        "spec": FLAGS.spec,
        "flagfile": FLAGS.train_flagfile,
        "validation_from": FLAGS.validation_from,
        "test_from": FLAGS.test_from,
    }
    settings = dataclasses.replace(SOURCES[FLAGS.source], **{key: value for key, value in given.items() if value})
    return Choices(FLAGS.source, FLAGS.input, Path(FLAGS.runs) / name, settings, tuple(FLAGS.make_logs))


def rank_one_search(runner: Runner, choices: Choices) -> None:
    """Serves the exported model in the background and ranks the items of one test list through it."""
    server = ("export.serve", f"--model_base_path={choices.export}", "--port=0")
    log = choices.folder / "serve.log"
    with runner.timed("serve", "A served answer over gRPC", " ".join(server)), child(server, ROOT, log) as process:
        deadline = time.monotonic() + SERVER_SECONDS
        while not (found := re.search(r"serving model .* on ([\w.:]+:\d+)", log.read_text(errors="replace"))):
            if process.poll() is not None or time.monotonic() > deadline:
                raise CvrError(f"the server did not start; {log} says why")
            time.sleep(0.1)
        client = ("export.client", f"--target={found.group(1)}", f"--lists={choices.lists}")
        print(f"   python -m {' '.join(client)}", flush=True)
        runner.check("client", run_child(client, ROOT))


def main(argv: Sequence[str]) -> int:
    """Runs all stages and writes summary and report; returns the exit code."""
    del argv
    interrupt_on_termination()
    if Path.cwd() != ROOT:
        raise CvrError(f"run the demo in {ROOT}: its configs/ and runs/ are there")
    choices = choices_of_flags()
    check(choices)
    if FLAGS.force:
        remove(choices.folder)
    runner = Runner(choices.folder, ROOT)
    for stage in stages(choices):
        runner.run(stage)
    rank_one_search(runner, choices)
    report = ("tools.report", f"--run={choices.folder}", f"--source={choices.source}")
    runner.repeat("report", "Summary and report", report)
    print(f"\nopen {choices.folder}/report.html")
    return 0


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main)


if __name__ == "__main__":
    entry()
