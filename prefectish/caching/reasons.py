"""Why a result was not found in a cache: which part of its key has changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prefectish.caching.keys import CODE_PART

#: Maximum number of entries of a store that are compared to find what changed.
MAX_ENTRIES_COMPARED = 300


class Entry:
    """A cached result for comparison: the digests of its parts, and when it was created, if known."""

    __slots__ = ("created", "parts")

    def __init__(self, parts: Mapping[str, str | None], created: str | None = None) -> None:
        self.parts = parts
        self.created = created


class Entries:
    """Entries of a cache, newest first; the one most similar to a lookup is found without comparing all of them."""

    __slots__ = ("_alike", "_all")

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._all = list(entries)
        self._alike: dict[int, int] = {}
        for age, entry in enumerate(self._all):
            for token in _tokens(entry.parts):
                self._alike.setdefault(token, age)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def nearest(self, parts: Mapping[str, str | None]) -> Entry | None:
        """Return the entry with the fewest differences, the newest of several."""
        same, *others = [self._alike.get(token) for token in _tokens(parts)]
        age = same if same is not None else min((age for age in others if age is not None), default=None)
        if age is not None and len(changed(self._all[age].parts, parts)) <= 1:  # else numbers were equal by chance
            return self._all[age]
        newest = self._all[:MAX_ENTRIES_COMPARED]
        return min(newest, key=lambda entry: len(changed(entry.parts, parts)), default=None)


def _tokens(parts: Mapping[str, str | None]) -> Iterator[int]:
    """Yield a number for all parts, and for all but each one of them: equal numbers, at most one difference."""
    hashes = {name: hash((name, digest)) for name, digest in parts.items()}
    whole = sum(hashes.values())
    yield hash(("all", whole))
    for name, one in hashes.items():
        yield hash((name, whole - one))


def why_not(parts: Mapping[str, str | None], entries: Iterable[Entry] | Entries) -> str:
    """Return which parts of a key (digests by argument) changed since the most similar entry; entries are newest first.

    Examples
    --------
    >>> why_not({"x": "1", "y": "2"}, [Entry({"x": "1", "y": "3"})])
    "argument 'y' changed"
    >>> why_not({"x": "1"}, [])
    'nothing is cached yet'
    """
    nearest = (entries if isinstance(entries, Entries) else Entries(entries)).nearest(parts)
    if nearest is None:
        return "nothing is cached yet"
    changes = changed(nearest.parts, parts)
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
