"""How steps, maps and runs end from outside: stopped, cancelled, out of time."""

from __future__ import annotations

from collections.abc import Callable, Collection

from prefectish.engine.jobs.job import Job
from prefectish.engine.moments import Moment
from prefectish.engine.scheduling import run_state as tables
from prefectish.engine.scheduling.failure_policy import NEVER_STARTED
from prefectish.engine.scheduling.rows import Branches, ancestors
from prefectish.engine.scheduling.run_state import Branch, Lane, StepRun
from prefectish.engine.state import Cancelled, Scheduled, State, TimedOut


class Endings:
    """Gives a state to what will not run to its own end.

    Attributes
    ----------
    draining : nothing more is started; the run ends when nothing of it runs.
    ends : when the time of the run (None) and of maps (by slug) is up, and what to say then.
    overran : what to say of a run whose time was up before its end; None of others.
    """

    def __init__(self, branches: Branches) -> None:
        self.table = branches.table
        self.branches = branches
        self.draining = False
        self.ends: dict[str | None, tuple[float, str]] = {}
        self.overran: str | None = None

    def stop_maps(self, now: Moment) -> None:
        """Act on maps that gave up: nothing new starts, retries are dropped, and running children too if asked."""
        stopping = self.table.finisher.stopping
        while stopping:
            ident, action = stopping.popitem()
            lane = self.table.lanes[ident]
            lane.stopped = action
            if lane.space is not None and lane.space.source is not None:
                lane.space.source, lane.space.closed = None, True
            for branch in list(lane.branches.values()):
                self._stop_branch(lane, branch, drop=action == "cancel", now=now)
            self.table.admission.queue(lane)
            if lane.space is not None and lane.space.closed:
                for run in lane.runs:
                    self.table.finisher.step(run)

    def _stop_branch(self, lane: Lane, branch: Branch, drop: bool, now: Moment) -> None:
        """Cancel the waiting steps of an open branch, and with `drop` the running ones."""
        if drop:
            self.branches.give_up(lane, branch, lane.full)
        for position, run in enumerate(lane.runs):
            bit = 1 << position
            waiting = branch.waiting & bit and position in branch.starts and _is_due_some_time(branch.starts[position])
            if not branch.final & bit and (waiting or drop):
                branch.final |= bit
                branch.waiting &= ~bit
                text = "cancelled: its map was stopped" if drop else "retry cancelled: its map was stopped"
                self.table.end_row(run, branch.row, branch.starts.get(position, tables.NOT_RUN), Cancelled(text))
        self.branches.after(lane, branch, now)

    def map_timed_out(self, lane: Lane, position: int, text: str, now: Moment) -> None:
        """End a map whose time is up: open children are TimedOut, those not started are Cancelled."""
        run = lane.runs[position]
        if run.final:
            return
        lane.stopped = lane.stopped or "stop"
        for branch in list(lane.branches.values()):
            self._end_position(lane, branch, position, TimedOut(text, TimeoutError(text)), now)
        self.table.admission.queue(lane)

    def drain(self, now: Moment) -> None:
        """Start nothing more, let what runs end, and then end the run."""
        self.draining = True
        for lane in self.table.lanes.values():
            for branch in list(lane.branches.values()):
                self._stop_branch(lane, branch, drop=False, now=now)

    def cancel(self, slug: str, row: int | None, now: Moment) -> None:
        """Cancel a task that is not finished, or one child of it; what follows it decides by its trigger.

        A child that has not begun ends when its turn comes.

        Parameters
        ----------
        slug : of the step.
        row : of the child; None for all children, also those to come.
        """
        run = next(run for run in self.table.runs if run.step.slug == slug)
        lane = run.lane
        if run.final:
            return
        if row is not None and (lane is None or row not in lane.branches):
            _withdraw(run, row)
            return
        if lane is None:
            run.state, run.final = self.table.notify(run, run.state, Cancelled("cancelled")), True
            self.table.finisher.ended(run)
            return
        position = lane.position[run.step.number]
        for branch in [b for b in lane.branches.values() if row is None or b.row == row]:
            self._end_position(lane, branch, position, Cancelled("cancelled"), now)
        if row is None:
            lane.stopped = lane.stopped or "stop"
            self.table.admission.queue(lane)

    def _end_position(self, lane: Lane, branch: Branch, position: int, state: State, now: Moment) -> None:
        """End one step of an open branch from outside; what reads it in the branch is submitted again."""
        if branch.final >> position & 1:
            return
        gone = 1 << position | sum(1 << p for p in range(len(lane.runs)) if position in ancestors(lane, p))
        self.branches.give_up(lane, branch, gone)
        branch.final |= 1 << position
        self.table.end_row(lane.runs[position], branch.row, branch.starts.get(position, tables.NOT_RUN), state)
        self.branches.after(lane, branch, now)

    def end(
        self, open_state: Callable[[StepRun, int], State], rest: State, now: Moment, behind: State | None = None
    ) -> None:
        """End the run now: every child gets a state, nothing more is started, no trigger is asked.

        Parameters
        ----------
        open_state : state of a child whose branch is open.
        rest : state of everything that was never started.
        behind : state of steps of an open branch that have not begun, as far as is known; None: as of the others.
        """
        unsent = set(self.table.jobs)
        self.table.over = True
        self.table.now = now
        for lane in self.table.lanes.values():
            for branch in list(lane.branches.values()):
                self._end_branch(lane, branch, open_state, behind, unsent)
            lane.branches.clear()
        for run in self.table.runs:
            if not (run.final or run.blocked):
                self._end_step(run, rest)
        self.table.timers.clear()
        self.table.deadlines.clear()
        self.table.jobs.clear()

    def _end_branch(
        self,
        lane: Lane,
        branch: Branch,
        state: Callable[[StepRun, int], State],
        behind: State | None,
        unsent: Collection[Job],
    ) -> None:
        not_begun = _not_begun(lane, branch, unsent) if behind is not None else 0
        self.branches.give_up(lane, branch, lane.full)
        for position, run in enumerate(lane.runs):
            if not branch.final >> position & 1:
                branch.final |= 1 << position
                old = branch.starts.get(position, tables.NOT_RUN)
                new = behind if behind is not None and not_begun >> position & 1 else state(run, branch.row)
                self.table.end_row(run, branch.row, old, new)

    def _end_step(self, run: StepRun, rest: State) -> None:
        """Give what was never started of a step its state."""
        if run.space is not None:
            run.space.closed = True
        if run.children is None:
            run.state, run.final = self.table.notify(run, run.state, rest), True
            return
        for row, state in enumerate(run.children):
            if state is None:
                self.table.end_row(run, row, run.start_of(row) or tables.NOT_RUN, rest)
        self.table.finisher.step(run)

    def limit_time(self, seconds: float, now: Moment) -> None:
        """End the run after so many seconds: open tasks are TimedOut, those not started Cancelled."""
        text = f"the flow run took longer than its timeout of {seconds:g} s"
        due = now.seconds + seconds
        self.ends[None] = due, text

        def stop(then: Moment) -> None:
            self.overran = text
            self.end(lambda run, row: TimedOut(text, TimeoutError(text)), NEVER_STARTED, then, behind=NEVER_STARTED)

        self.table.deadlines.at(due, stop)

    def time_left(self, slug: str, now: Moment) -> tuple[float, str] | None:
        """Return the seconds that the map of a task and the run have left, and what to say then; None for no limit."""
        ends = [self.ends[name] for name in (None, slug) if name in self.ends]
        if not ends:
            return None
        due, text = min(ends)
        return due - now.seconds, text


def _withdraw(run: StepRun, row: int) -> None:
    """Note that a child is cancelled that has not begun."""
    if run.children is None or row >= len(run.children) or run.children[row] is None:
        run.withdrawn.add(row)
        if run.lane is not None:
            run.lane.withdrawn = True


def _is_due_some_time(state: State) -> bool:
    return isinstance(state, Scheduled) and state.start_time is not None


def _not_begun(lane: Lane, branch: Branch, unsent: Collection[Job]) -> int:
    """Return the mask of the steps of a branch that wait for others of it, or were to be submitted just now."""
    mask = 0
    for job in branch.jobs:
        if job in unsent:
            mask |= job.awaiting
    for position in range(len(lane.runs)):
        bit = 1 << position
        if position in branch.starts:
            mask &= ~bit
        elif any(not branch.final >> p & 1 for p in ancestors(lane, position) - {position}):
            mask |= bit
    return mask
