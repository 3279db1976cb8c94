"""Pictures of flows as inline SVG, in the text colour of the page.

Pictures are self-contained, and all user-defined names are escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import pairwise
from typing import NamedTuple
from unicodedata import east_asian_width

from prefectish.display.layout import Layout, Point, layout
from prefectish.safe_repr import printable

#: Font size and line height in pixels; mean width of a character.
FONT_SIZE, LINE_HEIGHT, LETTER_WIDTH = 12, 16, 6.9
#: Maximum length of a line in a node, in characters.
MAX_LINE_LENGTH = 34
#: Maximum number of nodes of a picture.
MAX_NODES = 300
#: Minimum scale of a picture; its container scrolls below that.
MIN_SCALE = 0.75
#: Space around the drawing.
MARGIN = 8.0


class Box(NamedTuple):
    """A node of a picture."""

    ident: str  # unique id
    lines: Sequence[str]  # lines of text, the first one is the name
    mapped: bool = False  # it is drawn as a stack
    color: str | None = None  # of its state; None if nothing ran
    parts: Sequence[tuple[str, float]] = ()  # color and share of each state of its children, drawn as a bar
    title: str = ""  # tooltip
    href: str = ""  # where it leads


class SvgEdge(NamedTuple):
    """An edge of a picture, between boxes by ident."""

    start: str
    end: str
    label: str = ""
    dashed: bool = False


def picture(boxes: Sequence[Box], wires: Sequence[SvgEdge], fits: bool = True) -> str:
    """Return an SVG element; empty if there is nothing to draw, or too much.

    Parameters
    ----------
    fits
        Whether it shrinks with the page, by a ``style`` attribute, which a strict page does not allow.

    Examples
    --------
    >>> "<svg" in picture([Box("a", ["load"])], []), picture([], [])
    (True, '')
    """
    if not boxes or len(boxes) > MAX_NODES:
        return ""
    sizes = {box.ident: _size(box) for box in boxes}
    pairs = list(dict.fromkeys((wire.start, wire.end) for wire in wires))
    drawing = layout(sizes, pairs)
    width, height = drawing.width + 2 * MARGIN, drawing.height + 2 * MARGIN
    inner = "".join(
        [
            *_drawn_wires(wires, pairs, drawing),
            *(_drawn_box(box, drawing.centres[box.ident], sizes[box.ident]) for box in boxes),
        ]
    )
    style = f' style="min-width:{MIN_SCALE * width:.0f}px;max-width:100%;height:auto"' if fits else ""
    # To screen readers a picture with links is not a single image.
    role = "group" if any(box.href for box in boxes) else "img"
    return (
        f'<svg class="pf-graph" xmlns="http://www.w3.org/2000/svg" role="{role}" aria-label="graph of the flow" '
        f'width="{width:.0f}" height="{height:.0f}" viewBox="{-MARGIN:g} {-MARGIN:g} {width:.1f} {height:.1f}" '
        f'font-size="{FONT_SIZE}"{style}>{inner}</svg>'
    )


def _size(box: Box) -> Point:
    letters = max(map(_letters, _cut(box.lines)), default=0)
    height = 14 + LINE_HEIGHT * len(box.lines) + (7 if box.parts else 0)
    return max(64.0, letters * LETTER_WIDTH + 26), float(height)


def _cut(lines: Iterable[str]) -> list[str]:
    return [printable(line, MAX_LINE_LENGTH) for line in lines]


def _letters(text: str) -> int:
    """Return the width of a text in characters; East Asian characters count as two."""
    return sum(2 if east_asian_width(char) in "WF" else 1 for char in text)


def _drawn_box(box: Box, centre: Point, size: Point) -> str:
    (x, y), (width, height) = centre, size
    left, top = x - width / 2, y - height / 2
    color = box.color or "currentColor"
    faint = "" if box.color else ' stroke-opacity=".45"'
    shape = f'width="{width:.1f}" height="{height:.1f}" rx="{4 if box.mapped else min(height / 2, 17):g}"'
    rim = f'stroke="{escape(color)}"{faint}'
    parts = [f"<g><title>{escape(printable(box.title or ' '.join(box.lines)))}</title>"]
    if box.mapped:
        parts.append(f'<rect x="{left + 4:.1f}" y="{top - 4:.1f}" {shape} {rim} fill="none" opacity=".5"/>')
    # A ground of the page's own colour hides the lines behind; the tint lies over it.
    parts.append(f'<rect class="pf-ground" x="{left:.1f}" y="{top:.1f}" {shape} {rim}/>')
    opacity = ".16" if box.color else ".05"
    tint = f'fill="{escape(color)}" fill-opacity="{opacity}"'
    parts.append(f'<rect x="{left:.1f}" y="{top:.1f}" {shape} {tint}/>')
    for number, line in enumerate(_cut(box.lines)):
        weight = ' font-weight="600"' if number == 0 else ' opacity=".75" font-size="11"'
        baseline = top + 7 + LINE_HEIGHT * number + FONT_SIZE
        parts.append(
            f'<text x="{x:.1f}" y="{baseline:.1f}" text-anchor="middle" fill="currentColor"{weight}>'
            f"{escape(line)}</text>"
        )
    parts.extend(_drawn_parts(box.parts, left + 8, top + height - 10, width - 16))
    drawn = "".join([*parts, "</g>"])
    return f'<a href="{escape(box.href)}">{drawn}</a>' if box.href else drawn


def _drawn_parts(parts: Sequence[tuple[str, float]], left: float, top: float, width: float) -> Iterable[str]:
    for color, share in parts:
        yield (
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{max(width * share, 0.8):.1f}" height="4" '
            f'fill="{escape(color)}"/>'
        )
        left += width * share


def _drawn_wires(wires: Sequence[SvgEdge], pairs: Sequence[tuple[str, str]], drawing: Layout) -> Iterable[str]:
    by_pair: dict[tuple[str, str], list[SvgEdge]] = {}
    for wire in wires:
        by_pair.setdefault((wire.start, wire.end), []).append(wire)
    for pair, route in zip(pairs, drawing.routes, strict=True):
        same = by_pair[pair]
        dashes = ' stroke-dasharray="5 3"' if all(wire.dashed for wire in same) else ""
        yield f'<path d="{_curve(route)}" fill="none" stroke="currentColor" stroke-opacity=".55"{dashes}/>'
        x, y = route[-1]
        yield f'<path d="M{x:.1f},{y:.1f}l-3.5,-7h7z" fill="currentColor" fill-opacity=".7"/>'
        label = ", ".join(dict.fromkeys(wire.label for wire in same if wire.label))
        if label:
            (x0, y0), (x1, y1) = route[0], route[1]
            at_x, at_y = (x0 + x1) / 2 + 5, (y0 + y1) / 2 + 3
            yield (
                f'<text class="pf-label" x="{at_x:.1f}" y="{at_y:.1f}" font-size="10" fill="currentColor" '
                f'fill-opacity=".65">{escape(printable(label, MAX_LINE_LENGTH))}</text>'
            )


def _curve(route: Sequence[Point]) -> str:
    """Return a path through the points that leaves and arrives upright."""
    end = route[-1][0], route[-1][1] - 5
    points = [*route[:-1], end]
    parts = [f"M{points[0][0]:.1f},{points[0][1]:.1f}"]
    for (x0, y0), (x1, y1) in pairwise(points):
        bend = (y1 - y0) / 2
        parts.append(f"C{x0:.1f},{y0 + bend:.1f} {x1:.1f},{y1 - bend:.1f} {x1:.1f},{y1:.1f}")
    return "".join(parts)
