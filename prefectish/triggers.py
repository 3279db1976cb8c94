"""Rules by which a task runs or not, given the states of what is upstream.

A trigger is a function of one dict, from each edge that ends in the task to the state at its other end.
It returns whether the task may run, or raises a signal that names the task's state instead.

The triggers here look *through* a mapped task: where all its children flow into one task, each child
counts as an upstream of its own.  With no upstream at all each of them passes, `manual_only` excepted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from prefectish.engine import signals
from prefectish.engine.context import context
from prefectish.engine.state import Mapped, Pending, State


class UpstreamEdge(Protocol):
    """Is what a trigger may know of an edge."""

    @property
    def upstream_task(self) -> Any:
        """The task whose state it carries."""

    @property
    def downstream_task(self) -> Any:
        """The task that is to run."""

    @property
    def key(self) -> str | None:
        """The name of the argument; None for an edge that carries no data."""

    @property
    def mapped(self) -> bool:
        """Whether each child of the task gets one item of the upstream."""

    @property
    def flattened(self) -> bool:
        """Whether one level of nesting is taken off."""


Upstream = Mapping[UpstreamEdge, State]
Trigger = Callable[[Upstream], bool]


def all_finished(upstream: Upstream) -> bool:
    """Run once all upstream tasks have ended, in whatever way."""
    return _require(
        all(state.is_finished() for state in _states(upstream)),
        'Trigger was "all_finished" but some of the upstream tasks were not finished.',
    )


always_run = all_finished


def all_successful(upstream: Upstream) -> bool:
    """Run if all upstream tasks succeeded; a skipped one did."""
    return _require(
        all(state.is_successful() for state in _states(upstream)),
        'Trigger was "all_successful" but some of the upstream tasks failed.',
    )


def all_failed(upstream: Upstream) -> bool:
    """Run if all upstream tasks failed."""
    return _require(
        all(state.is_failed() for state in _states(upstream)),
        'Trigger was "all_failed" but some of the upstream tasks succeeded.',
    )


def any_successful(upstream: Upstream) -> bool:
    """Run if at least one upstream task succeeded."""
    return _require(
        not upstream or any(state.is_successful() for state in _states(upstream)),
        'Trigger was "any_successful" but none of the upstream tasks succeeded.',
    )


def any_failed(upstream: Upstream) -> bool:
    """Run if at least one upstream task failed."""
    return _require(
        not upstream or any(state.is_failed() for state in _states(upstream)),
        'Trigger was "any_failed" but none of the upstream tasks failed.',
    )


def not_all_skipped(upstream: Upstream) -> bool:
    """Run if all upstream tasks succeeded and not every one of them by being skipped.

    Raises
    ------
    SKIP
        If all were skipped.
    TRIGGERFAIL
        If one did not succeed.
    """
    states = list(_states(upstream))
    # A map without children has no state to show, but it was not skipped.
    empty = any(isinstance(state, Mapped) and not state.n_map_states for state in upstream.values())
    if states and not empty and all(state.is_skipped() for state in states):
        # No result: what is skipped behind a skipped branch must not look like something that it returned.
        raise signals.SKIP("All upstream tasks were skipped.", result=None)
    return _require(
        all(state.is_successful() for state in states),
        'Trigger was "not_all_skipped" but some of the upstream tasks failed.',
    )


def manual_only(upstream: Upstream) -> bool:
    """Pause until somebody resumes the task.

    Raises
    ------
    PAUSE
        Unless the context has a true `resume`.
    """
    if context.get("resume"):
        return True
    raise signals.PAUSE('Trigger function is "manual_only"')


class _Some:
    """Counts the upstream tasks of one kind; a class, so that it can be pickled."""

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
        Inclusive bounds, >= 0: below 1 a fraction of all upstream tasks, else a number of tasks.

    Raises
    ------
    ValueError
        If a bound is negative or not a number.
    """
    return _Some("failed", at_least, at_most)


def some_successful(at_least: float | None = None, at_most: float | None = None) -> Trigger:
    """Return a trigger that runs a task if the number of successful upstream tasks is within bounds.

    Parameters
    ----------
    at_least, at_most
        Inclusive bounds, >= 0: below 1 a fraction of all upstream tasks, else a number of tasks.

    Raises
    ------
    ValueError
        If a bound is negative or not a number.
    """
    return _Some("successful", at_least, at_most)


def _bound(name: str, value: float | None) -> float | None:
    if value is not None and not value >= 0:  # so written, it refuses NaN too
        raise ValueError(f"{name} must be a number >= 0, got {value!r}")
    return value


def _share(bound: float | None, total: int, default: int) -> float:
    if bound is None:
        return default
    # Rounded, because 0.1 * 30 is a little more than 3.
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


_UNKNOWN = Pending("Nothing is known of this child yet.")
