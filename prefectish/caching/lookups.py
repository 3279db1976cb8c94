"""Look up a task in its cache before it runs, and cache its result afterwards.

Apart from validators there is no clock, and no I/O except that of the store that is passed in. So the
same functions serve the client, which looks before it takes a slot, and an attempt on a worker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

from prefectish.caching.keys import (
    CODE_PART,
    KeyInputs,
    Parts,
    cache_key,
    key_of_parts,
    loose_code_digest,
)
from prefectish.caching.memory import CACHE_KEY, CACHED_BY, CACHED_CODE, Caches, is_away, is_kept, made_by_code
from prefectish.caching.reasons import MAX_ENTRIES_COMPARED, Entries, Entry, why_not
from prefectish.caching.validators import (
    all_inputs,
    compares_all_inputs,
    duration_only,
    for_several,
    never_use,
    read_inputs_of,
    reads_inputs,
)
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
REFRESH_REASON = "refresh_cache is set"
#: By how much the clock of another process may differ, with the time that a state is under way.
CLOCK_TOLERANCE = timedelta(minutes=1)
#: What a hit has in its context of the state that it stands for.
_OF_ENTRIES = frozenset({CACHE_KEY, CACHED_BY, "location"})
#: In the context of a success that was computed: what its entry in memory is made of.
ENTRY = "cache_entry"


class Hit:
    """A cached state that is used instead of running the task."""

    __slots__ = ("state",)

    def __init__(self, state: Cached) -> None:
        self.state = state


class Miss:
    """No cached state can be used; small, and passed on to :func:`keep`."""

    __slots__ = ("code", "key", "parts", "reason", "same_key")

    def __init__(
        self,
        reason: str | None,
        key: str | None = None,
        parts: Mapping[str, str | None] | None = None,
        same_key: str | None = None,
        code: str | None = None,
    ) -> None:
        # Reason in words, if it is not just another key; otherwise the key and its parts explain it.
        self.reason = reason
        self.key = key  # None for a task without `cache_key_fn`, or if it is not cached
        self.parts = parts or {}  # the digests from which the key is computed
        # Equal for runs of one cache of which each can stand for the other; None if the inputs alone do not tell.
        self.same_key = same_key
        self.code = code  # of the task, where that matters beside the inputs

    def __reduce__(self) -> tuple[Any, ...]:
        return Miss, (self.reason, self.key, dict(self.parts), self.same_key, self.code)


def has_cache(task: Any) -> bool:
    """Whether a task has a cache, so that :func:`lookup` must be called."""
    if task.cache_for is not None or task.cache_key_fn is not None:
        return True
    return task.cache_validator is not None and task.__dict__.get("cache_validator") is not None


def cache_name(task: Any) -> str:
    """Return the name of a task's cache; tasks with the same name or `cache_key` share a cache."""
    name: str = task.cache_key or task.name
    return name


def _validator(task: Any, shared: bool = False) -> Any:
    chosen = task.cache_validator
    if chosen is None:
        chosen = never_use if task.cache_for is None else duration_only
    return for_several(chosen) if shared else chosen


def is_of_time_alone(task: Any, state: Cached, shared: bool) -> bool:
    """Whether a cached state is valid, and nothing but time counts: no older one is needed."""
    return _validator(task, shared) is duration_only and duration_only(state, {}, {})


def is_isolated(task: Any, shared: bool) -> bool:
    """Whether runs of a task wait for one with the same key; the key must tell that one can stand for the other."""
    if not (shared and task.cache_isolation):
        return False
    if task.cache_key_fn is not None:
        return True
    return task.cache_for is not None and bool(read_inputs_of(_validator(task, shared), ("any",)))


def is_found_by_key(task: Any, shared: bool) -> bool:
    """Whether what is cached in memory for a run is found by its key alone, wherever the inputs are."""
    return is_isolated(task, shared) and (task.cache_key_fn is not None or _validator(task, shared) is all_inputs)


