"""Says what an exported version is and takes and gives, from its files.

    python -m export.describe --export=runs/NAME/export --list       named inputs and outputs of every signature: type, shape, meaning
    python -m export.describe --export=runs/NAME/export              these, and run, tasks, storage, batching, parity
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from cvr.errors import run_main
from export.extras import about
from export.inputs import ITEM_ID
from export.versions import newest

FLAGS = flags.FLAGS
_FACTS = ("version", "dataset", "run", "checkpoint", "spec_fingerprint", "data_fingerprint", "parameters", "tables_on")


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("export", None, "Base folder of versions (the newest is described) or a version folder.", required=True)
    flags.DEFINE_bool("list", False, "Only the named inputs and outputs.")


def listed(signatures: Mapping[str, Any]) -> str:
    """A line per input and output: `in` or `out`, name, type, shape and meaning."""
    blocks = []
    for name, sides in signatures.items():
        rows = [
            (side, key, f"{entry['dtype']} [{_shape(key, entry['shape'])}]", entry.get("meaning", ""))
            for side, entries in (("in", sides["inputs"]), ("out", sides["outputs"]))
            for key, entry in entries.items()
        ]
        widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
        lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]).rstrip() for row in rows]
        blocks.append("\n".join([name, *(f"  {line}" for line in lines)]))
    return "\n\n".join(blocks)


def _shape(name: str, sizes: Sequence[int | None]) -> str:
    """Sizes as text; the one that varies is k for a history's events, n otherwise."""
    varying = "k" if "." in name and not name.startswith(ITEM_ID) else "n"
    return ", ".join(varying if size is None else str(size) for size in sizes)


def facts(known: Mapping[str, Any]) -> str:
    """What a version is, a line per fact."""
    rows = {key: known[key] for key in _FACTS if key in known}
    rows["tasks"] = ", ".join(f"{task} (ranks)" if task == known["primary_task"] else task for task in known["tasks"])
    rows |= {f"storage.{key}": value for key, value in known.get("storage", {}).items()}
    rows |= {f"batching.{key}": value for key, value in known["batching"].items()}
    rows |= {f"parity.{key}": value for key, value in known.get("parity", {}).items() if key != "checks"}
    rows["calibration"] = known["calibration"]["meaning"] if known.get("calibration") else "none"
    width = max(map(len, rows))
    return "\n".join(f"{key:<{width}}  {value}" for key, value in rows.items())


def main(argv: Sequence[str]) -> int:
    """Prints the description."""
    del argv
    known = about(newest(FLAGS.export))
    if not FLAGS.list:
        print(facts(known) + "\n")
    print(listed(known["signatures"]))
    return 0


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main)


if __name__ == "__main__":
    entry()
