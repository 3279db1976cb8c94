"""How steps, maps and runs end from outside (stopped, cancelled, out of time), and how a run is paused and limited.

A run that is paused starts nothing: what runs ends, retries that are due wait, and so does what follows. Time limits
continue. A limit that is changed holds for what begins from now on; nothing that runs is ended.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from functools import partial

from prefectish.engine.clock import Now
from prefectish.engine.jobs.bundle import unpack
from prefectish.engine.jobs.job import Job
from prefectish.engine.scheduling.admission import Admission, Limit
from prefectish.engine.scheduling.changes import Changes
from prefectish.engine.scheduling.rows import Rows
from prefectish.engine.scheduling.run_state import (
    NEVER_STARTED,
    NOT_RUN,
    AdmissionMode,
    MapRow,
    RunState,
    StepChain,
    StepState,
)
from prefectish.engine.state import Cancelled, Pending, Scheduled, State, TimedOut
from prefectish.validation import unknown_tag


class Cancellation:
    """Gives a state to what will not run to its own end.

    Attributes
    ----------
    draining
        Nothing more is started; the run ends when nothing of it runs.
    ends
        When the time of the run (None) and of maps (by slug) is up, and the message then.
    overran
        The message of a run whose time was up before its end; None for others.
    """

    def __init__(self, rows: Rows) -> None:
        self.run_state: RunState = rows.run_state
        self.changes: Changes = rows.changes
        self.admission = rows.admission
        self.rows = rows
        self.draining = False
        self.ends: dict[str | None, tuple[float, str]] = {}
        self.overran: str | None = None

    def stop_maps(self, now: Now) -> None:
        """Act on maps that gave up: nothing new starts, retries are dropped, and running children too if asked."""
        stopping = self.run_state.stopping
        while stopping:
            ident, mode = stopping.popitem()
            chain, is_cancelled = self.run_state.chains[ident], mode is AdmissionMode.CANCEL
            self.changes.stop_chain(chain, mode)
            if chain.map_state is not None and chain.map_state.source is not None:
                self.changes.close_map(chain.map_state)
            if is_cancelled:
                self.changes.recall(_may_be_unbegun(chain), partial(self._cancel_rows, chain))
            else:
                self._stop_rows(chain, now)
            if chain.map_state is not None and chain.map_state.closed:
                for step_state in chain.step_states:
                    self.changes.finish_step(step_state)

    def _stop_rows(self, chain: StepChain, now: Now) -> None:
        """Cancel the retries of open rows, and take back what has not begun."""
        for map_row in list(chain.open_rows.values()):
            for position in chain.all_positions:
                is_due = map_row.waiting >> position & 1 and _is_due_at_a_time(map_row.starts.get(position))
                if is_due and not map_row.final >> position & 1:
                    self.rows.cancel_retry(chain, map_row, position)
            self.rows.settle_row(chain, map_row, now)
        self.changes.recall(_may_be_unbegun(chain))

    def _cancel_rows(self, chain: StepChain, now: Now) -> None:
        """End open rows, now that it is known what of them has begun."""
        unsent = set(unpack(self.run_state.jobs))
        for map_row in list(chain.open_rows.values()):
            self._end_row(chain, map_row, lambda *_: Cancelled("cancelled: its map was stopped"), NEVER_STARTED, unsent)
            self.rows.settle_row(chain, map_row, now)

    def map_timed_out(self, chain: StepChain, position: int, text: str, now: Now) -> None:
        """End a map whose time is up: children that have begun are TimedOut, the others are Cancelled."""
        if chain.step_states[position].final:
            return
        self.changes.stop_chain(chain, AdmissionMode.STOP, 1 << position)

        def end_begun(then: Now) -> None:
            for map_row in list(chain.open_rows.values()):
                if map_row.is_unbegun(position):
                    self.rows.settle_row(chain, map_row, then)
                else:
                    self._end_position(chain, map_row, position, TimedOut(text, TimeoutError(text)), then)

        self.changes.recall(_may_be_unbegun(chain), end_begun)

    def drain(self, now: Now) -> None:
        """Start nothing more, let running bodies end, and then end the run."""
        self.draining = True
        for chain in self.run_state.chains.values():
            self.changes.stop_chain(chain, AdmissionMode.STOP)
            self._stop_rows(chain, now)

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
        step_state = self.run_state.find(slug)
        chain = step_state.chain
        if step_state.final:
            return
        if row is None and chain is not None and chain.map_state is None:
            row = 0  # the only one: there are no others to stop
        if row is not None and (chain is None or row not in chain.open_rows):
            children = step_state.children
            if children is None or row >= len(children) or not children.has(row):
                self.changes.cancel_early(step_state, row)
            return
        if chain is None:
            self.changes.end_step(step_state, Cancelled("cancelled"))
            self.changes.step_ended(step_state)
            return
        position = chain.position[step_state.step.number]
        for map_row in [b for b in chain.open_rows.values() if row is None or b.row == row]:
            self._end_position(chain, map_row, position, Cancelled("cancelled"), now)
        if row is None and chain.map_state is not None:
            self.changes.stop_chain(chain, AdmissionMode.STOP)
        elif row is None and not step_state.final and not chain.open_rows:  # a single task that waits for a slot
            self.changes.cancel_early(step_state, 0)

    def _end_position(self, chain: StepChain, map_row: MapRow, position: int, state: State, now: Now) -> None:
        """End one step of an open row from outside; what reads it in the row is submitted again."""
        if map_row.final >> position & 1:
            return
        gone = 1 << position | sum(1 << p for p in chain.all_positions if position in chain.ancestors(p))
        self.rows.abandon(chain, map_row, gone)
        self.changes.end_position(chain, map_row, position, state)
        self.rows.settle_row(chain, map_row, now)

    def end(
        self,
        open_state: Callable[[StepState, int], State],
        rest: State,
        now: Now,
        unbegun_state: State | None = None,
        never: Collection[Job] = (),
    ) -> None:
        """End the run now: every child gets a state, nothing more is started, no trigger is asked.

        Parameters
        ----------
        open_state
            State of a child whose row is open.
        rest
            State of everything that was never started.
        unbegun_state
            State of steps of an open row that have not begun, as far as is known. Default: as of the others.
        never
            Jobs of which nothing has begun: their steps end as `rest`.
        """
        unbegun_jobs = set(never)
        unsent = set(unpack(self.run_state.jobs))
        self.changes.end_run()
        self.changes.turn(now)
        for chain in self.run_state.chains.values():
            for map_row in list(chain.open_rows.values()):
                new = rest if not unbegun_jobs.isdisjoint(map_row.jobs) else unbegun_state
                self._end_row(chain, map_row, open_state, new, unsent | unbegun_jobs if new is rest else unsent)
        for step_state in self.run_state.step_states:
            if not (step_state.final or step_state.blocked):
                self._end_step(step_state, rest)
        self.changes.clear()

    def sent_jobs(self) -> list[Job]:
        """Return the open jobs that the executor has."""
        unsent = set(unpack(self.run_state.jobs))
        return [job for job in _all_jobs(self.run_state) if job not in unsent]

    def _end_row(
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
                if unbegun_state is not None and unbegun >> position & 1:
                    new = unbegun_state
                else:
                    new = state(step_state, map_row.row)
                self.changes.end_position(chain, map_row, position, new)

    def _end_step(self, step_state: StepState, rest: State) -> None:
        """Give what was never started of a step its state."""
        if step_state.map_state is not None:
            self.changes.close_map(step_state.map_state)
        if step_state.children is None:
            self.changes.end_step(step_state, rest)
            self.changes.step_ended(step_state)
            return
        for row in range(len(step_state.children)):
            if not step_state.has(row):
                self.changes.end_row(step_state, row, step_state.start_of(row) or NOT_RUN, rest)
        self.changes.finish_step(step_state)

    def limit_time(self, seconds: float, now: Now, spent: float = 0.0) -> None:
        """End the run after so many seconds less those spent: open tasks are TimedOut, those not started Cancelled."""
        text = f"the flow run took longer than its timeout of {seconds:g} s"
        due = now.seconds + max(0.0, seconds - spent)
        self.ends[None] = due, text

        def stop(then: Now) -> None:
            self.changes.begin_end()
            self.changes.recall(_all_jobs(self.run_state), end)

        def end(then: Now) -> None:
            self.overran = text
            self.end(
                lambda step_state, row: TimedOut(text, TimeoutError(text)),
                NEVER_STARTED,
                then,
                unbegun_state=NEVER_STARTED,
            )

        self.run_state.deadlines.at(due, stop)

    def time_left(self, slug: str, now: Now) -> tuple[float, str] | None:
        """Return the seconds that the map of a task and the run have left, with the message; None for no limit."""
        ends = [self.ends[name] for name in (None, slug) if name in self.ends]
        if not ends:
            return None
        due, text = min(ends)
        return due - now.seconds, text


class RunControls:
    """Pauses a run and changes its limits while it is active."""

    def __init__(self, changes: Changes, admission: Admission) -> None:
        self.run_state = changes.run_state
        self.changes = changes
        self.admission = admission

    def pause(self) -> None:
        """Start nothing more until the run is resumed; what was submitted and has not begun waits too."""
        self.changes.pause(True)
        self.changes.recall(_all_jobs(self.run_state))

    def resume(self) -> None:
        """Continue a run that was paused."""
        self.changes.pause(False)

    def limit_task(self, slug: str, size: int | None) -> None:
        """Let at most `size` children of a task run at once; None for no limit."""
        self.limit_steps([self.run_state.find(slug)], size)

    def limit_steps(self, step_states: Sequence[StepState], size: int | None, new: Limit | None = None) -> None:
        """Let at most `size` children of a task run at once, in all of its steps together; None for no limit.

        A task that is fused with others in one job holds them to its limit too. `new` is the limit of a task that has
        had none.
        """
        used = {s.step.number: 0 if s.chain is None else slots_taken(s.chain) for s in step_states}
        self.admission.limits.change(_size(size), used, new)
        for step_state in step_states:
            if step_state.chain is not None:
                self._now_limited(step_state.chain, sum(used.values()) > _size(size))

    def limit_tag(self, tag: str, size: int | None) -> None:
        """Let at most `size` children of all tasks with a tag run at once; None for no limit.

        Raises ValueError if no task of the run has the tag, unless tasks may still be added that have it.
        """
        tags = {tag for step_state in self.run_state.step_states for tag in step_state.step.task.tags}
        if tag not in tags and not self.run_state.plan.grows:
            raise ValueError(unknown_tag(tag, tags))
        used: dict[int, int] = {}
        chains: list[StepChain] = []
        for step_state in self.run_state.step_states:
            if tag in step_state.step.task.tags:
                chain = step_state.chain
                used[step_state.step.number] = 0 if chain is None else slots_taken(chain)
                if chain is not None:
                    chains.append(chain)
        self.admission.limits.change_tag(tag, _size(size), used)
        for chain in chains:
            self._now_limited(chain, sum(used.values()) > _size(size))

    def _now_limited(self, chain: StepChain, is_over: bool) -> None:
        chain.limited = True
        self.admission.queue(chain)
        if is_over:  # what has not begun waits for a slot
            self.changes.recall(_jobs_of(chain))


def _size(size: int | None) -> int:
    return sys.maxsize if size is None else size


def slots_taken(chain: StepChain) -> int:
    """Return how many slots the jobs of a chain would have taken under a limit; a batch takes one."""
    jobs = (job for map_row in chain.open_rows.values() for job in map_row.jobs)
    counted = (job for job in jobs if job.awaiting and not (job.solo or job.probe_only))
    return len({id(job) if job.batch is None else job.batch for job in counted})


def _jobs_of(chain: StepChain) -> list[Job]:
    return [job for map_row in chain.open_rows.values() for job in map_row.jobs]


def _all_jobs(run_state: RunState) -> list[Job]:
    return [job for chain in run_state.chains.values() for job in _jobs_of(chain)]


def _may_be_unbegun(chain: StepChain) -> list[Job]:
    """Return the jobs of a stopped chain that have a body which is not to begin."""
    rows = chain.open_rows.values()
    return [job for map_row in rows for job in map_row.jobs if not map_row.final or job.awaiting & chain.stopped]


def _is_due_at_a_time(state: State | None) -> bool:
    return isinstance(state, Scheduled) and state.start_time is not None


def _unbegun_mask(chain: StepChain, map_row: MapRow, unsent: Collection[Job]) -> int:
    """Return the mask of the steps of a row that were taken back or not submitted, or only look into a cache."""
    mask = sum(1 << position for position in chain.all_positions if map_row.is_unbegun(position))
    for job in map_row.jobs:
        if job in unsent or job.probe_only:
            mask |= job.awaiting & ~sum(1 << p for p, start in map_row.starts.items() if type(start) is not Pending)
    return mask
