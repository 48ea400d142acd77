"""Prints search lists in readable form: `python -m tools.inspect_lists --lists=FOLDER`. docs/interchange.md shows what comes out.

    python -m tools.inspect_lists --lists=runs/demo/lists --split=test --count=1
    python -m tools.inspect_lists --lists=runs/demo/lists --search_id=s-17 --logs=runs/demo/logs --features=price,query,history
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import flags

from cvr.errors import CvrError, run_main
from cvr.schema import Feature, FeatureSpec
from cvr.stored import Part, Selection, StoredLists
from tools.inspection.layout import list_lines
from tools.inspection.output import csv_lines, json_lines, parquet_bytes
from tools.inspection.readable import Names, Reader

FORMATS = ("text", "json", "csv", "parquet")
_SHORT_ID, _WHOLE_ID = 8, 16

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("lists", None, "Folder that pipelines.build_lists wrote, in either format.", required=True)
    flags.DEFINE_string("split", None, "The split; by default the first that holds lists, or the one that holds --search_id.")
    flags.DEFINE_list("search_id", None, "Show these lists.")
    flags.DEFINE_integer("index", 0, "Show lists from this number of the split (or day) on, counted from 0.", lower_bound=0)
    flags.DEFINE_list("day", None, "Only lists of these days, such as 2026-01-31.")
    flags.DEFINE_integer("count", 3, "How many lists; 0 for all.", lower_bound=0)
    flags.DEFINE_list("features", None, "Show only these features; all by default.")
    flags.DEFINE_string("logs", None, "The logs of the lists, or only their table of items: ids and texts get their names from them.")
    flags.DEFINE_enum("format", "text", FORMATS, "What to write.")
    flags.DEFINE_string("output", None, "File to write; it must not exist. By default the terminal (not for parquet).")
    flags.DEFINE_integer("width", 120, "Characters per line of format text.", lower_bound=60)


def chosen_features(spec: FeatureSpec, names: Sequence[str] | None) -> list[Feature]:
    """Stored features by name, in the spec's order. Raises CvrError for a name that is none, saying which are like it."""
    stored = {f.name: f for f in spec.select(stored=True)}
    for name in names or ():
        if name in stored:
            continue
        if name in spec.features:
            raise CvrError(f"--features={name}: it is derived in the model's graph and not stored in lists")
        like = ", ".join(difflib.get_close_matches(name, stored, n=3, cutoff=0.0))
        raise CvrError(f"--features={name}: no such feature; like it: {like}")
    return [f for f in stored.values() if not names or f.name in names]


def _selection(stored: StoredLists) -> Selection:
    split = FLAGS.split
    if split is None and FLAGS.search_id:
        found = stored.locate(FLAGS.search_id[0])
        split = found[0] if found else None
    if split is None:
        split = next((name for name, held in stored.manifest.splits.items() if held.lists), "train")
    if FLAGS.search_id and FLAGS["index"].present:
        raise CvrError("--search_id and --index both say which lists to show; give one of them")
    return Selection(split, FLAGS.day, FLAGS.search_id, FLAGS.index, FLAGS.count or None)


def _text(stored: StoredLists, selection: Selection, features: Sequence[Feature], names: Names, parts: Sequence[Part]) -> Iterator[str]:
    files = stored.manifest.split(selection.split).files
    total = sum(file.lists for file in files if not selection.days or file.day in selection.days)
    reader = Reader(stored.spec, features, names, _SHORT_ID)
    for place, shown in enumerate(shown for part in parts for shown in reader.lists(part, selection.split)):
        yield from ["", ""] if place else []
        yield from list_lines(shown, features, total, FLAGS.width)


def _names(stored: StoredLists, features: Sequence[Feature], parts: Sequence[Part]) -> Names:
    from tools.inspection.names import find_names  # Beam takes seconds to import, and only the logs need it

    return find_names(features, [part.columns for part in parts], FLAGS.logs, stored.manifest.source)


def _content(stored: StoredLists, selection: Selection) -> bytes:
    features = chosen_features(stored.spec, FLAGS.features)
    parts = list(stored.read(selection))
    if FLAGS.format == "parquet":
        return parquet_bytes(stored.spec, features, parts)
    names = _names(stored, features, parts) if FLAGS.logs else Names()
    if FLAGS.format == "text":
        lines = _text(stored, selection, features, names, parts)
    else:
        reader = Reader(stored.spec, features, names, _WHOLE_ID)
        lists = (shown for part in parts for shown in reader.lists(part, selection.split))
        lines = json_lines(lists) if FLAGS.format == "json" else csv_lines(lists, stored.spec, features)
    return "".join(f"{line}\n" for line in lines).encode()


def main(argv: Sequence[str]) -> None:
    """Prints or writes the chosen lists."""
    del argv
    if FLAGS.format == "parquet" and not FLAGS.output:
        raise CvrError("--format=parquet needs --output=FILE")
    if FLAGS.output and Path(FLAGS.output).exists():
        raise CvrError(f"--output={FLAGS.output} exists; give a new file")
    stored = StoredLists(FLAGS.lists)
    content = _content(stored, _selection(stored))
    if FLAGS.output:
        Path(FLAGS.output).write_bytes(content)
    else:
        sys.stdout.write(content.decode())


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main)


if __name__ == "__main__":
    entry()
