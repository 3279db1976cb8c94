"""Triggers: functions that decide from the states of upstream tasks whether a task runs.

A trigger is a function of one dict, from each edge into the task to the state of its upstream task.
It returns whether the task runs, or raises a signal with the state of the task.

The triggers here consider the children of a mapped task: where all its children flow into one task, each child
counts as an upstream task.  Without any upstream tasks each of them passes, except `manual_only`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, cast

from prefectish.engine import signals
from prefectish.engine.context import context
from prefectish.engine.state import Mapped, Pending, State


class UpstreamEdge(Protocol):
    """What a trigger can read of an edge."""

    @property
    def upstream_task(self) -> Any:
        """The upstream task, whose state is passed."""

    @property
    def downstream_task(self) -> Any:
        """The task to run."""

    @property
    def key(self) -> str | None:
        """The name of the argument; None for an edge that passes no data."""

    @property
    def mapped(self) -> bool:
        """Whether each child of the task receives one item of the upstream result."""

    @property
    def flattened(self) -> bool:
        """Whether one level of nesting is removed."""


Upstream = Mapping[UpstreamEdge, State]


class _Called:
    """What a trigger is given by a user who calls it where it is to be passed."""

    def refuse(self, *args: Any) -> Any:
        raise TypeError("a trigger is passed, not called: write trigger=triggers.all_finished, without ()")

    __bool__ = __iter__ = __len__ = items = values = refuse

    def __repr__(self) -> str:
        return "..."  # in signatures


_CALLED = cast("Upstream", _Called())
Trigger = Callable[[Upstream], bool]


def all_finished(upstream: Upstream = _CALLED) -> bool:
    """Run once all upstream tasks have finished, in any state."""
    return _require(
        all(state.is_finished() for state in _states(upstream)),
        'Trigger was "all_finished" but some of the upstream tasks were not finished.',
    )


always_run = all_finished


def all_successful(upstream: Upstream = _CALLED) -> bool:
    """Run if all upstream tasks succeeded; skipped counts as success."""
    return _require(
        all(state.is_successful() for state in _states(upstream)),
        'Trigger was "all_successful" but some of the upstream tasks failed.',
    )


def all_failed(upstream: Upstream = _CALLED) -> bool:
    """Run if all upstream tasks failed."""
    return _require(
        all(state.is_failed() for state in _states(upstream)),
        'Trigger was "all_failed" but some of the upstream tasks succeeded.',
    )


def any_successful(upstream: Upstream = _CALLED) -> bool:
    """Run if at least one upstream task succeeded."""
    return _require(
        not upstream or any(state.is_successful() for state in _states(upstream)),
        'Trigger was "any_successful" but none of the upstream tasks succeeded.',
    )


def any_failed(upstream: Upstream = _CALLED) -> bool:
    """Run if at least one upstream task failed."""
    return _require(
        not upstream or any(state.is_failed() for state in _states(upstream)),
        'Trigger was "any_failed" but none of the upstream tasks failed.',
    )


def not_all_skipped(upstream: Upstream = _CALLED) -> bool:
    """Run if all upstream tasks succeeded and at least one of them was not skipped.

    Raises
    ------
    SKIP
        If all were skipped.
    TRIGGERFAIL
        If one of them did not succeed.
    """
    states = list(_states(upstream))
    # A map without children has no child states, but it was not skipped.
    empty = any(isinstance(state, Mapped) and not state.n_map_states for state in upstream.values())
    if states and not empty and all(state.is_skipped() for state in states):
        # The result is None: a task skipped after a skipped branch must not appear to have returned something.
        raise signals.SKIP("All upstream tasks were skipped.", result=None)
    return _require(
        all(state.is_successful() for state in states),
        'Trigger was "not_all_skipped" but some of the upstream tasks failed.',
    )


def manual_only(upstream: Upstream = _CALLED) -> bool:
    """Pause until the task is resumed.

    Raises
    ------
    PAUSE
        Unless `resume` is set in the context.
    """
    if upstream is _CALLED:
        list(_CALLED)  # refused, as by every trigger
    if context.get("resume"):
        return True
    raise signals.PAUSE('Trigger function is "manual_only"')


class _Some:
    """Trigger on the number of upstream tasks of one kind; a class, so that it can be pickled."""

    __slots__ = ("at_least", "at_most", "outcome")

    def __init__(self, outcome: str, at_least: float | None, at_most: float | None) -> None:
        self.outcome = outcome
        self.at_least = _bound("at_least", at_least)
        self.at_most = _bound("at_most", at_most)

    @property
    def __name__(self) -> str:
        return f"some_{self.outcome}"

    def __call__(self, upstream: Upstream) -> bool:
        if not upstream:
            return True
        matches = [getattr(state, f"is_{self.outcome}")() for state in _states(upstream)]
        count, total = sum(matches), len(matches)
        return _require(
            _share(self.at_least, total, 0) <= count <= _share(self.at_most, total, total),
            f'Trigger was "{self!r}" but {count} of {total} upstream tasks were {self.outcome}.',
        )

    def __repr__(self) -> str:
        return f"{self.__name__}(at_least={self.at_least}, at_most={self.at_most})"


def some_failed(at_least: float | None = None, at_most: float | None = None) -> Trigger:
    """Return a trigger that runs a task if the number of failed upstream tasks is within bounds.

    Parameters
    ----------
    at_least, at_most
        Inclusive bounds, >= 0: below 1 a fraction of all upstream tasks, otherwise a number of tasks.

    Raises
    ------
    ValueError
        If a bound is negative or not a number.
    """
    return _Some("failed", at_least, at_most)


def some_successful(at_least: float | None = None, at_most: float | None = None) -> Trigger:
    """Return a trigger like :func:`some_failed` that counts successful upstream tasks."""
    return _Some("successful", at_least, at_most)


def bounds_of(trigger: Any) -> dict[str, float | None] | None:
    """Return what `some_failed` or `some_successful` made a trigger with; None for another trigger."""
    return {"at_least": trigger.at_least, "at_most": trigger.at_most} if isinstance(trigger, _Some) else None


def _bound(name: str, value: float | None) -> float | None:
    if value is not None and not value >= 0:  # this form also rejects NaN
        raise ValueError(f"{name} must be a number >= 0, got {value!r}")
    return value


def _share(bound: float | None, total: int, default: int) -> float:
    if bound is None:
        return default
    # Rounded, because 0.1 * 30 is slightly more than 3.
    return round(bound * total, 9) if bound < 1 else bound


def _require(passed: bool, message: str) -> bool:
    if not passed:
        raise signals.TRIGGERFAIL(message)
    return True


def _states(upstream: Upstream) -> Iterator[State]:
    for edge, state in upstream.items():
        if isinstance(state, Mapped) and not edge.mapped:
            yield from _children(state)
        else:
            yield state


def _children(parent: Mapped) -> Iterator[State]:
    for child in parent.map_states:
        yield _UNKNOWN if child is None else child
    for _ in range(parent.n_map_states - len(parent.map_states)):
        yield _UNKNOWN


_UNKNOWN = Pending("The state of this child is not known yet.")