def found_by_key(task: Any, miss: Miss, caches: Caches) -> Cached | None:
    """Return what memory has for a run that missed where its inputs are; None for nothing.

    Results that lie in a store alone are looked up there, where the inputs are. The task is one for which
    :func:`is_found_by_key` is true.
    """
    if miss.reason == REFRESH_REASON:
        return None
    name, states = cache_name(task), []
    if task.cache_key_fn is None:
        states = list(caches.of_digests(name, miss.parts, miss.code))
    elif miss.key is not None:
        states = [state for state in [caches.of_key(name, miss.key)] if state is not None]
    return next((state for state in states if duration_only(state, {}, {}) and not is_away(state)), None)


def lookup(
    task: Any,
    inputs: Mapping[str, Any],
    facts: Mapping[str, Any],
    caches: Caches,
    store: Result | None = None,
    shared: bool = False,
    earlier: Earlier | None = None,
) -> Hit | Miss:
    """Look up a task in the caches; call it under `capture`, as validators, key functions and stores may raise.

    The task is one for which :func:`has_cache` is true, `inputs` are by argument, `facts` are the run context with its
    `parameters`. `caches` holds the cached states in memory, `store` the entries of other processes, if there is one.
    `shared` says that the run has several of the cache (children, calls, tasks of one name): then the inputs are read,
    unless a validator looks at some of them. `earlier` is what earlier runs left, if that is known.
    """
    hashed = inputs if isinstance(inputs, KeyInputs) else KeyInputs(inputs)
    if task.cache_key_fn is not None:
        return _by_key(task, hashed, facts, caches, store)
    validator = _validator(task, shared)
    parts = hashed.digests if reads_inputs(validator) else None
    code = _code_that_matters(task, validator)
    miss = Miss(None, None, parts, _same_key(task, validator, hashed, code), code)
    if is_refreshed(task, facts):
        miss.reason = REFRESH_REASON
        return miss
    states: Iterable[Cached]
    if compares_all_inputs(validator):
        states = caches.of_inputs(cache_name(task), hashed.digests, code)
    else:  # it may accept the states of other inputs: what this run made is none of them
        states = (earlier or Earlier(task, caches, store, facts.get("flow_run_id"))).states
    parameters = facts.get("parameters") or {}
    for state in states:
        if made_by_code(state, code) and validator(state, hashed, parameters) and is_kept(state):
            return Hit(state)
    return miss


def is_refreshed(task: Any, facts: Mapping[str, Any]) -> bool:
    """Whether a task is to be computed anew, whatever is cached: as the task says, else as the run does."""
    return bool(facts.get("refresh_cache") if task.refresh_cache is None else task.refresh_cache)


def _code_that_matters(task: Any, validator: Any) -> str | None:
    """Return the code by which tasks of one name are distinguished; None where they share a cache on purpose."""
    if task.cache_key is not None or not read_inputs_of(validator, ("any",)):
        return None
    return loose_code_digest(task)


def _same_key(task: Any, validator: Any, inputs: KeyInputs, code: str | None) -> str | None:
    if task.cache_for is None:
        return None
    names = read_inputs_of(validator, inputs)
    parts: dict[str, str] = {} if code is None else {CODE_PART: code}
    for name in names:
        digest = inputs.digests.get(name)
        if digest is None:
            return None
        parts[name] = digest
    return key_of_parts(parts) if read_inputs_of(validator, ("any",)) else None  # a task without inputs has a key too


def _by_key(task: Any, inputs: KeyInputs, facts: Mapping[str, Any], caches: Caches, store: Result | None) -> Hit | Miss:
    try:
        key, parts = cache_key(task, facts, inputs)
    except Unhashable as error:
        return Miss(str(error))
    if key is None:
        return Miss(NO_KEY_REASON)
    if is_refreshed(task, facts):
        return Miss(REFRESH_REASON, key, parts, key)
    state = caches.of_key(cache_name(task), key)
    if state is not None and not is_kept(state):
        state = None
    if store is not None and (state is None or not duration_only(state, {}, {})):  # a later run may have replaced it
        found = _stored_state(store, entry_place(task, key), key)
        if isinstance(found, str):
            return Miss(found, key, parts, key)
        state = found or state
    if state is None:
        return Miss(None, key, parts, key)
    if not duration_only(state, {}, {}):
        return Miss(f"expired at {state.cached_result_expiration}", key, parts, key)
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
        context={CACHE_KEY: key, CACHED_BY: entry.get("run"), "location": place},
    )


