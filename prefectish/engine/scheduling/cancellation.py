"""How steps, maps and runs end from outside: stopped, cancelled, out of time."""

from __future__ import annotations

from collections.abc import Callable, Collection

from prefectish.engine.clock import Now
from prefectish.engine.jobs.job import Job
from prefectish.engine.scheduling.failure_policy import NEVER_STARTED
from prefectish.engine.scheduling.rows import Rows, ancestors
from prefectish.engine.scheduling.run_state import NOT_RUN, MapRow, StepChain, StepState
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

    def __init__(self, rows: Rows) -> None:
        self.run_state = rows.run_state
        self.rows = rows
        self.draining = False
        self.ends: dict[str | None, tuple[float, str]] = {}
        self.overran: str | None = None

    def stop_maps(self, now: Now) -> None:
        """Act on maps that gave up: nothing new starts, retries are dropped, and running children too if asked."""
        stopping = self.run_state.changes.stopping
        while stopping:
            ident, action = stopping.popitem()
            chain = self.run_state.chains[ident]
            chain.admission_mode = action
            if chain.map_state is not None and chain.map_state.source is not None:
                chain.map_state.source, chain.map_state.closed = None, True
            for map_row in list(chain.open_rows.values()):
                self._stop_branch(chain, map_row, drop=action == "cancel", now=now)
            self.run_state.admission.queue(chain)
            if chain.map_state is not None and chain.map_state.closed:
                for step_state in chain.step_states:
                    self.run_state.changes.finish_step(step_state)

    def _stop_branch(self, chain: StepChain, map_row: MapRow, drop: bool, now: Now) -> None:
        """Cancel the waiting steps of an open branch, and with `drop` the running ones."""
        if drop:
            self.rows.abandon(chain, map_row, chain.full)
        for position, step_state in enumerate(chain.step_states):
            bit = 1 << position
            start = map_row.starts.get(position) if map_row.waiting & bit else None
            waiting = start is not None and _is_due_some_time(start)
            if not map_row.final & bit and (waiting or drop):
                map_row.final |= bit
                map_row.waiting &= ~bit
                text = "cancelled: its map was stopped" if drop else "retry cancelled: its map was stopped"
                self.run_state.end_row(step_state, map_row.row, map_row.starts.get(position, NOT_RUN), Cancelled(text))
        self.rows.settle_row(chain, map_row, now)

    def map_timed_out(self, chain: StepChain, position: int, text: str, now: Now) -> None:
        """End a map whose time is up: open children are TimedOut, those not started are Cancelled."""
        step_state = chain.step_states[position]
        if step_state.final:
            return
        chain.admission_mode = chain.admission_mode or "stop"
        for map_row in list(chain.open_rows.values()):
            self._end_position(chain, map_row, position, TimedOut(text, TimeoutError(text)), now)
        self.run_state.admission.queue(chain)

    def drain(self, now: Now) -> None:
        """Start nothing more, let what runs end, and then end the run."""
        self.draining = True
        for chain in self.run_state.chains.values():
            for map_row in list(chain.open_rows.values()):
                self._stop_branch(chain, map_row, drop=False, now=now)

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
        step_state = next(step_state for step_state in self.run_state.step_states if step_state.step.slug == slug)
        chain = step_state.chain
        if step_state.final:
            return
        if row is not None and (chain is None or row not in chain.open_rows):
            _cancel_early(step_state, row)
            return
        if chain is None:
            step_state.state = self.run_state.notify(step_state, step_state.state, Cancelled("cancelled"))
            step_state.final = True
            self.run_state.changes.step_ended(step_state)
            return
        position = chain.position[step_state.step.number]
        for map_row in [b for b in chain.open_rows.values() if row is None or b.row == row]:
            self._end_position(chain, map_row, position, Cancelled("cancelled"), now)
        if row is None:
            chain.admission_mode = chain.admission_mode or "stop"
            self.run_state.admission.queue(chain)

    def _end_position(self, chain: StepChain, map_row: MapRow, position: int, state: State, now: Now) -> None:
        """End one step of an open branch from outside; what reads it in the branch is submitted again."""
        if map_row.final >> position & 1:
            return
        gone = 1 << position | sum(1 << p for p in range(len(chain.step_states)) if position in ancestors(chain, p))
        self.rows.abandon(chain, map_row, gone)
        map_row.final |= 1 << position
        self.run_state.end_row(chain.step_states[position], map_row.row, map_row.starts.get(position, NOT_RUN), state)
        self.rows.settle_row(chain, map_row, now)

    def end(
        self, open_state: Callable[[StepState, int], State], rest: State, now: Now, unbegun_state: State | None = None
    ) -> None:
        """End the run now: every child gets a state, nothing more is started, no trigger is asked.

        Parameters
        ----------
        open_state
            State of a child whose branch is open.
        rest
            State of everything that was never started.
        unbegun_state
            State of steps of an open branch that have not begun, as far as is known; None: as of the others.
        """
        unsent = set(self.run_state.jobs)
        self.run_state.over = True
        self.run_state.now = now
        for chain in self.run_state.chains.values():
            for map_row in list(chain.open_rows.values()):
                self._end_branch(chain, map_row, open_state, unbegun_state, unsent)
            chain.open_rows.clear()
        for step_state in self.run_state.step_states:
            if not (step_state.final or step_state.blocked):
                self._end_step(step_state, rest)
        self.run_state.timers.clear()
        self.run_state.deadlines.clear()
        self.run_state.jobs.clear()

    def _end_branch(
        self,
        chain: StepChain,
        map_row: MapRow,
        state: Callable[[StepState, int], State],
        unbegun_state: State | None,
        unsent: Collection[Job],
    ) -> None:
        unbegun = 0 if unbegun_state is None else _unbegun_mask(chain, map_row, unsent)
        self.rows.abandon(chain, map_row, chain.full)
        for position, step_state in enumerate(chain.step_states):
            if not map_row.final >> position & 1:
                map_row.final |= 1 << position
                old = map_row.starts.get(position, NOT_RUN)
                if unbegun_state is not None and unbegun >> position & 1:
                    new = unbegun_state
                else:
                    new = state(step_state, map_row.row)
                self.run_state.end_row(step_state, map_row.row, old, new)

    def _end_step(self, step_state: StepState, rest: State) -> None:
        """Give what was never started of a step its state."""
        if step_state.map_state is not None:
            step_state.map_state.closed = True
        if step_state.children is None:
            step_state.state, step_state.final = self.run_state.notify(step_state, step_state.state, rest), True
            return
        for row, state in enumerate(step_state.children):
            if state is None:
                self.run_state.end_row(step_state, row, step_state.start_of(row) or NOT_RUN, rest)
        self.run_state.changes.finish_step(step_state)

    def limit_time(self, seconds: float, now: Now) -> None:
        """End the run after so many seconds: open tasks are TimedOut, those not started Cancelled."""
        text = f"the flow run took longer than its timeout of {seconds:g} s"
        due = now.seconds + seconds
        self.ends[None] = due, text

        def stop(then: Now) -> None:
            self.overran = text
            self.end(
                lambda step_state, row: TimedOut(text, TimeoutError(text)),
                NEVER_STARTED,
                then,
                unbegun_state=NEVER_STARTED,
            )

        self.run_state.deadlines.at(due, stop)

    def time_left(self, slug: str, now: Now) -> tuple[float, str] | None:
        """Return the seconds that the map of a task and the run have left, and what to say then; None for no limit."""
        ends = [self.ends[name] for name in (None, slug) if name in self.ends]
        if not ends:
            return None
        due, text = min(ends)
        return due - now.seconds, text


def _cancel_early(step_state: StepState, row: int) -> None:
    """Note that a child is cancelled that has not begun."""
    if step_state.children is None or row >= len(step_state.children) or step_state.children[row] is None:
        step_state.cancelled_early.add(row)
        if step_state.chain is not None:
            step_state.chain.has_cancelled_early = True


def _is_due_some_time(state: State) -> bool:
    return isinstance(state, Scheduled) and state.start_time is not None


def _unbegun_mask(chain: StepChain, map_row: MapRow, unsent: Collection[Job]) -> int:
    """Return the mask of the steps of a branch that wait for others of it, or were to be submitted just now."""
    mask = 0
    for job in map_row.jobs:
        if job in unsent:
            mask |= job.awaiting
    for position in range(len(chain.step_states)):
        bit = 1 << position
        if position in map_row.starts:
            mask &= ~bit
        elif any(not map_row.final >> p & 1 for p in ancestors(chain, position) - {position}):
            mask |= bit
    return mask
