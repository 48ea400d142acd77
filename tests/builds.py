"""One small log built in both record formats, with every state that a value can have in it."""

from __future__ import annotations

from pathlib import Path

from pipelines import build_lists
from pipelines.job import build
from pipelines.settings import format_time
from tests.commands import run_main
from tests.pipelines import logs

SPEC = f"""{logs.SPEC}
  screen: {{kind: categorical, level: context, from: impression.device, vocabulary: [tablet], embedding: {{buckets: 1, dim: 2}}}}
  words: {{kind: categorical, level: item, from: item.title, separator: " ", embedding: {{buckets: 8, dim: 2}}}}
  late: {{kind: numerical, level: item, from: impression.price, introduced_on: 2026-01-02}}
  late_kind: {{kind: categorical, level: item, from: impression.item_id, introduced_on: 2026-01-02, embedding: {{buckets: 8, dim: 2}}}}
  late_history:
    kind: sequence
    level: context
    history: {{events: [click], length: 2}}
    introduced_on: 2026-01-02
    embedding: {{buckets: 8, dim: 2}}
"""


def build_both_formats(folder: Path) -> None:
    """Writes `<folder>/log` and builds it into `<folder>/lists` and, by the command, into `<folder>/elwc`.

    28 of the 40 searches become lists: s0 to s11 (2026-01-01) and s12 to s23 are train, s24 to s27 test.
    """
    log = logs.write_log(folder / "log", *logs.small_log())
    settings = logs.settings(log, folder / "lists", SPEC)
    build(settings)
    (folder / "spec.yaml").write_text(SPEC)
    arguments = [f"--input={log}", f"--spec={folder / 'spec.yaml'}", f"--output={folder / 'elwc'}", "--format=elwc"]
    arguments += [f"--partitions={settings.partitions}", f"--drop_unconverted={settings.drop_unconverted}"]
    run_main(build_lists, *arguments, f"--test_from={format_time(settings.test_from)}")
