"""The state table of one run: what all rules of a run read, and change one after another."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from prefectish.engine.clock import Now
from prefectish.engine.context import context
from prefectish.engine.jobs.job import Job
from prefectish.engine.plan.steps import Plan
from prefectish.engine.scheduling.admission import Admission
from prefectish.engine.scheduling.changes import Changes
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
        "admission", "cancelled", "chains", "changes", "deadlines", "events", "groups", "jobs", "logs", "notify",
        "now", "over", "paused", "plan", "ready", "resume_rules", "step_states", "submitted_jobs", "suspects", "timers",
    )  # fmt: skip

    def __init__(
        self,
        plan: Plan,
        facts: Mapping[str, Any],
        notify: Notify,
        admission: tuple[int, int, Mapping[str, int] | None],
        keep: Collection[int],
        record: bool,
        previous_run: PreviousRun | None,
    ) -> None:
        window, slots, tag_limits = admission
        self.plan = plan
        self.notify = notify
        self.step_states = [StepState(step) for step in plan.steps]
        self.groups = {group.number: group for group in plan.groups}
        self.chains: dict[int, StepChain] = {}
        self.events: list[AttemptEvent] | None = [] if record else None
        self.logs: list[AttemptLog] = []
        self.resume_rules = None if previous_run is None else ResumeRules(previous_run)
        self.ready = ReadySteps(plan, self.step_states, facts, notify, keep, keyed=record)
        self.admission = Admission(window, slots, Limits(plan, tag_limits))
        self.changes = Changes(plan, self.step_states, self.ready.map_states, facts, self.admission.queue, keep)
        self.suspects = Suspects()
        self.submitted_jobs = 0
        self.cancelled: list[Job] = []
        self.jobs: list[Job] = []
        self.timers: Timers[tuple[StepChain, MapRow, int]] = Timers()
        self.deadlines: Timers[Callable[[Now], None]] = Timers()
        self.over = False
        self.paused = False
        self.now: Now

    def end_row(self, step_state: StepState, row: int, old: State, state: State) -> None:
        """Give a row a final state that the owner decides; handlers see it."""
        if step_state.step.mapped and step_state.step.task.state_handlers:
            with context(map_index=row):
                state = self.notify(step_state, old, state)
        else:
            state = self.notify(step_state, old, state)
        if self.events is not None:
            self.events.append(AttemptEvent(step_state.step.number, row, 0, state, 0.0, self.now.wall, None, None))
        self.changes.finish_row(step_state, row, state, None)
