"""Show values: text that is safe for a terminal, and HTML for a notebook."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from prefectish.secrets.masking import mask


def printable(text: Any, longest: int | None = None) -> str:
    r"""Return text with control characters shown as escapes, cut to `longest`, and without the values of secrets.

    Examples
    --------
    >>> print(printable("ok" + chr(10) + "forged"))
    ok\nforged
    >>> print(printable("a long story", longest=7))
    a long…
    """
    plain = mask(str(text))
    if longest is not None and len(plain) > longest:
        plain = f"{plain[: longest - 1]}…"
    if plain.isprintable():
        return plain
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in plain)


def as_html(kind: str, *values: Any) -> str:
    """Return what a notebook shows of values, by the function of :mod:`prefectish.display.reprs` for their kind.

    The display stands above all that is shown, so it is imported here by its name, when something is shown.
    """
    html: str = getattr(import_module("prefectish.display.reprs"), kind)(*values)
    return html
