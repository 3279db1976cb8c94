"""Make untrusted text safe for a terminal: escape control characters and line breaks."""

from __future__ import annotations

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
