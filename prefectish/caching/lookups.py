"""Look up a task in its cache before it runs, and cache its result afterwards.

Apart from validators there is no clock, and no I/O except that of the store that is passed in. So the
same functions serve the client, which looks before it takes a slot, and an attempt on a worker.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

from prefectish.caching.keys import KeyInputs, Parts, cache_key, digests_of
from prefectish.caching.memory import CACHE_KEY, Caches
from prefectish.caching.reasons import MAX_ENTRIES_COMPARED, Entry, why_not
from prefectish.caching.validators import all_inputs, duration_only, never_use, reads_inputs
from prefectish.engine import clock as clocks
from prefectish.engine.context import get_logger
from prefectish.engine.state import Cached, State, Success
from prefectish.errors import ResultCorrupt, ResultUnpickleError, Unhashable

if TYPE_CHECKING:
    from prefectish.results.base import Result

#: The folder for cache entries in a result store.
CACHE_FOLDER = "cache"
CACHE_HIT_MESSAGE = "Result found in the cache."
NO_KEY_REASON = "cache_key_fn returned None"


class Hit:
    """A cached state that is used instead of running the task."""

    __slots__ = ("state",)

    def __init__(self, state: Cached) -> None:
        self.state = state


class Miss:
    """No cached state can be used; small, and passed on to :func:`keep`."""

    __slots__ = ("key", "parts", "reason")

    def __init__(
        self, reason: str | None, key: str | None = None, parts: Mapping[str, str | None] | None = None
    ) -> None:
        # Reason in words, if it is not just another key; otherwise the key and its parts explain it.
        self.reason = reason
        self.key = key  # None for a task without `cache_key_fn`, or if it is not cached
        self.parts = parts or {}  # the digests from which the key is computed

    def __reduce__(self) -> tuple[Any, ...]:
        return Miss, (self.reason, self.key, dict(self.parts))


def has_cache(task: Any) -> bool:
    """Whether a task has a cache, so that :func:`lookup` must be called."""
    return task.cache_for is not None or task.cache_key_fn is not None or task.cache_validator is not None


def cache_name(task: Any) -> str:
    """Return the name of a task's cache; tasks with the same name or `cache_key` share a cache."""
    name: str = task.cache_key or task.name
    return name