def keep(
    task: Any,
    state: State,
    inputs: Mapping[str, Any],
    facts: Mapping[str, Any],
    miss: Miss,
    store: Result | None = None,
    now: datetime | None = None,
    shared: bool = False,
) -> State:
    """Note in the success of a task with a cache what it can stand for, and write its entry; return others unchanged.

    With `cache_for` it becomes Cached, as in Prefect 1. The client, which has the caches in memory, adds the state with
    ``caches.add(cache_name(task), entry_of(state))``.

    Parameters
    ----------
    miss
        The result of :func:`lookup`.
    store
        The store for the entry of a `cache_key_fn`; None: no store.
    now
        The time from which the expiration counts, with a time zone; default: now.
    shared
        As for :func:`lookup`.

    Raises
    ------
    Exception
        Whatever the store raises: call it under `capture`.
    """
    if type(state) is not Success:
        return state
    now = now or clocks.now()
    run = facts.get("flow_run_id")
    if task.cache_key_fn is not None:
        return state if miss.key is None else _keep_by_key(task, state, miss, store, now, run)
    if task.cache_for is None:
        return state
    hashed, values = _inputs_to_keep(_validator(task, shared), inputs, miss)
    context = {**state.context, CACHED_BY: run}
    if miss.code is not None:
        context[CACHED_CODE] = miss.code
    return Cached(
        state.message,
        state._raw_result,
        hashed_inputs=hashed,
        cached_inputs=values,
        cached_parameters=dict(facts.get("parameters") or {}),
        cached_result_expiration=_expiration(now, task.cache_for),
        context=context,
    )


def _inputs_to_keep(
    validator: Any, inputs: Mapping[str, Any], miss: Miss
) -> tuple[dict[str, str] | None, dict[str, Any] | None]:
    """Return hashes of inputs, and values of inputs without a hash, if the validator may read them."""
    if not reads_inputs(validator):
        return None, None
    digests = miss.parts  # as they were before the body, which may change them
    hashed = {name: digest for name, digest in digests.items() if digest is not None}
    return hashed, {name: inputs[name] for name, digest in digests.items() if digest is None}


def _keep_by_key(
    task: Any, state: Success, miss: Miss, store: Result | None, now: datetime, run: str | None
) -> Success:
    expires = _expiration(now, task.cache_expiration)
    facts = {"parts": dict(miss.parts), "expires": None if expires is None else expires.isoformat()}
    context = {**state.context, CACHE_KEY: miss.key, CACHED_BY: run, ENTRY: facts}
    if store is not None and miss.key is not None:
        entry = {"key": miss.key, **facts, "created": now.isoformat(timespec="seconds"), "run": run}
        context["location"] = store.save(entry_place(task, miss.key), state.result, entry)
    return state.replace(context=context)


def entry_of(state: State) -> Cached | None:
    """Return the cached state that a state leaves in memory; None if it leaves none."""
    if isinstance(state, Cached):
        return state
    entry = state.context.get(ENTRY)
    if entry is None:
        return None
    expires = entry["expires"]
    return Cached(
        CACHE_HIT_MESSAGE,
        state._raw_result,
        hashed_inputs=Parts(entry["parts"]),
        cached_result_expiration=None if expires is None else datetime.fromisoformat(expires),
        context={name: value for name, value in state.context.items() if name in _OF_ENTRIES},
    )


def _expiration(now: datetime, lifetime: timedelta | None) -> datetime | None:
    if lifetime is None:
        return None
    try:
        return now + lifetime
    except OverflowError:  # timedelta.max: never
        return None


