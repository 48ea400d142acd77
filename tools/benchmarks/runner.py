"""Runs the cells of the pipeline benchmark in turns, on logs that it makes, and checks that all designs come to the same labels."""

from __future__ import annotations

import collections
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cvr.errors import CvrError
from tools.benchmarks.measure import Run, run
from tools.benchmarks.specs import write_specs
from tools.benchmarks.variants import SMALL_LOG, VARIANTS, Cell, bytes_of, cells, flags_of, result_of
from tools.stages import remove

HOT = 0.3
_LABELLED = ("attribution", "attribution-hot", "duckdb", "polars", "plain")
"""Variants with windows of a day for every task, so that their labels must agree."""


@dataclasses.dataclass
class Measured:
    """Runs per cell, the almost empty builds per command, the bytes that each cell wrote, and the labels per log."""

    runs: dict[Cell, list[Run]] = dataclasses.field(default_factory=lambda: collections.defaultdict(list))
    startups: dict[str, list[Run]] = dataclasses.field(default_factory=lambda: collections.defaultdict(list))
    output: dict[Cell, int] = dataclasses.field(default_factory=dict)
    labels: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)


class Runner:
    """Runs variants in a work folder; `say` gets a line per run."""

    def __init__(self, folder: Path, cpus: int, seed: int, say: Callable[[str], None]) -> None:
        self.folder, self.cpus, self.seed = folder, cpus, seed
        self._say = say
        write_specs(folder / "specs")

    def log(self, events: int, hot: bool) -> Path:
        """The folder of a log, which is made where it is not there. Raises CvrError where it was made otherwise."""
        folder = self.folder / "logs" / f"{events}{'-hot' if hot else ''}"
        wanted = {"events": events, "seed": self.seed, "hot": HOT if hot else 0.0}
        if events == SMALL_LOG:
            wanted |= {"items": 256, "queries": 20}
        if not folder.exists():
            self._run("tools.benchmarks.events", [f"--output={folder}", *(f"--{k}={v}" for k, v in wanted.items())])
        made = json.loads((folder / "log.json").read_text(encoding="utf-8"))["settings"]
        other = {key: made.get(key) for key, value in wanted.items() if made.get(key) != value}
        if other:
            raise CvrError(f"{folder} was made with {other}, this run wants {wanted}; remove it or give another --work")
        return folder

    def counts(self, cell: Cell) -> dict[str, int]:
        """Numbers of rows and searches of a cell's log."""
        return json.loads((self.log(cell.events, cell.hot) / "log.json").read_text(encoding="utf-8"))["counts"]

    def _run(self, module: str, flags: Sequence[str]) -> Run:
        return run(module, flags, self.cpus, self.folder / "run")

    def run_cell(self, name: str, events: int, output: Path) -> Run:
        """Runs a variant on a log, anew where it has run before."""
        variant = VARIANTS[name]
        hot = variant.hot and events != SMALL_LOG
        log = self.log(events, hot)
        remove(output)
        output.parent.mkdir(parents=True, exist_ok=True)
        found = self._run(variant.module, flags_of(variant, log, self.folder / "specs", output, self.cpus))
        self._say(f"{name} {events:,}: {found.wall:.1f} s, {found.cpu:.1f} CPU s, {found.peak / 2**20:,.0f} MiB")
        return found

    def measure(self, names: Sequence[str], repeats: Mapping[int, int]) -> Measured:
        """Runs every cell its number of times, all cells once before any twice, each time beginning with another one."""
        measured, planned = Measured(), cells(names, list(repeats))
        bases = list(dict.fromkeys(VARIANTS[name].base for name in names))
        for turn in range(max(repeats.values())):
            for base in bases:
                output = result_of(VARIANTS[base], self.folder / "startup")
                measured.startups[base].append(self.run_cell(base, SMALL_LOG, output))
            shift = turn % len(planned)
            for cell in planned[shift:] + planned[:shift]:
                if turn < repeats[cell.events]:
                    self._measure_cell(cell, measured)
            if turn == 0:
                self._check(planned, measured)
        return measured

    def _output(self, cell: Cell) -> Path:
        return result_of(VARIANTS[cell.variant], self.folder / "outputs" / str(cell.events))

    def _measure_cell(self, cell: Cell, measured: Measured) -> None:
        measured.runs[cell].append(self.run_cell(cell.variant, cell.events, self._output(cell)))
        measured.output[cell] = bytes_of(self._output(cell))
        if cell.variant not in _LABELLED or len(measured.runs[cell]) > 1:
            remove(self._output(cell))

    def _check(self, planned: Sequence[Cell], measured: Measured) -> None:
        """Compares the labels of the designs on each log: counts, and on the smallest one those of every item; removes their outputs."""
        smallest = min(cell.events for cell in planned)
        for events, hot in dict.fromkeys((cell.events, cell.hot) for cell in planned):
            chosen = [c.variant for c in planned if (c.events, c.hot) == (events, hot) and c.variant in _LABELLED]
            paths = {name: self._output(Cell(name, events)) for name in chosen}
            if hot and chosen and any(cell.variant == "duckdb" for cell in planned):
                paths["duckdb"] = result_of(VARIANTS["duckdb"], self.folder / "outputs" / f"{events}-hot")
                flags = flags_of(VARIANTS["duckdb"], self.log(events, hot), self.folder, paths["duckdb"], self.cpus)
                paths["duckdb"].parent.mkdir(parents=True, exist_ok=True)
                self._run("tools.benchmarks.duckdb_lists", flags)
            if paths:
                measured.labels[f"{events}{'-hot' * hot}"] = self._labels(paths, rows=events == smallest)
                for path in paths.values():
                    remove(path)

    def _labels(self, paths: Mapping[str, Path], rows: bool) -> dict[str, Any]:
        """The labels of some designs' outputs. Raises CvrError where they differ."""
        found = self.folder / "labels.json"
        tables = ",".join(str(paths[name]) for name in ("duckdb", "polars") if name in paths)
        flags = [f"--output={found}", f"--parquet={tables}"]
        named = (("lists", "attribution"), ("lists", "attribution-hot"), ("examples", "plain"))
        flags += [f"--{flag}={paths[name]}" for flag, name in named if name in paths]
        self._run("tools.benchmarks.labels", flags + ["--rows"] * rows)
        labels = json.loads(found.read_text(encoding="utf-8"))
        if any(other != next(iter(labels.values())) for other in labels.values()):
            raise CvrError(f"the designs do not agree on the labels of {', '.join(map(str, paths.values()))}: {json.dumps(labels)}")
        return labels
