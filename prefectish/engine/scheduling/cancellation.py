"""How steps, maps and runs end from outside: stopped, cancelled, out of time."""

from __future__ import annotations

from collections.abc import Callable, Collection

from prefectish.engine.clock import Now
from prefectish.engine.jobs.job import Job
from prefectish.engine.scheduling import run_state as tables
from prefectish.engine.scheduling.failure_policy import NEVER_STARTED
from prefectish.engine.scheduling.rows import Rows, ancestors
from prefectish.engine.scheduling.run_state import MapRow, StepChain, StepState
from prefectish.engine.state import Cancelled, Scheduled, State, TimedOut


class Cancellation:
    """Gives a state to what will not run to its own end.

    Attributes
    ----------
    draining
        Nothing more is started; the run ends when nothing of it runs.
    ends
        When the time of the run (None) and of maps (by slug) is up, and what to say then.
    overran
        What to say of a run whose time was up before its end; None of others.
    """

    def __init__(self, branches: Rows) -> None:
        self.table = branches.table
        self.branches = branches
        self.draining = False
        self.ends: dict[str | None, tuple[float, str]] = {}
        self.overran: str | None = None

    def stop_maps(self, now: Now) -> None:
        """Act on maps that gave up: nothing new starts, retries are dropped, and running children too if asked."""
        stopping = self.table.finisher.stopping
        while stopping:
            ident, action = stopping.popitem()
            chain = self.table.chains[ident]
            chain.stopped = action
            if chain.space is not None and chain.space.source is not None:
                chain.space.source, chain.space.closed = None, True
            for branch in list(chain.branches.values()):
                self._stop_branch(chain, branch, drop=action == "cancel", now=now)
            self.table.admission.queue(chain)
            if chain.space is not None and chain.space.closed:
                for run in chain.runs:
                    self.table.finisher.step(run)

    def _stop_branch(self, chain: StepChain, branch: MapRow, drop: bool, now: Now) -> None:
        """Cancel the waiting steps of an open branch, and with `drop` the running ones."""
        if drop:
            self.branches.give_up(chain, branch, chain.full)
        for position, run in enumerate(chain.runs):
            bit = 1 << position
            waiting = branch.waiting & bit and position in branch.starts and _is_due_some_time(branch.starts[position])
            if not branch.final & bit and (waiting or drop):
                branch.final |= bit
                branch.waiting &= ~bit
                text = "cancelled: its map was stopped" if drop else "retry cancelled: its map was stopped"
                self.table.end_row(run, branch.row, branch.starts.get(position, tables.NOT_RUN), Cancelled(text))
        self.branches.after(chain, branch, now)

    def map_timed_out(self, chain: StepChain, position: int, text: str, now: Now) -> None:
        """End a map whose time is up: open children are TimedOut, those not started are Cancelled."""
        run = chain.runs[position]
        if run.final:
            return
        chain.stopped = chain.stopped or "stop"
        for branch in list(chain.branches.values()):
            self._end_position(chain, branch, position, TimedOut(text, TimeoutError(text)), now)
        self.table.admission.queue(chain)

    def drain(self, now: Now) -> None:
        """Start nothing more, let what runs end, and then end the run."""
        self.draining = True
        for chain in self.table.chains.values():
            for branch in list(chain.branches.values()):
                self._stop_branch(chain, branch, drop=False, now=now)

    def cancel(self, slug: str, row: int | None, now: Now) -> None:
        """Cancel a task that is not finished, or one child of it; what follows it decides by its trigger.

        A child that has not begun ends when its turn comes.

        Parameters
        ----------
        slug
            Of the step.
        row
            Of the child; None for all children, also those to come.
        """
        run = next(run for run in self.table.runs if run.step.slug == slug)
        chain = run.chain
        if run.final:
            return
        if row is not None and (chain is None or row not in chain.branches):
            _withdraw(run, row)
            return
        if chain is None:
            run.state, run.final = self.table.notify(run, run.state, Cancelled("cancelled")), True
            self.table.finisher.ended(run)
            return
        position = chain.position[run.step.number]
        for branch in [b for b in chain.branches.values() if row is None or b.row == row]:
            self._end_position(chain, branch, position, Cancelled("cancelled"), now)
        if row is None:
            chain.stopped = chain.stopped or "stop"
            self.table.admission.queue(chain)

    def _end_position(self, chain: StepChain, branch: MapRow, position: int, state: State, now: Now) -> None:
        """End one step of an open branch from outside; what reads it in the branch is submitted again."""
        if branch.final >> position & 1:
            return
        gone = 1 << position | sum(1 << p for p in range(len(chain.runs)) if position in ancestors(chain, p))
        self.branches.give_up(chain, branch, gone)
        branch.final |= 1 << position
        self.table.end_row(chain.runs[position], branch.row, branch.starts.get(position, tables.NOT_RUN), state)
        self.branches.after(chain, branch, now)

    def end(
        self, open_state: Callable[[StepState, int], State], rest: State, now: Now, behind: State | None = None
    ) -> None:
        """End the run now: every child gets a state, nothing more is started, no trigger is asked.

        Parameters
        ----------
        open_state
            State of a child whose branch is open.
        rest
            State of everything that was never started.
        behind
            State of steps of an open branch that have not begun, as far as is known; None: as of the others.
        """
        unsent = set(self.table.jobs)
        self.table.over = True
        self.table.now = now
        for chain in self.table.chains.values():
            for branch in list(chain.branches.values()):
                self._end_branch(chain, branch, open_state, behind, unsent)
            chain.branches.clear()
        for run in self.table.runs:
            if not (run.final or run.blocked):
                self._end_step(run, rest)
        self.table.timers.clear()
        self.table.deadlines.clear()
        self.table.jobs.clear()

    def _end_branch(
        self,
        chain: StepChain,
        branch: MapRow,
        state: Callable[[StepState, int], State],
        behind: State | None,
        unsent: Collection[Job],
    ) -> None:
        not_begun = _not_begun(chain, branch, unsent) if behind is not None else 0
        self.branches.give_up(chain, branch, chain.full)
        for position, run in enumerate(chain.runs):
            if not branch.final >> position & 1:
                branch.final |= 1 << position
                old = branch.starts.get(position, tables.NOT_RUN)
                new = behind if behind is not None and not_begun >> position & 1 else state(run, branch.row)
                self.table.end_row(run, branch.row, old, new)

    def _end_step(self, run: StepState, rest: State) -> None:
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

    def limit_time(self, seconds: float, now: Now) -> None:
        """End the run after so many seconds: open tasks are TimedOut, those not started Cancelled."""
        text = f"the flow run took longer than its timeout of {seconds:g} s"
        due = now.seconds + seconds
        self.ends[None] = due, text

        def stop(then: Now) -> None:
            self.overran = text
            self.end(lambda run, row: TimedOut(text, TimeoutError(text)), NEVER_STARTED, then, behind=NEVER_STARTED)

        self.table.deadlines.at(due, stop)

    def time_left(self, slug: str, now: Now) -> tuple[float, str] | None:
        """Return the seconds that the map of a task and the run have left, and what to say then; None for no limit."""
        ends = [self.ends[name] for name in (None, slug) if name in self.ends]
        if not ends:
            return None
        due, text = min(ends)
        return due - now.seconds, text


def _withdraw(run: StepState, row: int) -> None:
    """Note that a child is cancelled that has not begun."""
    if run.children is None or row >= len(run.children) or run.children[row] is None:
        run.withdrawn.add(row)
        if run.chain is not None:
            run.chain.withdrawn = True


def _is_due_some_time(state: State) -> bool:
    return isinstance(state, Scheduled) and state.start_time is not None


def _not_begun(chain: StepChain, branch: MapRow, unsent: Collection[Job]) -> int:
    """Return the mask of the steps of a branch that wait for others of it, or were to be submitted just now."""
    mask = 0
    for job in branch.jobs:
        if job in unsent:
            mask |= job.awaiting
    for position in range(len(chain.runs)):
        bit = 1 << position
        if position in branch.starts:
            mask &= ~bit
        elif any(not branch.final >> p & 1 for p in ancestors(chain, position) - {position}):
            mask |= bit
    return mask
