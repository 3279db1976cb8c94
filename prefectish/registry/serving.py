"""Run flows at the events of their schedules in this process: several schedules without a registry."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from prefectish.engine import clock as clocks
from prefectish.engine.context import get_logger
from prefectish.engine.driver.handle import RunHandle, interrupt_all
from prefectish.engine.driver.interrupts import TERMINATED, Terminated, terminable
from prefectish.engine.driver.options import RunOrigin
from prefectish.errors import FlowDefinitionError, describe
from prefectish.history.store import open_store
from prefectish.registry.left_runs import begin, left_runs, take_up
from prefectish.registry.options import DeploymentOptions
from prefectish.registry.planning import due_events
from prefectish.registry.queue import Overlap, overlap_of
from prefectish.schedules.clocks import ClockEvent
from prefectish.schedules.schedule import Schedule

#: Longest sleep in seconds: the clock may be set, and a suspended machine must notice that it is late.
MAX_SLEEP = 1.0
#: Seconds that runs are given to end, once the program is to end.
ENDS_WITHIN = 10.0
logger = get_logger("schedule")


class _Served:
    """A flow whose schedule is followed."""

    def __init__(self, flow: Any, options: DeploymentOptions, history: Any, since: float) -> None:
        self.flow = flow
        self.options = options
        self.history = history
        self.schedule: Schedule = flow.schedule
        self.since = since
        self.waiting: list[ClockEvent] = []
        self.open: list[RunHandle] = []
        self.begun: dict[str, float] = {}  # when each open run began; one of a former process was there before

    def turn(self, now: float) -> None:
        """Begin what is due."""
        self.open = [run for run in self.open if not run.state.is_finished() and not _is_over(run)]
        self.begun = {run.id: self.begun[run.id] for run in self.open if run.id in self.begun}
        self.waiting.extend(due_events([self.schedule], self.since, now, self.options.catch_up))
        self.since = now
        while self.waiting:
            due, newest = (event.instant.timestamp() for event in (self.waiting[0], self.waiting[-1]))
            begun = [self.begun.get(run.id or "", 0.0) for run in self.open]
            match overlap_of(self.options.overlap, "schedule", due, begun, newest):
                case Overlap.BEGIN:
                    self._begin(self.waiting.pop(0), now)
                case Overlap.LEAVE_TO_NEWER:
                    logger.warning(
                        "Flow %r: the run of %s is left out, because a newer one takes its place (overlap='cancel')",
                        self.flow.name, self.waiting.pop(0).start_time.isoformat(sep=" "),
                    )  # fmt: skip
                case Overlap.SKIP:
                    event = self.waiting.pop(0)
                    logger.warning(
                        "Flow %r: the run of %s is left out, because run %s is not over (overlap='skip')",
                        self.flow.name, event.start_time.isoformat(sep=" "), self.open[0].id,
                    )  # fmt: skip
                case Overlap.WAIT:
                    return
                case Overlap.CANCEL_OTHERS:
                    for run in self.open:
                        run.cancel()
                    return

    def take_up(self) -> None:
        """Continue what a former process has left of the flow, or fail it."""
        chosen = getattr(self.flow, "options", None)
        history = self.history if self.history is not None or chosen is None else chosen.history
        if history is False:
            return
        store = open_store(None if history is True else history)
        for left in left_runs(self.flow, store):
            try:
                run = take_up(self.flow, self.schedule, left, self.options, store)
            except Exception as error:  # its tasks changed, or another process continues it
                logger.error("Flow %r: run %s is not continued: %s", self.flow.name, left.id, describe(error))
            else:
                self.open += [] if run is None else [run]

    def hand_on(self) -> None:
        """Stop what runs so that the next process that serves the flow continues it, if that is to be."""
        if self.options.on_lost == "resume" and self.history is not False:
            interrupt_all(self.open, Terminated)
            self.open = []

    def _begin(self, event: ClockEvent, now: float) -> None:
        when = event.start_time.isoformat(sep=" ")
        origin = RunOrigin("schedule", event.start_time)
        try:
            run = begin(self.flow, event.parameter_defaults, self.history, timeout=self.options.timeout, origin=origin)
        except Exception as error:  # its next event may go well
            logger.error("Flow %r: the run of %s could not begin: %s", self.flow.name, when, describe(error))
            return
        logger.info("Flow %r: run %s of %s begins", self.flow.name, run.id, when)
        self.open.append(run)
        self.begun[run.id] = now

    def next(self, now: float) -> datetime | None:
        """Return when the flow runs next; None if it never does."""
        event = next(self.schedule.events(datetime.fromtimestamp(now, UTC)), None)
        return None if event is None else event.start_time


def serve(
    *flows: Any,
    overlap: str | None = None,
    catch_up: bool | None = None,
    on_lost: str | None = None,
    max_resumes: int | None = None,
    timeout: float | timedelta | None = None,
    history: str | os.PathLike[str] | bool | None = None,
) -> None:
    """Run flows at the events of their schedules, in this process, until their schedules end or the program does.

    Parameters
    ----------
    *flows
        Flows and flow functions with a schedule; several may run at the same time.
    overlap, catch_up, timeout
        As for :meth:`prefectish.Flow.deploy`.
    on_lost, max_resumes
        What becomes of runs that a former process served and left, because it died or was terminated: "resume", the
        default, continues them from their record, so many times at most; "fail" fails them.
    history
        Where runs are recorded, as for :meth:`prefectish.Flow.run`.

    Raises
    ------
    SystemExit
        At SIGTERM, with code 143.
    FlowDefinitionError
        A flow has no schedule, or none of its events is still to come.
    """
    options = DeploymentOptions.checked(
        overlap=overlap, catch_up=catch_up, on_lost=on_lost, max_resumes=max_resumes, timeout=timeout
    )
    clock = clocks.current
    now = clock.wall().timestamp()
    served = [_Served(_with_schedule(flow), options, history, now) for flow in flows]
    if not served:
        raise TypeError("serve must have one flow or more")
    for each in served:
        if (first := each.next(now)) is None:
            raise FlowDefinitionError(
                f"the schedule of flow {each.flow.name!r} has no event to come: {each.schedule!r}"
            )
        logger.info("Flow %r: next run at %s", each.flow.name, first.isoformat(sep=" "))
    try:
        with terminable():
            for each in served:
                each.take_up()
            _follow(served, clock)
    except Terminated:
        for each in served:
            each.hand_on()
        raise SystemExit(TERMINATED) from None
    finally:
        _end([run for each in served for run in each.open])


def _follow(served: list[_Served], clock: Any) -> None:
    while True:
        now = clock.wall().timestamp()
        for each in served:
            each.turn(now)
        upcoming = [due for each in served if (due := each.next(now)) is not None]
        if not upcoming and not any(each.open or each.waiting for each in served):
            return
        left = min(((due.timestamp() - now) for due in upcoming), default=MAX_SLEEP)
        clock.sleep(max(0.0, min(left, MAX_SLEEP)))


def _end(left: list[RunHandle]) -> None:
    for run in left:
        run.cancel()
    for run in left:
        with suppress(TimeoutError):
            run.wait(ENDS_WITHIN)


def _with_schedule(flow: Any) -> Any:
    if getattr(flow, "schedule", None) is None:
        raise FlowDefinitionError(f"flow {getattr(flow, 'name', flow)!r} must have a schedule to be served")
    return flow


def _is_over(run: RunHandle) -> bool:
    """Whether a run has ended in another way than by a state."""
    return run._ended.is_set()
