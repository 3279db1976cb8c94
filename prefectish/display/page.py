"""Render templates. All values are escaped, except markup that was created here."""

from __future__ import annotations

import os
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from prefectish.safe_repr import printable

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = os.path.join(os.path.dirname(__file__), "templates")


@cache
def environment(folder: str = TEMPLATES) -> Environment:
    """Return the templates of a folder, with the filters that write numbers and times."""
    # A dependency of distributed, and slow to import: only when it is used.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(shown=shown, seconds=seconds, number=number, when=when, percent=percent, size=size)
    return made


def rendered(template: str, **values: Any) -> str:
    """Return a template filled with values."""
    return environment().get_template(template).render(values)


def markup(text: str) -> Any:
    """Mark text as markup that is already escaped."""
    from markupsafe import Markup

    return Markup(text)


def shown(text: Any, longest: int = 300) -> str:
    """Return a text with its control characters escaped, cut to a length."""
    return printable("" if text is None else text, longest)


def number(value: int) -> str:
    """Return a number with thousands separators.

    Examples
    --------
    >>> number(100000)
    '100,000'
    """
    return f"{value:,}"


def percent(share: float) -> str:
    """Return a share of the whole for a style sheet.

    Examples
    --------
    >>> percent(1 / 3)
    '33.33%'
    """
    return f"{100 * share:.2f}%"


def seconds(value: float | None) -> str:
    """Return a duration in readable form.

    Examples
    --------
    >>> [seconds(value) for value in (0.00004, 0.0123, 1.234, 59.96, 75, 3725, 200000)]
    ['40 µs', '12 ms', '1.23 s', '1 min 00 s', '1 min 15 s', '1 h 02 min', '2 d 07 h']
    """
    if value is None:
        return ""
    if value < 0.001:
        return f"{value * 1e6:.0f} µs"
    if value < 1:
        return f"{value * 1e3:.0f} ms"
    if value < 59.95:
        return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"
    whole = round(value)
    for size, big, small in ((86400, "d", "h"), (3600, "h", "min"), (60, "min", "s")):
        if whole >= size:
            part = whole % size // {86400: 3600, 3600: 60, 60: 1}[size]
            return f"{whole // size} {big} {part:02d} {small}"
    return f"{whole} s"


def size(nbytes: int | None) -> str:
    """Return a number of bytes in readable form.

    Examples
    --------
    >>> [size(nbytes) for nbytes in (12, 2_048, 3_500_000, 7_000_000_000, None)]
    ['12 B', '2.0 kB', '3.5 MB', '7.0 GB', '']
    """
    if nbytes is None:
        return ""
    if nbytes < 1000:
        return f"{nbytes} B"
    unit, each = next(((u, e) for u, e in (("kB", 1e3), ("MB", 1e6)) if nbytes < 1000 * e), ("GB", 1e9))
    return f"{nbytes / each:.1f} {unit}"


def when(time: datetime | None) -> str:
    """Return a time in the zone of the reader."""
    return "" if time is None else time.astimezone().strftime("%Y-%m-%d %H:%M:%S")
