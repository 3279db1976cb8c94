"""Which state may follow which: the one table, and the checks that hold a run against it.

A task run begins Pending, or in the state that a former attempt left (Retrying, Paused, Resume, ...). Where its body
runs it becomes Running, and from there it ends, waits, or runs another turn (Looped). It may also end before its body
begins: by a trigger, a skip, a cache hit or a signal; and it may be ended from outside: cancelled, out of time, or lost
with its worker. A failed attempt is followed by Retrying. Everything else is a fault of the engine: a final state that
changes, a body that runs after the end, a trigger's verdict that is retried.

The handlers of a task may put any state in the place of a proposed one; so the table speaks of what the engine
proposes, and of what a handler leaves only as the old state of the next change.

With ``PREFECTISH_VALIDATE=1`` in the environment each change is held against the table, where attempts run and where
their records arrive, and the tables of the run are held against each other after each turn of the loop. The tests run
so. Without it nothing of this is called.
"""

from __future__ import annotations

import os

from prefectish.engine.state import (
    Cached,
    Cancelled,
    Cancelling,
    Crashed,
    Failed,
    Finished,
    Looped,
    Mapped,
    Paused,
    Pending,
    Queued,
    Resume,
    Retrying,
    Running,
    Scheduled,
    Skipped,
    State,
    Submitted,
    Success,
    TimedOut,
    TriggerFailed,
    ValidationFailed,
)
from prefectish.errors import InvalidTransition

_UNSTARTED = frozenset({Pending, Scheduled, Retrying, Paused, Resume, Queued, Submitted})
_ENDED_WELL = frozenset({Success, Cached, Skipped, Mapped})
_ENDED_BADLY = frozenset({Failed, TriggerFailed, TimedOut, ValidationFailed, Crashed})
_ENDS = _ENDED_WELL | _ENDED_BADLY | {Cancelled}
_FINAL: frozenset[type[State]] = frozenset()
# The second failure: of a retry whose delay cannot be worked out, or that a handler stops.
_AGAIN = frozenset({Retrying, Failed})

TRANSITIONS: dict[type[State], frozenset[type[State]]] = {
    State: _UNSTARTED | {Running, Cancelling, Looped} | _ENDS,
    # Anything may be run, put off, or ended before its body begins: by a trigger, a skip, a cache, a signal.
    **dict.fromkeys(_UNSTARTED, _UNSTARTED | {Running} | _ENDS),
    # Back to unstarted: retry and pause signals, and attempts that were lost with their worker.
    Running: _UNSTARTED | {Cancelling, Looped} | _ENDS,
    Cancelling: _ENDS,
    Looped: frozenset({Pending, Running, Retrying, Cancelled}) | _ENDED_BADLY,
    Finished: _FINAL,
    Success: frozenset({Cached}),
    # As the start of a run it is asked anew: it may be stale, or be overruled by what is upstream.
    Cached: _ENDS | {Running},
    Skipped: _FINAL,
    # A parent is mapped from the first child to the last.
    Mapped: frozenset({Mapped}),
    Cancelled: _FINAL,
    Failed: _AGAIN,
    TimedOut: _AGAIN,
    ValidationFailed: _AGAIN,
    Crashed: _AGAIN,
    # A trigger's verdict stands, however many retries are left.
    TriggerFailed: _FINAL,
}
"""What may follow a state, by exact class, unless a handler of the user puts another in its place."""


def allowed(old: State | type[State], new: State | type[State]) -> bool:
    """Return whether `new` may follow `old`; a class that is not in the table counts as its nearest parent."""
    return _row(new) in TRANSITIONS[_row(old)]


def can_end(state: State) -> bool:
    """Return whether a task whose body asks for a state may be left in it: final, or waiting.

    Examples
    --------
    >>> can_end(Success()), can_end(Paused()), can_end(Running()), can_end(State())
    (True, True, False, False)
    """
    return state.is_finished() or (allowed(Running, state) and not state.is_running())


def validating() -> bool:
    """Return whether transitions and tables are checked."""
    return os.environ.get("PREFECTISH_VALIDATE") == "1"


def check(old: State, new: State, where: str) -> None:
    """Hold a change that the engine proposes against the table; `where` is the step and row, as ``load[17]``."""
    if not (allowed(old, new) or _is_own_end(old, new)):
        raise _invalid(old, new, where)


def check_attempt(old: State, new: State, where: str) -> None:
    """Hold the state that an attempt ended in against the one it started from: it ran in between, or did not."""
    if allowed(old, Running) and (allowed(Running, new) or _is_own_end(Running(), new)):
        return
    check(old, new, where)


def _is_own_end(old: State, new: State) -> bool:
    """Whether a user's own kind of Finished ends a task that may end."""
    return _row(new) is Finished and allowed(old, Cancelled)


def _invalid(old: State, new: State, where: str) -> InvalidTransition:
    after = ", ".join(sorted(cls.__name__ for cls in TRANSITIONS[_row(old)])) or "nothing"
    return InvalidTransition(
        f"{where}: {type(new).__name__} must not follow {type(old).__name__}, after which there may be {after}; "
        f"old state {old!r}, new state {new!r}"
    )


def _row(state: State | type[State]) -> type[State]:
    cls = state if isinstance(state, type) else type(state)
    return next(base for base in cls.__mro__ if base in TRANSITIONS)
