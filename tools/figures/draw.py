"""Writes docs/figures/<backbone>.svg: `python -m tools.figures.draw`."""

from __future__ import annotations

from collections.abc import Sequence

from cvr.errors import run_main
from tools.figures.models import FIGURES
from tools.source_tree import ROOT

FOLDER = ROOT / "docs" / "figures"


def main(argv: Sequence[str]) -> int:
    """Draws all of them."""
    del argv
    FOLDER.mkdir(exist_ok=True)
    for name, draw in FIGURES.items():
        (FOLDER / f"{name}.svg").write_text(draw().svg(), encoding="utf-8")
    print(f"{len(FIGURES)} figures in {FOLDER}")
    return 0


def entry() -> None:
    """Console entry point."""
    run_main(main)


if __name__ == "__main__":
    entry()