def on_this_clock(task: Any, state: State, now: datetime) -> State:
    """Return what a task has computed with the time until which it can be used by the clock of this process.

    The clock of the process that ran it may be wrong; differences as small as a delay are left.
    """
    lifetime = task.cache_for if task.cache_key_fn is None else task.cache_expiration
    right = _expiration(now, lifetime)
    if right is None:
        return state
    if isinstance(state, Cached):
        stamped = state.cached_result_expiration
        is_right = stamped is None or abs(stamped - right) < CLOCK_TOLERANCE
        return state if is_right else state.replace(cached_result_expiration=right)
    entry = (state._context or {}).get(ENTRY)
    if entry is None or abs(datetime.fromisoformat(entry["expires"]) - right) < CLOCK_TOLERANCE:
        return state
    return state.replace(context={**state.context, ENTRY: {**entry, "expires": right.isoformat()}})


class Earlier:
    """What earlier runs left in the caches of a task, for lookups of one run.

    Parameters
    ----------
    run
        Identifier of the run that looks; what it made itself is left out.
    """

    __slots__ = ("_entries", "_in_memory", "_run", "_store", "_task", "states")

    def __init__(self, task: Any, caches: Caches, store: Result | None, run: str | None) -> None:
        self._task = task
        self._run = run
        self._store = store if task.cache_key_fn is not None else None
        self._entries: Entries | None = None
        self._in_memory: Entries | None = None
        #: In memory, newest first.
        self.states = [state for state in caches.newest_first(cache_name(task)) if not self._is_own(state.context)]

    def _is_own(self, facts: Mapping[str, Any], name: str = CACHED_BY) -> bool:
        return self._run is not None and facts.get(name) == self._run

    @property
    def in_memory(self) -> Entries:
        """What a lookup can be compared with without asking the store."""
        if self._in_memory is None:
            self._in_memory = Entries(Entry(state.hashed_inputs) for state in self.states if state.hashed_inputs)
        return self._in_memory

    @property
    def entries(self) -> Entries:
        """What a lookup can be compared with; those of the store are read once."""
        if self._store is None:
            return self.in_memory
        if self._entries is None:
            stored = _stored_entries(self._task, self._store, lambda entry: not self._is_own(entry, "run"))
            newest_first = sorted(stored, key=lambda entry: entry.created or "", reverse=True)
            self._entries = Entries([*self.in_memory, *newest_first])
        return self._entries


def reason_by_key(miss: Miss, earlier: Earlier) -> str | None:
    """Return why a lookup missed by what memory has; None if that is known, or the result store has to be asked."""
    if miss.reason is not None or not len(earlier.in_memory):
        return None
    return why_not(miss.parts, earlier.in_memory)


def reason(
    task: Any,
    miss: Miss,
    caches: Caches,
    store: Result | None = None,
    shared: bool = False,
    earlier: Earlier | None = None,
) -> str:
    """Return why a lookup missed, for :meth:`State.why_not_cached`.

    Parameters
    ----------
    shared, earlier
        As for :func:`lookup`.
    """
    if miss.reason is not None:
        return miss.reason
    if earlier is None:
        earlier = Earlier(task, caches, store, None)
    validator = _validator(task, shared)
    if task.cache_key_fn is not None or reads_inputs(validator):
        return why_not(miss.parts, earlier.entries)
    if not earlier.states:
        return "nothing is cached yet"
    if validator is never_use:
        return "the validator is never_use; set cache_for or another cache_validator"
    return "what is cached has expired, or belongs to other parameters"


def _stored_entries(task: Any, store: Result, wanted: Callable[[Mapping[str, Any]], bool]) -> Iterator[Entry]:
    folder = entry_place(task, "").rpartition("/")[0]
    for place in islice(store.list(folder), MAX_ENTRIES_COMPARED):
        try:
            entry = store.facts(place)
        except (ResultCorrupt, FileNotFoundError):
            continue
        if wanted(entry):
            yield Entry(Parts(entry.get("parts") or {}), entry.get("created"))
