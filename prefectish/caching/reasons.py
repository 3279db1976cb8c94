"""Why a result was not found in a cache: which part of its key has changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prefectish.caching.keys import CODE_PART

#: Maximum number of entries of a store that are compared to find what changed.
MAX_ENTRIES_COMPARED = 100


class Entry:
    """A cached result for comparison: the digests of its parts, and when it was created, if known."""

    __slots__ = ("created", "parts")

    def __init__(self, parts: Mapping[str, str | None], created: str | None = None) -> None:
        self.parts = parts
        self.created = created


def why_not(parts: Mapping[str, str | None], entries: Iterable[Entry]) -> str:
    """Return which parts of a key (digests by argument) changed since the most similar entry; entries are newest first.

    Examples
    --------
    >>> why_not({"x": "1", "y": "2"}, [Entry({"x": "1", "y": "3"})])
    "argument 'y' changed"
    >>> why_not({"x": "1"}, [])
    'nothing is cached yet'
    """
    nearest, changes = None, None
    for entry in entries:
        differences = changed(entry.parts, parts)
        if changes is None or len(differences) < len(changes):
            nearest, changes = entry, differences
    if nearest is None or changes is None:
        return "nothing is cached yet"
    since = f" since {nearest.created}" if nearest.created else ""
    return ", ".join(changes) + since if changes else f"the key changed{since}, and no argument did"


def changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return a description for each part that differs, the code first."""
    names = [*new, *(name for name in old if name not in new)]
    names.sort(key=lambda name: name != CODE_PART)
    return [_change_text(name, name in old, name in new) for name in names if _differ(old, new, name)]


def _differ(old: Mapping[str, Any], new: Mapping[str, Any], name: str) -> bool:
    return name not in old or name not in new or old[name] is None or old[name] != new[name]


def _change_text(name: str, was: bool, is_: bool) -> str:
    what = name if name == CODE_PART else f"argument {name!r}"
    return f"{what} changed" if was and is_ else f"{what} is {'new' if is_ else 'gone'}"
