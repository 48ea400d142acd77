"""The paper's Table 1 at its own sizes: FLOPs per item of our backbones beside the published ones.

    python -m tools.table1_flops            a line per cell, the worst difference of each backbone, the misprint
    python -m tools.table1_flops --json     the same as JSON

Every cell is counted from the backbone's configuration; no weights are made. What the paper leaves open was decoded from the table itself
(2 FLOPs per multiply-add, k = 1024, nothing shared between the items of a list): an input of 3,590 numbers, a head whose first layer is
4,096 wide, and behind that layer a constant per backbone, the rest of the head. RankMixer's constant is larger than the others' by 1.8e6,
which nothing in the paper explains.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any

from absl import flags

from cvr import backbones
from cvr.errors import run_main

FLAGS = flags.FLAGS

INPUT_WIDTH, HEAD_WIDTH = 3590, 4096
REST = {"dcnv2": 1.85e6, "masknet": 1.85e6, "transformer": 1.95e6, "rankmixer": 3.65e6}
TOLERANCE = 0.015
K = 1024


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of Table 1: the values of one factor, the published FLOPs in units of 1e7, and what else differs from `variant`."""

    backbone: str
    variant: str
    name: str
    factor: str
    values: tuple[int, int, int, int]
    published: tuple[float, float, float, float]
    others: dict[str, Any] = dataclasses.field(default_factory=dict)


ROWS = (
    Row("dcnv2", "L", "cross width", "cross_width", (K, 2 * K, 4 * K, 8 * K), (4.17, 6.37, 12.03, 28.37)),
    Row("dcnv2", "L", "deep width", "deep_width", (K, 2 * K, 4 * K, 6 * K), (4.17, 7.63, 18.32, 34.04)),
    Row("masknet", "L", "cross width", "cross_width", (512, K, 2 * K, 4 * K), (2.87, 4.70, 10.89, 33.31)),
    Row("masknet", "L", "deep width", "deep_width", (512, K, 2 * K, 4 * K), (9.62, 10.89, 13.41, 18.45)),
    Row("masknet", "L", "parallel blocks", "parallel_blocks", (1, 2, 4, 8), (6.27, 10.89, 20.12, 38.59)),
    Row("masknet", "L", "sequential blocks", "sequential_blocks", (1, 2, 4, 8), (6.27, 9.00, 14.45, 25.36), {"parallel_blocks": 1}),
    Row("transformer", "M", "d_model", "model_width", (32, 64, 128, 192), (0.87, 1.85, 5.18, 10.19), {"ffn_width": (256, 4)}),
    Row("transformer", "M", "sequence length", "tokens", (16, 32, 64, 128), (0.87, 1.75, 4.22, 12.01)),
    Row("transformer", "M", "layers", "layers", (1, 2, 4, 8), (0.78, 0.87, 1.04, 1.39)),
    Row("transformer", "M", "heads", "heads", (1, 2, 4, 8), (0.83, 0.87, 0.93, 1.07)),
    Row("transformer", "M", "ffn_dim", "ffn_width", (128, 256, 512, K), (0.81, 0.87, 0.97, 1.18)),
    Row("rankmixer", "M", "d_model", "model_width", (64, 128, 256, 384), (1.78, 4.40, 13.43, 27.49), {"ffn_width": (0, 4)}),
    Row("rankmixer", "M", "sequence length", "tokens", (8, 16, 32, 64), (0.99, 1.78, 39.80, 10.91)),
    Row("rankmixer", "M", "layers", "layers", (1, 2, 4, 8), (1.67, 1.78, 1.99, 2.43)),
    Row("rankmixer", "M", "ffn_dim", "ffn_width", (128, 256, 512, K), (1.67, 1.78, 1.99, 2.42)),
)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One cell: FLOPs per item, published and ours."""

    backbone: str
    factor: str
    value: int
    published: float
    ours: float

    @property
    def difference(self) -> float:
        """Of ours, as a share of the published."""
        return self.ours / self.published - 1.0

    @property
    def is_misprint(self) -> bool:
        """Whether the published number is ten times what its neighbours and ours agree on."""
        return abs(10.0 * self.ours / self.published - 1.0) <= TOLERANCE


def cells() -> Iterator[Cell]:
    """All 60 cells, row by row."""
    for row in ROWS:
        for value, published in zip(row.values, row.published, strict=True):
            yield Cell(row.backbone, row.name, value, published * 1e7, flops(row.backbone, row.variant, _factors(row, value)))


def _factors(row: Row, value: int) -> dict[str, Any]:
    """The factors of a cell. A pair (least, times) follows the row's own factor: max(least, times * value)."""
    others = {name: max(other[0], other[1] * value) if isinstance(other, tuple) else other for name, other in row.others.items()}
    return {row.factor: value, **others}


def flops(backbone: str, variant: str, factors: dict[str, Any]) -> float:
    """FLOPs per item at the paper's input and head: projection, backbone, first layer of the head, rest of the head."""
    made = backbones.load(backbone).Backbone(backbones.make_config(backbone, factors, variant))
    products = INPUT_WIDTH * sum(made.views.values()) + made.multiply_adds() + made.width * HEAD_WIDTH
    return 2.0 * products + REST[backbone]


def report(found: Sequence[Cell]) -> str:
    """The table and its summary for a terminal."""
    lines = [f"{'backbone':<12}{'factor':<18}{'value':>6}{'published':>12}{'ours':>10}{'difference':>12}   (1e7 FLOPs per item)"]
    for cell in found:
        note = f"   a misprint for {cell.published / 1e8:.3f}: ten times too much" if cell.is_misprint else ""
        numbers = f"{cell.published / 1e7:>12.2f}{cell.ours / 1e7:>10.3f}{cell.difference:>+12.2%}"
        lines.append(f"{cell.backbone:<12}{cell.factor:<18}{cell.value:>6}{numbers}{note}")
    good = [cell for cell in found if abs(cell.difference) <= TOLERANCE]
    for name in REST:
        worst = max(abs(cell.difference) for cell in good if cell.backbone == name)
        lines.append(f"{name}: differs by at most {worst:.2%}")
    lines.append(f"{len(good)} of {len(found)} cells within {TOLERANCE:.1%}")
    return "\n".join(lines)


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_bool("json", False, "Print JSON.")


def main(argv: Sequence[str]) -> int:
    """Prints the table; the exit code is 1 where a cell is neither within the tolerance nor the known misprint."""
    del argv
    found = list(cells())
    rows = [{**dataclasses.asdict(cell), "difference": cell.difference, "is_misprint": cell.is_misprint} for cell in found]
    print(json.dumps(rows, indent=1) if FLAGS.json else report(found))
    return 0 if all(abs(cell.difference) <= TOLERANCE or cell.is_misprint for cell in found) else 1


def entry() -> None:
    """Console entry point."""
    define_flags()
    run_main(main)


if __name__ == "__main__":
    entry()
