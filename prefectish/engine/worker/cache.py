"""Cache lookups of an attempt: before its body, and additions after it.

The memory of a process holds the cached states of its runs, by the name of their cache. Attempts in the same process
read it directly; one that runs elsewhere takes along the newest states of its own cache. Entries with a key of their
own lie in the result store too, and outlive the process.

A row under a limit whose task has a cache, or a target, is first submitted as a probe (``Job.probe_only``), which takes
no place under the limit: its inputs are read and looked up where they are, and a hit ends it. After a miss the row
waits for a place.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from prefectish.caching.lookups import (
    Earlier,
    Hit,
    Miss,
    cache_name,
    entry_of,
    has_cache,
    is_isolated,
    keep,
    lookup,
    reason,
)
from prefectish.caching.memory import Caches
from prefectish.engine.capture import Error, capture
from prefectish.engine.jobs.envelope import encode_state
from prefectish.engine.state import Cached, Failed, State
from prefectish.errors import describe

if TYPE_CHECKING:
    from prefectish.engine.jobs.job import StepSpec
    from prefectish.engine.worker.attempt_context import AttemptContext
    from prefectish.results.base import Result
    from prefectish.tasks.task import Task

#: Cached states in the memory of this process, of all runs.
CACHES = Caches()
#: Cached states that travel with a map to another process, the newest first.
MOST_SENT = 1000
WHY = "why_not_cached"
#: Rows of a chain that are probed before they have a place, at most.
PROBE_WINDOW = 64


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

    def __reduce__(self) -> tuple[Any, ...]:
        name = cache_name(self.task)
        states = list(islice(self.caches.newest_first(name), MOST_SENT))
        packed = [encode_state(state, f"a cached result of {self.task.name}") for state in reversed(states)]
        sent = [state for state in packed if isinstance(state, Cached)]
        return _arrived, (self.task, self.store, name, sent, self.shared)


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
    return Failed(f"the cache of {ctx.spec.label(ctx.index)} could not be {verb}: {describe(error)}", error)


def remember(task: Task, state: State) -> None:
    """Put what a state leaves in the cache into the memory of this process."""
    if has_cache(task) and (entry := entry_of(state)) is not None:
        CACHES.add(cache_name(task), entry)


def can_probe(spec: StepSpec) -> bool:
    """Whether a step has a cache, or a target."""
    return spec.cache is not None or getattr(spec.storage, "target", None) is not None
