"""What a history records of a run: one event for each attempt that ended, and for each state that no attempt made.

Events are appended to a list while the run is driven and handed over in batches; nothing is written on the hot path.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from prefectish.engine.jobs.job import Cost
from prefectish.engine.plan.steps import Plan, Step
from prefectish.engine.state import State
from prefectish.engine.worker.logs.relay import AttemptLog


class AttemptEvent(NamedTuple):
    """A change of state of one row.

    Attributes
    ----------
    step
        Number of the step in the plan.
    row
        Position of the child, 0 for a single task.
    attempt
        Number of the attempt that ended in this state, from 1; 0 for a state that no attempt made.
    state
        Final, or what the row waits for.
    seconds
        Time of the attempt by its worker's monotonic clock.
    wall
        When its record arrived at the client.
    worker
        Process that ran the attempt, ``host:pid``; None for a state that no attempt made.
    item_key
        The key of the child's item; None if keys are not recorded.
    made
        How often the run had been resumed when the attempt ran, of a child that is kept; None for now.
    cost
        Seconds of the processor, bytes by which the peak memory of its process grew, and bytes of its inputs; None if
        not measured.
    """

    step: int
    row: int
    attempt: int
    state: State
    seconds: float
    wall: datetime
    worker: str | None
    item_key: str | None
    generation: int | None = None
    cost: Cost | None = None


class FailureEvent(NamedTuple):
    """A failure, or an attempt that failed and is retried, for the log.

    Attributes
    ----------
    step
        Its step in the plan.
    row
        Position of the child; -1 for a map that ended as a whole.
    attempt
        Number of the attempt that ended so, from 1; 0 for a state that no attempt made.
    state
        Failed, or Retrying.
    due_in_seconds
        When the next attempt begins.
    wall
        When it was known at the client.
    worker
        Process that ran the attempt, None for this one.
    """

    step: Step
    row: int
    attempt: int
    state: State
    due_in_seconds: float | None
    wall: datetime
    worker: str | None


class Notice(NamedTuple):
    """The delivery of a notification.

    Attributes
    ----------
    at
        When it was delivered, or given up.
    channel
        By what it was sent.
    subject
        Its first line.
    attempts
        Tries, 0 if it could not be sent at all.
    seconds
        From the first try to the end of the last.
    error
        Why it was not delivered; None if it was.
    """

    at: datetime
    channel: str
    subject: str
    attempts: int
    seconds: float
    error: str | None


#: Gives the rows that are under way, and the number of children of the maps that is known, by step.
OpenRows = Callable[[], Mapping[int, Sequence[int]]]
Widths = Callable[[], Mapping[int, int]]


class LimitKeeper(Protocol):
    """Keeps what a run holds of limits across runs."""

    def end(self) -> None:
        """Give back everything."""


class Recorder(Protocol):
    """Writes a run into a history."""

    @property
    def address(self) -> str:
        """Return the address that opens the history, including its password: must not be shown."""

    def started(self, plan: Plan, facts: Mapping[str, Any], version: str | None, executor: str) -> None:
        """Note that a run begins."""

    def watch(
        self,
        open_rows: OpenRows,
        widths: Widths,
        ask: Callable[[str, Mapping[str, Any]], Any],
        lost: Callable[[], None],
        is_cancelled: Callable[[], bool],
    ) -> None:
        """Take functions that another thread calls.

        For the rows that are running, and the widths of maps; to leave a request; to end the run, since another client
        has taken it over; and whether it was asked to cancel all.
        """

    def share_limits(self, control: Any, limits: Any) -> LimitKeeper:
        """Keep what the run holds of limits across runs, by requests to `control` that change its `limits`."""

    def record(self, events: Sequence[AttemptEvent]) -> None:
        """Take events; returns at once, they are written later."""

    def log(self, logs: Sequence[AttemptLog]) -> None:
        """Take what bodies logged; returns at once, as `record`."""

    def notice(self, notice: Notice) -> None:
        """Write what became of a message, from any thread, also when the run has ended."""

    def ended(self, plan: Plan, states: Sequence[State], state: State) -> State:
        """Note how the run ended, with the state of each step; returns when everything is written.

        Returns
        -------
        State
            Of the run; with another exit code if its record is not complete.
        """

    def failed(self, error: BaseException) -> None:
        """Note that the run broke off, by an error of its own or because it was interrupted."""


def load(history: Any) -> Recorder | None:
    """Return a recorder for a run; None where there is to be no history.

    Parameters
    ----------
    history
        None for the history in the home folder, if its library is installed; False for none; a path or a database URL.

    Raises
    ------
    ModuleNotFoundError
        A history was asked for, and its library is not installed.
    """
    if history is False:
        return None
    import importlib

    try:
        module = importlib.import_module("prefectish.history.recorder")
    except ModuleNotFoundError as error:
        if history is None or (error.name or "").startswith("prefectish"):
            return None
        raise
    recorder: Recorder | None = module.recorder_for(history)
    return recorder
