"""Cached states in memory, by the name of their cache; indexed by the hashes of their inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prefectish.caching.validators import duration_only
from prefectish.engine.state import Cached

#: The name of the key in the context of a cached state.
CACHE_KEY = "cache_key"


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
        """Yield the states of a cache."""
        return reversed(self._shelves.get(name, {}).values())

    def of_inputs(self, name: str, digests: Mapping[str, str | None]) -> Iterator[Cached]:
        """Yield the states of a cache that may match inputs with these hashes, including states without hashes."""
        found = self._shelves.get(name, {}).get(frozenset(digests.items()))
        if found is not None:
            yield found
        yield from reversed(self._loose.get(name, ()))

    def of_key(self, name: str, key: str) -> Cached | None:
        """Return the state of a key."""
        return self._shelves.get(name, {}).get(key)

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
    return frozenset(hashed.items()) if isinstance(hashed, Mapping) and not state.cached_inputs else None
