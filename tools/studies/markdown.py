"""A study's table as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tools.comparison.table import Row


def markdown(rows: Sequence[Mapping[str, Any]], differences: Sequence[Row], task: str, split: str) -> str:
    """A row per system: mAP with its interval over lists and seeds, costs, and the difference to the reference."""
    by_system = {row.system: row for row in differences}
    reference = differences[0].reference
    priced = ("parameters", "FLOPs per item", "items/s")
    titles = ("system", f"{split} mAP, {task}", "seeds (sd)", *priced, f"difference to {reference}", "chosen on validation")
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for row in rows:
        low, high = row["map_ci"]
        seeds = f"{row['seeds']} (±{row['map_sd']:.4f})" if row["seeds"] > 1 else str(row["seeds"])
        found = by_system.get(row["system"])
        difference = f"{found.found.difference:+.4f} [{found.found.interval[0]:+.4f}, {found.found.interval[1]:+.4f}]" if found else ""
        costs = ["", "", ""]
        if "parameters" in row:
            costs = [f"{row['parameters']:,}", f"{row['flops_per_item'] / 1e6:.2f} M", f"{row['items_per_second']:,.0f}"]
        chosen = ", ".join(f"{key} {value}" for key, value in row.get("chosen", {}).items())
        cells = [row["system"], f"{row['map']:.4f} [{low:.4f}, {high:.4f}]", seeds, *costs, difference, chosen]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
