"""Renders the validation page from its template; the page needs no other file and no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2

from pipelines.validation.results import Check


@dataclass(frozen=True)
class Tile:
    """A figure that matters, at the top of the page; `status` colours it."""

    name: str
    value: str
    remark: str
    status: str = ""


@dataclass(frozen=True)
class Table:
    """Head and rows of texts; one with a title can be folded, and is unless `open`."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    open: bool = False


@dataclass(frozen=True)
class Section:
    """A titled part of the page: introduction, figure (SVG text), tables, note."""

    title: str
    intro: str = ""
    figure: str = ""
    tables: Sequence[Table] = ()
    note: str = ""


@dataclass(frozen=True)
class Page:
    """The whole page; `open_checks` are those that did not pass."""

    title: str
    subtitle: str
    tiles: Sequence[Tile]
    open_checks: Sequence[Check]
    passed_checks: Sequence[Check]
    sections: Sequence[Section] = field(default_factory=list)


def render(page: Page) -> str:
    """The page's HTML. All texts are escaped; figures are put in as they are."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.get_template("page.html.j2").render(page=page)
