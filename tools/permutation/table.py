"""Importances as Markdown: families, features, pairs of families, and the paper's Table 2."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tools.permutation.effects import Effect, Share
from tools.permutation.results import Double, Results, Single
from tools.permutation.shuffles import KINDS

_EFFECT = ("", "95 % interval", "mde")


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rules = ["---", *("---:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rules, *rows))


def _cells(effect: Effect | None, base: float) -> tuple[str, ...]:
    """Value, interval and minimum detectable effect in percent of the base; a value that is not told from 0 in parentheses."""
    if effect is None:
        return "-", "", ""
    low, high = (100 * end / base for end in effect.interval)
    value = f"{100 * effect.value / base:+.2f}"
    return value if effect.clear else f"({value})", f"{low:+.2f} .. {high:+.2f}", f"{100 * effect.mde / base:.2f}"


def _parts(effect: Effect | None, base: float) -> str:
    """Standard errors in percent of the base: lists, permutations, and runs where there are several."""
    if effect is None:
        return ""
    parts = [effect.se_lists, effect.se_permutations, *([effect.se_runs] if effect.se_runs is not None else [])]
    return " / ".join(f"{100 * part / base:.2f}" for part in parts)


def singles(rows: Sequence[Single], base: float, runs: int, noun: str) -> str:
    """First order, a row per feature or family, both kinds of shuffle beside each other."""
    parts = "se lists / permutations" + (" / runs" if runs > 1 else "")
    head = (noun, *(column or kind for kind in KINDS for column in (*_EFFECT, parts)))
    body = [
        (row.name, *(cell for kind in KINDS for cell in (*_cells(row.effects[kind], base), _parts(row.effects[kind], base))))
        for row in rows
    ]
    return _rows(head, body)


def doubles(rows: Sequence[Double], base: float) -> str:
    """Second order, a row per pair, the greatest interaction first."""
    head = ("pair", "joint", *_EFFECT[1:], "interaction", *_EFFECT[1:])
    body = []
    for row in sorted(rows, key=lambda row: -abs(row.interaction.value)):
        body.append((" x ".join(row.names), *_cells(row.joint, base), *_cells(row.interaction, base)))
    return _rows(head, body)


def _share(share: Share | None) -> tuple[str, str, str]:
    if share is None or math.isnan(share.value):
        return "-", "", ""
    return f"{share.value:.1%}", f"{share.interval[0]:.1%} .. {share.interval[1]:.1%}", f"{share.mde:.1%}"


def table2(rows: Sequence[Double], base: float) -> str:
    """The anchor's second order by category, with shares of their sum."""
    columns = ("share", "95 % interval", "mde")
    head = ("", "shuffle", "joint", *_EFFECT[1:], *columns, "interaction", *_EFFECT[1:], *columns)
    body = []
    for row in rows:
        joint, interaction = _cells(row.joint, base), _cells(row.interaction, base)
        body.append((" x ".join(row.names), row.kind, *joint, *_share(row.joint_share), *interaction, *_share(row.interaction_share)))
    return _rows(head, body)


def markdown(results: Results, title: str, runs: int, trained_on: bool) -> str:
    """The whole page; `trained_on` says whether the lists were trained on."""
    base = results.base.value
    low, high = results.base.interval
    parts = [
        f"# {title}",
        f"mAP {base:.4f} [{low:.4f}, {high:.4f}] unshuffled. All figures below are drops of mAP by shuffling, in percent of it. In "
        "parentheses: not told from 0 (p >= .05, corrected for the table by Holm's method). mde: the smallest true drop that such a "
        "measurement finds in 80 % of cases. -: the shuffle moves nothing.",
        *(["**The model was trained on these lists: this is what it uses to fit them, not what it ranks new ones by.**"] * trained_on),
        "## Families\n\n" + singles(results.families, base, runs, "family"),
        "## Features\n\n" + singles(results.features, base, runs, "feature"),
    ]
    if results.table2:
        note = "Shares are of the sum over the categories, negative values counting 0."
        parts.append(f"## {results.table2[0].names[0]} with each category\n\n{note}\n\n" + table2(results.table2, base))
    for kind in KINDS:
        rows = [row for row in results.pairs if row.kind == kind]
        if rows:
            parts.append(f"## Pairs, shuffled {kind} lists\n\n" + doubles(rows, base))
    return "\n\n".join(parts) + "\n"
