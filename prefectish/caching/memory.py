"""Cached states in memory, by the name of their cache; indexed by the hashes of their inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prefectish.caching.validators import duration_only
from prefectish.engine.deferred import Deferred
from prefectish.engine.state import Cached
from prefectish.kinds import is_a

#: Names in the context of a cached state: its key; the run that made it; the code that made it, where that matters.
CACHE_KEY = "cache_key"
CACHED_BY = "cached_by"
CACHED_CODE = "cached_code"


class Caches(Mapping[str, list[Cached]]):
    """Lists of cached states by the name of their cache; a state replaces one with the same key or inputs.

    Parameters
    ----------
    given
        States by name, oldest first, as a user puts them into the context's `caches`.
    """

    __slots__ = ("_loose", "_shelves")

    def __init__(self, given: Mapping[str, Iterable[Cached]] | None = None) -> None:
        self._shelves: dict[str, dict[Any, Cached]] = {}
        self._loose: dict[str, list[Cached]] = {}
        for name, states in (given or {}).items():
            for state in states:
                self.add(name, state)

    def add(self, name: str, state: Cached) -> None:
        """Add a state to a cache, as its newest."""
        token = _entry_token(state)
        shelf = self._shelves.setdefault(name, {})
        if token is None:
            self._loose.setdefault(name, []).append(state)
            token = id(state)
        shelf.pop(token, None)
        shelf[token] = state
        self._forget_expired(name, shelf)

    def _forget_expired(self, name: str, shelf: dict[Any, Cached]) -> None:
        """Drop the oldest states while they are expired, so that they do not accumulate over repeated runs."""
        while len(shelf) > 1 and not duration_only(shelf[oldest := next(iter(shelf))], {}, {}):
            expired = shelf.pop(oldest)
            if oldest == id(expired):
                self._loose[name] = [state for state in self._loose[name] if state is not expired]

    def newest_first(self, name: str) -> Iterator[Cached]:
        """Yield the states of a cache whose results can be read."""
        return filter(_is_here, reversed(self._shelves.get(name, {}).values()))

    def of_inputs(self, name: str, digests: Mapping[str, str | None], code: str | None = None) -> Iterator[Cached]:
        """Yield the states of a cache that may match inputs with these hashes, including states without hashes.

        Parameters
        ----------
        code
            Of the task; states that another code made are left out. None: any code.
        """
        yield from self.of_digests(name, digests, code)
        for state in self.loose(name):
            if made_by_code(state, code):
                yield state

    def of_digests(self, name: str, digests: Mapping[str, str | None], code: str | None = None) -> Iterator[Cached]:
        """Yield the states of a cache that inputs with these hashes made."""
        shelf = self._shelves.get(name, {})
        inputs = frozenset(digests.items())
        for made_by in (code, None) if code is not None else (None,):
            found = shelf.get((inputs, made_by))
            if found is not None and _is_here(found):
                yield found

    def loose(self, name: str) -> Iterator[Cached]:
        """Yield the states of a cache that are not found by hashes, newest first."""
        return filter(_is_here, reversed(self._loose.get(name, ())))

    def of_key(self, name: str, key: str) -> Cached | None:
        """Return the state of a key."""
        found = self._shelves.get(name, {}).get(key)
        return found if found is not None and _is_here(found) else None

    def away(self, name: str) -> Iterator[Cached]:
        """Yield the states of a cache whose results have to be looked up where they are kept, newest first."""
        return (state for state in self.newest_first(name) if is_away(state))

    def exchange(self, other: Caches) -> None:
        """Exchange what both hold."""
        self._shelves, other._shelves = other._shelves, self._shelves
        self._loose, other._loose = other._loose, self._loose

    def __getitem__(self, name: str) -> list[Cached]:
        return list(self._shelves[name].values())

    def __iter__(self) -> Iterator[str]:
        return iter(self._shelves)

    def __len__(self) -> int:
        return len(self._shelves)


def _entry_token(state: Cached) -> Any:
    key = state.context.get(CACHE_KEY)
    if key is not None:
        return key
    hashed = state.hashed_inputs
    if not isinstance(hashed, Mapping) or state.cached_inputs:
        return None
    return frozenset(hashed.items()), state.context.get(CACHED_CODE)


def _is_here(state: Cached) -> bool:
    """Whether the result can be read: a large one may have been left on a worker, and released there."""
    result = state._raw_result
    return not is_a(result, Deferred) or result.is_here


def is_away(state: Cached) -> bool:
    """Whether the result of a state has to be looked up where it is kept to know that it is still there."""
    return is_a(state._raw_result, Deferred) and state._raw_result.is_away


def is_kept(state: Cached) -> bool:
    """Whether the result of a state is still there; looks where it is kept."""
    return not is_a(state._raw_result, Deferred) or state._raw_result.is_kept


def made_by_code(state: Cached, code: str | None) -> bool:
    """Whether a cached state may stand for a task with this code: two tasks of one name share a cache."""
    return code is None or state.context.get(CACHED_CODE, code) == code
