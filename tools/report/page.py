"""Renders the report page from a template; the page needs no other file and no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2


@dataclass(frozen=True)
class Section:
    """A titled part of the page: introduction, figure (SVG text), table (head and rows of texts), note."""

    title: str
    intro: str = ""
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    figure: str = ""
    note: str = ""


@dataclass(frozen=True)
class Page:
    """The whole report: `tiles` are (name, value, remark) of the figures that matter most."""

    title: str
    subtitle: str
    tiles: Sequence[tuple[str, str, str]]
    sections: Sequence[Section] = field(default_factory=list)


def render(page: Page) -> str:
    """The page's HTML. All texts are escaped; figures are put in as they are."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.get_template("page.html.j2").render(page=page)
