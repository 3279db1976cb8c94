"""The state table of one run: what all rules of a run read, and change one after another."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from prefectish.engine.clock import Now
from prefectish.engine.context import context
from prefectish.engine.jobs.job import Job
from prefectish.engine.plan.steps import Plan
from prefectish.engine.scheduling.admission import Admission
from prefectish.engine.scheduling.changes import Transitions
from prefectish.engine.scheduling.events import AttemptEvent
from prefectish.engine.scheduling.limits import Limits
from prefectish.engine.scheduling.previous_run import PreviousRun
from prefectish.engine.scheduling.ready import Notify, ReadySteps
from prefectish.engine.scheduling.resume_rules import ResumeRules
from prefectish.engine.scheduling.run_state import MapRow, StepChain, StepState
from prefectish.engine.scheduling.suspects import Suspects
from prefectish.engine.scheduling.timers import Timers
from prefectish.engine.state import State
from prefectish.engine.worker.logs.relay import AttemptLog


class RunState:
    """Steps, chains, queues and timers of a run.

    Attributes
    ----------
    runs
        What became of each step, by number.
    chains
        Chains by their number.
    events
        What happened since the loop took them away; None if nobody records.
    told
        What bodies logged, likewise.
    in_flight
        Jobs that were submitted and not reported.
    cancelled
        Jobs that were given up; the loop tells the session and takes them away.
    jobs
        Jobs for the session, since the last turn.
    timers
        Branches that wait for a time, with the bit of the step that does.
    deadlines
        Ends of time limits, and what to do then.
    over
        The run has ended; nothing is taken any more.
    paused
        Nothing is started until somebody says so.
    now
        The time of this turn.
    """

    __slots__ = (
        "admission", "cancelled", "deadlines", "events", "finisher", "groups", "in_flight", "jobs", "chains", "notify",
        "now", "opener", "over", "paused", "plan", "recaller", "runs", "suspects", "timers", "told",
    )  # fmt: skip

    def __init__(
        self,
        plan: Plan,
        facts: Mapping[str, Any],
        notify: Notify,
        admission: tuple[int, int, Mapping[str, int] | None],
        keep: Collection[int],
        record: bool,
        recall: PreviousRun | None,
    ) -> None:
        window, slots, tag_limits = admission
        self.plan = plan
        self.notify = notify
        self.runs = [StepState(step) for step in plan.steps]
        self.groups = {group.number: group for group in plan.groups}
        self.chains: dict[int, StepChain] = {}
        self.events: list[AttemptEvent] | None = [] if record else None
        self.told: list[AttemptLog] = []
        self.recaller = None if recall is None else ResumeRules(recall)
        self.opener = ReadySteps(plan, self.runs, facts, notify, keep, keyed=record)
        self.admission = Admission(window, slots, Limits(plan, tag_limits))
        self.finisher = Transitions(plan, self.runs, self.opener.spaces, facts, self.admission.queue, keep)
        self.suspects = Suspects()
        self.in_flight = 0
        self.cancelled: list[Job] = []
        self.jobs: list[Job] = []
        self.timers: Timers[tuple[StepChain, MapRow, int]] = Timers()
        self.deadlines: Timers[Callable[[Now], None]] = Timers()
        self.over = False
        self.paused = False
        self.now: Now

    def end_row(self, run: StepState, row: int, old: State, state: State) -> None:
        """Give a row a final state that the owner decides; handlers see it."""
        if run.step.mapped and run.step.task.state_handlers:
            with context(map_index=row):
                state = self.notify(run, old, state)
        else:
            state = self.notify(run, old, state)
        if self.events is not None:
            self.events.append(AttemptEvent(run.step.number, row, 0, state, 0.0, self.now.wall, None, None))
        self.finisher.row(run, row, state, None)