def is_valid(task: Any, state: Cached, inputs: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
    """Whether the task's validator accepts a cached state."""
    return bool(_validator(task)(state, inputs, parameters))


def _validator(task: Any) -> Any:
    return task.cache_validator or (duration_only if task.cache_for is not None else never_use)


def lookup(
    task: Any, inputs: Mapping[str, Any], facts: Mapping[str, Any], caches: Caches, store: Result | None = None
) -> Hit | Miss:
    """Look up a task in the caches; call it under `capture`, as validators, key functions and stores may raise.

    The task is one for which :func:`has_cache` is true, `inputs` are by argument, `facts` are the run context with its
    `parameters`. `caches` holds the cached states in memory, `store` the entries of other processes, if there is one.
    """
    hashed = inputs if isinstance(inputs, KeyInputs) else KeyInputs(inputs)
    if task.cache_key_fn is not None:
        return _by_key(task, hashed, facts, caches, store)
    parameters = facts.get("parameters") or {}
    validator = _validator(task)
    name = cache_name(task)
    states = caches.of_inputs(name, hashed.digests) if validator is all_inputs else caches.newest_first(name)
    for state in states:
        if validator(state, hashed, parameters):
            return Hit(state)
    return Miss(None, None, hashed.digests if reads_inputs(validator) else None)


def _by_key(task: Any, inputs: KeyInputs, facts: Mapping[str, Any], caches: Caches, store: Result | None) -> Hit | Miss:
    try:
        key, parts = cache_key(task, facts, inputs)
    except Unhashable as error:
        return Miss(str(error))
    if key is None:
        return Miss(NO_KEY_REASON)
    state = caches.of_key(cache_name(task), key)
    if state is None and store is not None:
        found = _stored_state(store, entry_place(task, key), key)
        if isinstance(found, str):
            return Miss(found, key, parts)
        state = found
    if state is None:
        return Miss(None, key, parts)
    if not duration_only(state, {}, {}):
        return Miss(f"expired at {state.cached_result_expiration}", key, parts)
    return Hit(state)


def entry_place(task: Any, key: str) -> str:
    """Return the location of the entry of a key in a store."""
    from prefectish.hashing import stable_hash
    from prefectish.results.names import quoted

    return f"{CACHE_FOLDER}/{quoted(cache_name(task))}/{stable_hash(key)}"


def _stored_state(store: Result, place: str, key: str) -> Cached | str | None:
    """Return the state of an entry, None if there is no entry, or the reason why it cannot be used."""
    try:
        value, entry = store.load_with_facts(place)
    except FileNotFoundError:
        return None
    except (ResultCorrupt, ResultUnpickleError) as error:
        get_logger().warning("a cached result cannot be read, so the task runs: %s", error)
        return f"the cached result cannot be used: {error}"
    if entry.get("key") != key:
        return f"the cached result at {place} belongs to another key"
    expires = entry.get("expires")
    return Cached(
        CACHE_HIT_MESSAGE,
        value,
        hashed_inputs=entry.get("parts"),
        cached_result_expiration=None if expires is None else datetime.fromisoformat(expires),
        context={CACHE_KEY: key, "location": place},
    )


def keep(
    task: Any,
    state: State,
    inputs: Mapping[str, Any],
    facts: Mapping[str, Any],
    miss: Miss,
    store: Result | None = None,
    now: datetime | None = None,
) -> State:
    """Turn the success of a task with a cache into Cached, and write its entry; return other states unchanged.

    The client, which has the caches in memory, adds the state with ``caches.add(cache_name(task), state)``.

    Parameters
    ----------
    miss
        The result of :func:`lookup`.
    store
        The store for the entry of a `cache_key_fn`; None: no store.
    now
        The time from which the expiration counts, with a time zone; default: now.

    Raises
    ------
    Exception
        Whatever the store raises: call it under `capture`.
    """
    if type(state) is not Success:
        return state
    now = now or clocks.now()
    if task.cache_key_fn is not None:
        return state if miss.key is None else _keep_by_key(task, state, miss, store, now)
    if task.cache_for is None:
        return state
    hashed, values = _inputs_to_keep(task, inputs)
    return Cached(
        state.message,
        state._result,
        hashed_inputs=hashed,
        cached_inputs=values,
        cached_parameters=dict(facts.get("parameters") or {}),
        cached_result_expiration=_expiration(now, task.cache_for),
        context=state.context or None,
    )


def _inputs_to_keep(task: Any, inputs: Mapping[str, Any]) -> tuple[dict[str, str] | None, dict[str, Any] | None]:
    """Return hashes of inputs, and values of inputs without a hash, if the validator may read them."""
    if not reads_inputs(_validator(task)):
        return None, None
    digests = digests_of(inputs)
    hashed = {name: digest for name, digest in digests.items() if digest is not None}
    return hashed, {name: inputs[name] for name, digest in digests.items() if digest is None}


def _keep_by_key(task: Any, state: Success, miss: Miss, store: Result | None, now: datetime) -> Cached:
    expires = _expiration(now, task.cache_expiration)
    context = {**state.context, CACHE_KEY: miss.key}
    if store is not None and miss.key is not None:
        entry = {
            "key": miss.key,
            "parts": dict(miss.parts),
            "created": now.isoformat(timespec="seconds"),
            "expires": None if expires is None else expires.isoformat(),
        }
        context["location"] = store.save(entry_place(task, miss.key), state.result, entry)
    return Cached(
        state.message,
        state._result,
        hashed_inputs=dict(miss.parts),
        cached_result_expiration=expires,
        context=context,
    )


def _expiration(now: datetime, lifetime: timedelta | None) -> datetime | None:
    if lifetime is None:
        return None
    try:
        return now + lifetime
    except OverflowError:  # timedelta.max: never
        return None


def reason(task: Any, miss: Miss, caches: Caches, store: Result | None = None) -> str:
    """Return why a lookup missed, for :meth:`State.why_not_cached`; call it before the new state is kept."""
    if miss.reason is not None:
        return miss.reason
    if task.cache_key_fn is None and not reads_inputs(_validator(task)):
        name = cache_name(task)
        if name not in caches:
            return "nothing is cached yet"
        if _validator(task) is never_use:
            return "the validator is never_use; set cache_for or another cache_validator"
        return "what is cached has expired, or belongs to other parameters"
    return why_not(miss.parts, _entries(task, caches, store))


def _entries(task: Any, caches: Caches, store: Result | None) -> Iterator[Entry]:
    for state in caches.newest_first(cache_name(task)):
        if state.hashed_inputs:
            yield Entry(state.hashed_inputs)
    if store is not None and task.cache_key_fn is not None:
        yield from sorted(_stored_entries(task, store), key=lambda entry: entry.created or "", reverse=True)


def _stored_entries(task: Any, store: Result) -> Iterator[Entry]:
    folder = entry_place(task, "").rpartition("/")[0]
    for place in islice(store.list(folder), MAX_ENTRIES_COMPARED):
        try:
            entry = store.facts(place)
        except (ResultCorrupt, FileNotFoundError):
            continue
        yield Entry(Parts(entry.get("parts") or {}), entry.get("created"))
