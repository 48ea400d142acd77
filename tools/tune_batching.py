"""Finds the batching of a served model with the greatest load within a latency limit, on this machine (docs/capacity.md).

    python -m tools.tune_batching --export=DIR --lists=DIR --p99_ms=50 --output=DIR2 [--timeouts=0,2,5,10] [--batch_threads=1,2]

Serves the model once per candidate, loads all in turns, and halves the candidates in rounds that look closer each time. Writes into
--output: export/ with a copy of the version that has the winning batching, batching.flags for export.save, tuning.json and tuning.svg.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from cvr.errors import CvrError, run_main
from cvr.manifest import publish_json
from export.batching import Batching
from export.versions import newest
from tools.benchmarks.tables import table
from tools.load_test import define_request_flags, numbers, payloads_of_flags, report, say, timing_of_flags
from tools.serving.peak import Effort, Play
from tools.serving.plots import bar_plot
from tools.serving.rebatch import batching_of, rebatch, sizes_of
from tools.serving.sweep import candidate
from tools.serving.tuning import Tuned, candidates, flagfile, halve, name_of
from tools.stages import interrupt_on_termination

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The command's flags."""
    define_request_flags()
    flags.DEFINE_string("output", None, "Folder for what is found; must not exist.", required=True)
    flags.DEFINE_float("p99_ms", 50.0, "Latency limit.", lower_bound=0.1)
    flags.DEFINE_list("timeouts", ["0", "2", "5", "10"], "Batch timeouts to try, ms.")
    flags.DEFINE_list("batch_threads", ["1", "2"], "Numbers of batch threads to try.")
    flags.DEFINE_multi_string("batch_sizes", ["32,128,512"], "Allowed batch sizes to try; may be given several times.")
    flags.DEFINE_float("first_rate", Effort.first, "Where a search begins to look, requests a second.", lower_bound=0.5)


def shown(found: Sequence[Tuned], before: Batching) -> str:
    """A row per candidate, best first."""
    rows = []
    for tuned in found:
        low, high = tuned.bounds
        p99 = f"{tuned.peak.held.p99_ms:.1f}" if tuned.peak.held else ""
        note = "as exported" if tuned.batching == before else ""
        late = "*" * tuned.peak.of_generator
        rows.append([name_of(tuned.batching), f"{low:,.0f}-{high:,.0f}{late}", p99, str(tuned.rounds), note])
    text = table(["batching", "peak items/s", "p99 ms", "rounds", ""], rows, markdown=False)
    return text + ("\n* the load generator may have been the limit" if "*" in text else "")


def write(output: Path, version: Path, found: Sequence[Tuned], settings: dict[str, Any]) -> None:
    """The winner's export and flags, the report and its plot."""
    best = found[0].batching
    rebatch(version, output / "export", 1, best)
    (output / "batching.flags").write_text(f"# {name_of(best)}: tools.tune_batching\n{flagfile(best)}", encoding="utf-8")
    bars = {name_of(tuned.batching): (tuned.peak.items_per_second, *tuned.bounds) for tuned in found}
    bar_plot(output / "tuning.svg", bars, f"Peak by batching, P99 within {FLAGS.p99_ms:g} ms", "items/s; the line ends where it broke")
    publish_json(output / "tuning.json", report("tune_batching", settings) | {"results": [tuned.to_json() for tuned in found]})


def main(argv: Sequence[str]) -> int:
    """Searches, writes and says what won."""
    del argv
    output = Path(FLAGS.output)
    if not FLAGS.export:
        raise CvrError("say which model to tune: --export=DIR")
    if output.exists():
        raise CvrError(f"--output={output} exists; choose another folder or remove it")
    interrupt_on_termination()
    version, payloads, timing = newest(FLAGS.export), payloads_of_flags(), timing_of_flags()
    before = batching_of(version)
    sizes = [sizes_of(text.split(",")) for text in FLAGS.batch_sizes]
    chosen = candidates(before, numbers("timeouts"), sizes, [int(number) for number in numbers("batch_threads", least=1)])
    say(f"{len(chosen)} candidates; {payloads.described}")
    with tempfile.TemporaryDirectory() as work:

        @contextlib.contextmanager
        def open_server(batching: Batching) -> Iterator[Play]:
            with candidate(version, batching, Path(work) / name_of(batching), payloads, timing, FLAGS.threads) as running:
                yield running.play

        found = halve(chosen, open_server, FLAGS.p99_ms, FLAGS.first_rate, say)
    write(output, version, found, {"p99_ms": FLAGS.p99_ms, "requests": payloads.described, "threads": FLAGS.threads})
    print(shown(found, before))
    print(f"serve it:   python -m export.serve --model_base_path={output / 'export'}")
    print(f"export so:  python -m export.save --run=RUN --output=DIR --flagfile={output / 'batching.flags'}")
    return 0


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main)


if __name__ == "__main__":
    entry()
