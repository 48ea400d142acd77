"""What the pipeline benchmark runs: each variant a command, and which variant at which size."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from cvr.errors import CvrError

SMALL_LOG = 1_000
"""Events of the almost empty log whose build is the start-up."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """One design. `shape` names the spec of ours; `sizes` says where it runs: all, the smallest, or the largest size."""

    name: str
    title: str
    module: str
    shape: str = ""
    hot: bool = False
    sizes: str = "all"

    @property
    def base(self) -> str:
        """The variant whose start-up is this one's: the same command on an ordinary log."""
        return self.shape or self.name


_OURS = "pipelines.build_lists"
VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("attribution", "our job, attribution and lists", _OURS, "attribution"),
        Variant("full", "our job, aggregates, history and text", _OURS, "full"),
        Variant("duckdb", "one DuckDB process, attribution and lists", "tools.benchmarks.duckdb_lists"),
        Variant("polars", "one Polars process, attribution and lists", "tools.benchmarks.polars_lists"),
        Variant("plain", "plain Beam over events, attribution and lists", "tools.benchmarks.plain_beam", sizes="smallest"),
        Variant("attribution-hot", "attribution, one customer with 30 % of all events", _OURS, "attribution", True, "largest"),
        Variant("full-hot", "full, one customer with 30 % of all events", _OURS, "full", True, "largest"),
    )
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """One variant at one size, in events asked of the generator."""

    variant: str
    events: int

    @property
    def hot(self) -> bool:
        """Whether its log has a hot customer."""
        return VARIANTS[self.variant].hot


def cells(names: Sequence[str], sizes: Sequence[int]) -> list[Cell]:
    """The cells of some variants, smallest size first."""
    chosen = {"all": set(sizes), "smallest": {min(sizes)}, "largest": {max(sizes)}}
    return [Cell(name, size) for size in sorted(set(sizes)) for name in names if size in chosen[VARIANTS[name].sizes]]


def check_variants(names: Sequence[str]) -> None:
    """Raises CvrError for a name that is none, and for one whose library is not installed."""
    for name in names:
        if name not in VARIANTS:
            raise CvrError(f"--only={name}: no such variant; there are {', '.join(VARIANTS)}")
        if name in ("duckdb", "polars") and importlib.util.find_spec(name) is None:
            others = ",".join(other for other in VARIANTS if other != name)
            raise CvrError(f"{name} is not installed: pip install '.[bench]', or leave it out with --only={others}")


def result_of(variant: Variant, folder: Path) -> Path:
    """Where a variant writes, in a folder of its own."""
    return folder / (f"{variant.name}.parquet" if variant.name in ("duckdb", "polars") else variant.name)


def flags_of(variant: Variant, log: Path, specs: Path, output: Path, cpus: int) -> list[str]:
    """The flags of a variant's command."""
    flags = [f"--input={log}", f"--output={output}"]
    if variant.name == "duckdb":
        flags.append(f"--threads={cpus}")
    if variant.shape:
        spec = f"--spec={specs / variant.shape}.yaml"
        flags += ["--source=canonical", spec, "--drop_unconverted=none"]
        flags += ["--popularity_bucket=none"] if variant.shape == "attribution" else []
    return flags


def bytes_of(path: Path) -> int:
    """The bytes of a file, or of all data files of a folder (a manifest and counts are none)."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*.tfrecord.gz"))
