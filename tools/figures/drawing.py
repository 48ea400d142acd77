"""A drawing of boxes and arrows as an SVG file."""

from __future__ import annotations

import dataclasses
from html import escape

Point = tuple[float, float]

FILLS = {
    "data": ("#ffffff", "#64748b"),  # what flows
    "learned": ("#dbeafe", "#1d4ed8"),  # layers with weights
    "fixed": ("#fef3c7", "#b45309"),  # operations without weights
    "norm": ("#dcfce7", "#15803d"),  # layer norms
}
_HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {0} {1}" width="{0}" height="{1}" '
    'font-family="Helvetica, Arial, sans-serif" font-size="13" text-anchor="middle">\n'
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    '<path d="M0,0 L8,4 L0,8 z" fill="#334155"/></marker></defs>\n'
    '<rect width="{0}" height="{1}" fill="#ffffff"/>\n'
)


@dataclasses.dataclass(frozen=True)
class Box:
    """A rectangle; its sides are the points where arrows meet it."""

    x: float
    y: float
    width: float
    height: float

    @property
    def left(self) -> Point:
        """Middle of the left side."""
        return self.x, self.y + self.height / 2

    @property
    def right(self) -> Point:
        """Middle of the right side."""
        return self.x + self.width, self.y + self.height / 2

    @property
    def top(self) -> Point:
        """Middle of the upper side."""
        return self.x + self.width / 2, self.y

    @property
    def bottom(self) -> Point:
        """Middle of the lower side."""
        return self.x + self.width / 2, self.y + self.height


class Drawing:
    """Boxes, arrows and labels, in the order in which they are drawn; coordinates are pixels from the upper left corner."""

    def __init__(self, width: int, height: int) -> None:
        self._parts = [_HEAD.format(width, height)]

    def box(self, x: float, y: float, text: str, kind: str = "learned", width: float = 104, height: float = 44) -> Box:
        """A box around lines of text. Kinds are those of `FILLS`."""
        fill, stroke = FILLS[kind]
        self._parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" fill="{fill}" stroke="{stroke}" stroke-width="1.3"/>\n'
        )
        lines = text.split("\n")
        for place, line in enumerate(lines):
            self.text(x + width / 2, y + height / 2 + 4.5 + 15 * (place - (len(lines) - 1) / 2), line)
        return Box(x, y, width, height)

    def sign(self, x: float, y: float, text: str) -> Box:
        """A circle around an operator, with its centre at (x, y)."""
        fill, stroke = FILLS["fixed"]
        self._parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="12" fill="{fill}" stroke="{stroke}" stroke-width="1.3"/>\n')
        self.text(x, y + 5, text, size=15)
        return Box(x - 12, y - 12, 24, 24)

    def cell(self, x: float, y: float, fill: str, text: str) -> None:
        """A small square, one of a grid."""
        self._parts.append(f'<rect x="{x:g}" y="{y:g}" width="24" height="24" fill="{fill}" stroke="#64748b" stroke-width="0.7"/>\n')
        self.text(x + 12, y + 16, text, size=10)

    def frame(self, x: float, y: float, width: float, height: float, label: str) -> None:
        """A dashed frame around what is repeated."""
        self._parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="9" fill="none" '
            'stroke="#94a3b8" stroke-dasharray="5 4"/>\n'
        )
        self.text(x + width - 8, y + height - 9, label, anchor="end", colour="#475569")

    def text(self, x: float, y: float, text: str, anchor: str = "middle", colour: str = "#0f172a", size: float = 13) -> None:
        """A line of text at its baseline."""
        style = "" if anchor == "middle" else f' text-anchor="{anchor}"'
        style += "" if size == 13 else f' font-size="{size:g}"'
        self._parts.append(f'<text x="{x:g}" y="{y:g}" fill="{colour}"{style}>{escape(text)}</text>\n')

    def arrow(self, *points: Point) -> None:
        """A line through the points, with its tip at the last."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        self._parts.append(f'<polyline points="{path}" fill="none" stroke="#334155" stroke-width="1.3" marker-end="url(#tip)"/>\n')

    def chain(self, *boxes: Box) -> None:
        """Arrows from each box to the next one to its right; with a step where their heights differ."""
        for one, other in zip(boxes, boxes[1:], strict=False):
            (x0, y0), (x1, y1) = one.right, other.left
            middle = (x0 + x1) / 2
            self.arrow(*([(x0, y0), (x1, y1)] if abs(y0 - y1) < 1 else [(x0, y0), (middle, y0), (middle, y1), (x1, y1)]))

    def svg(self) -> str:
        """The file's text."""
        return "".join(self._parts) + "</svg>\n"
