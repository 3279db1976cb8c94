"""Runs that tasks of a run have asked for (:class:`~prefectish.tasks.flows.RunFlow`): they are cancelled with it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeGuard

from sqlalchemy import Connection, select, update

from prefectish.engine.plan.steps import Step
from prefectish.engine.scheduling.events import AttemptEvent
from prefectish.engine.state import Cancelled, TimedOut
from prefectish.errors import PrefectishError
from prefectish.history import schema
from prefectish.history.registry_tables import CLAIMED, DRIVEN, ENDED, WAITING, requested
from prefectish.history.run_requests import post
from prefectish.history.signing import Signer
from prefectish.history.store import HistoryStore, open_store
from prefectish.tasks.flows import RunFlow
from prefectish.tasks.task import Task

logger = logging.getLogger("prefectish.registry")
_q = requested.c


def place_of(slug: str, index: int | None, attempt: int) -> str:
    """Return which attempt of which child of the parent asks."""
    return f"{slug}[{'' if index is None else index}] {attempt}"


def event_of(parent: str, place: str) -> str:
    """Return what distinguishes a run that a parent has asked for from all others."""
    return hashlib.sha256(f"{parent} {place}".encode()).hexdigest()


class ChildRuns:
    """The runs that tasks of a run have asked for, to be cancelled with it; used by the thread that records it."""

    def __init__(self, run_id: str, part: int, steps: Callable[[], Sequence[Step]]) -> None:
        self._run_id = run_id
        self._part = part
        self._steps = steps
        self._is_cancelled = False
        self._left: set[tuple[str | None, str]] = set()  # store and event of those that end

    def cancel_all(self) -> None:
        """Cancel them all, and those that are asked for from now on."""
        self._is_cancelled = True

    def note(self, events: Iterable[AttemptEvent]) -> None:
        """Cancel the runs of children that the engine has ended."""
        steps = self._steps()
        for event in events:
            task = steps[event.step].task
            if begins_runs(task) and is_cancelled(event):
                self._left.update((task.store, name) for name in self._events(steps[event.step], task, event.row))

    def look(self) -> bool:
        """Cancel what is to be cancelled and can be; return whether to look again for a run that is about to begin."""
        if not (self._is_cancelled or self._left):
            return False
        left: set[tuple[str | None, str]] = set()
        for address in {step.task.store for step in self._steps() if begins_runs(step.task)}:
            chosen = None if self._is_cancelled else {event for store, event in self._left if store == address}
            try:
                left |= {(address, event) for event in cancel(open_store(address), self._run_id, chosen)}
            except PrefectishError as error:
                logger.warning("runs that run %s has asked for could not be cancelled: %s", self._run_id, error)
        self._left = left
        return bool(left)

    def _events(self, step: Step, task: RunFlow, row: int) -> Iterator[str]:
        places = [place_of(step.slug, row if step.mapped else None, n + 1) for n in range((task.max_retries or 0) + 1)]
        parts = ["", *(f" part {part}" for part in range(1, self._part + 1))]
        return (event_of(self._run_id, place + part) for place in places for part in parts)


def begins_runs(task: Task) -> TypeGuard[RunFlow]:
    """Whether the calls of a task ask for runs that end with them."""
    return task.begins_runs


def is_cancelled(event: AttemptEvent) -> bool:
    """Whether a child was ended by the engine, for good: what was interrupted may be resumed, and finds its run."""
    state: Any = event.state
    return isinstance(state, Cancelled | TimedOut) and state.message != "interrupted"


def cancel(store: HistoryStore, parent: str, events: set[str] | None = None) -> set[str]:
    """Cancel runs that a parent has asked for; return the events of those that are about to begin, and were not.

    Parameters
    ----------
    events
        Only those; None for all.
    """
    left = set()
    with store.writing() as connection:
        query = select(_q.run, _q.event).where(_q.parent == parent, _q.state != ENDED)
        for row in connection.execute(query).all():
            if (events is None or row.event in events) and not cancel_run(connection, row.run):
                left.add(str(row.event))
    return left


def cancel_run(connection: Connection, run: str) -> bool:
    """Cancel a run that was asked for; False if its driver is about to begin, and cannot be asked yet."""
    if cancel_waiting(connection, run):
        return True
    r, a = schema.runs.c, schema.asks.c
    number = connection.execute(select(r.number).where(r.id == run)).scalar()
    if number is None:
        return False
    asked = select(a.number).where(a.run == number, a.verb == "cancel", a.answered.is_(None))
    driven = select(_q.run).where(_q.run == run, _q.state == DRIVEN)
    if connection.execute(asked).first() is None and connection.execute(driven).first() is not None:
        post(connection, number, "cancel", {}, Signer())
    return True


def cancel_waiting(connection: Connection, run: str) -> bool:
    """End a run that no driver drives; return whether it did. A driver that is about to begin it finds no claim."""
    waits = (_q.run == run) & _q.state.in_((WAITING, CLAIMED))
    values = {"state": ENDED, "message": "cancelled before it began", "exit_code": 6, "claim": None}
    return bool(connection.execute(update(requested).where(waits).values(values)).rowcount)
