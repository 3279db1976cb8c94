"""Cache lookups of an attempt: before its body, and additions after it.

The memory of a process holds the cached states of its runs, by the name of their cache. Attempts in the same process
read it directly. Entries with a key of their own lie in the result store too, and outlive the process.

A row is first submitted as a probe (``Job.probe_only``), with others on one page, if its key decides at the client
whether it runs, or if its task is under a limit and has a cache, or a target. A probe takes no place under the limit:
its inputs are read and looked up where they are, and a hit ends it. After a miss its key is looked up in the memory of
the client, and the row waits for one with the same key, or for a place.

What is not found by a key (a validator that accepts other inputs, a cache without isolation) an attempt that runs
elsewhere looks up among the newest states of its cache, which it takes along.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from prefectish.caching.lookups import (
    Earlier,
    Hit,
    Miss,
    cache_name,
    entry_of,
    found_by_key,
    has_cache,
    is_found_by_key,
    is_isolated,
    is_of_time_alone,
    keep,
    lookup,
    on_this_clock,
    reason,
    reason_by_key,
)
from prefectish.caching.memory import Caches
from prefectish.caching.validators import duration_only
from prefectish.engine.capture import Error, capture
from prefectish.engine.jobs.envelope import encode_state, weight
from prefectish.engine.state import Cached, Failed, State
from prefectish.errors import describe

if TYPE_CHECKING:
    from prefectish.engine.jobs.job import StepSpec
    from prefectish.engine.worker.attempt_context import AttemptContext
    from prefectish.results.base import Result
    from prefectish.tasks.task import Task

#: Cached states in the memory of this process, of all runs.
CACHES = Caches()
#: Bytes of cached states that travel with a map to another process, the newest first.
MOST_SENT = 16 << 20
#: Bytes of a cached state beside its result, roughly.
_STATE_BYTES = 300
WHY = "why_not_cached"


class CacheSpec:
    """The cache of a step.

    Parameters
    ----------
    task
        One with a cache.
    store
        Store of the entries that outlive the process; None for none.
    shared
        Whether others of the run use the same cache: children, calls, tasks of one name.
    """

    __slots__ = ("_earlier", "caches", "shared", "store", "task")

    def __init__(self, task: Task, store: Result | None, caches: Caches = CACHES, shared: bool = False) -> None:
        self.task = task
        self.store = store
        self.caches = caches
        self.shared = shared
        self._earlier: Earlier | None = None

    @property
    def is_isolated(self) -> bool:
        """Whether runs with equal keys wait for the first of them."""
        return is_isolated(self.task, self.shared)

    def lookup(self, ctx: AttemptContext, inputs: dict[str, Any]) -> tuple[State | None, Miss | None]:
        """Return the cached state that stands for the run, or the miss; Failed if the lookup raised."""
        earlier = self._of_earlier_runs(ctx)
        outcome = capture(lookup, self.task, inputs, ctx, self.caches, self.store, self.shared, earlier)
        if isinstance(outcome, Error):
            return _failed(ctx, "asked", outcome.exception), None
        answer = outcome.value
        if isinstance(answer, Hit):
            return without_reason(answer.state), None
        return None, answer

    def _of_earlier_runs(self, ctx: AttemptContext) -> Earlier:
        if self._earlier is None:
            self._earlier = Earlier(self.task, self.caches, self.store, ctx["flow_run_id"])
        return self._earlier

    def save(self, ctx: AttemptContext, inputs: dict[str, Any], state: State, miss: Miss) -> State:
        """Return the state of a successful attempt with what it leaves in the cache, and why it had to run."""
        earlier = self._of_earlier_runs(ctx)
        why = capture(reason, self.task, miss, self.caches, self.store, self.shared, earlier)
        outcome = capture(keep, self.task, state, inputs, ctx, miss, self.store, None, self.shared)
        if isinstance(outcome, Error):
            return _failed(ctx, "filled", outcome.exception)
        kept: State = outcome.value
        words = describe(why.exception) if isinstance(why, Error) else why.value
        return kept.replace(context={**kept.context, WHY: words})

    def found_at_client(self, miss: Miss, run: str | None) -> Cached | None:
        """Return what the memory of the client has for a run that missed elsewhere; None for nothing.

        Notes in the miss why there is none, as far as the client knows.
        """
        if not is_found_by_key(self.task, self.shared):
            return None
        found = found_by_key(self.task, miss, self.caches)
        if found is not None:
            return without_reason(found)
        if self._earlier is None:
            self._earlier = Earlier(self.task, self.caches, self.store, run)
        miss.reason = miss.reason or reason_by_key(miss, self._earlier)
        return None

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (self.task, self.store, cache_name(self.task), self._to_send(), self.shared)

    def _to_send(self) -> list[Cached]:
        """Return the cached states that an attempt in another process has to look at, oldest first."""
        name = cache_name(self.task)
        at_client = is_found_by_key(self.task, self.shared)
        sent: list[Cached] = []
        left = MOST_SENT
        looked_up = (*self.caches.loose(name), *self.caches.away(name)) if at_client else self.caches.newest_first(name)
        for state in looked_up:
            if not duration_only(state, {}, {}):  # the clock there may say something else
                continue
            packed = encode_state(state, f"a cached result of {self.task.name}")
            left -= weight(packed._raw_result) + _STATE_BYTES
            if left < 0:
                break
            if isinstance(packed, Cached):
                sent.append(packed)
                if is_of_time_alone(self.task, packed, self.shared):
                    break
        return sent[::-1]


def is_hit(state: State) -> bool:
    """Whether a state stands for a run that was saved: under `cache_for` what was computed is Cached too."""
    return isinstance(state, Cached) and state.why_not_cached() is None


def without_reason(state: Cached) -> Cached:
    """Return a state from a cache without the reason why its run was not a hit."""
    context = state._context
    if context is None or WHY not in context:
        return state
    return state.replace(context={name: value for name, value in context.items() if name != WHY})


def _arrived(task: Task, store: Result | None, name: str, states: list[Cached], shared: bool) -> CacheSpec:
    return CacheSpec(task, store, Caches({name: states}), shared)


def _failed(ctx: AttemptContext, verb: str, error: BaseException) -> Failed:
    return Failed(f"the cache of {ctx.spec.label_of(ctx.index)} could not be {verb}: {describe(error)}", error)


def by_own_clock(task: Task, state: State, now: datetime) -> State:
    """Return what an attempt left in the cache with its expiration by the clock of this process; others as they are."""
    return on_this_clock(task, state, now) if has_cache(task) and not is_hit(state) else state


def remember(task: Task, state: State) -> None:
    """Put what a state leaves in the cache into the memory of this process."""
    if has_cache(task) and (entry := entry_of(state)) is not None:
        CACHES.add(cache_name(task), entry)


def can_probe(spec: StepSpec) -> bool:
    """Whether a step has a cache, or a target."""
    return spec.cache is not None or getattr(spec.storage, "target", None) is not None
