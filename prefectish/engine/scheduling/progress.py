"""One flow run, sans-io: receipts in, jobs out, then the verdict.

The loop of a run is::

    jobs = progress.start(moment)
    while not progress.done:
        session.submit(jobs)
        jobs = progress.advance(session.receipts(...), moment)

Nothing here does I/O, sleeps, or asks a clock: the time comes with each call as a :class:`Now`. What a receipt
changes:

1. Each record is taken once: the job it belongs to must still await that position (a fence against late records).
2. A final state goes into the step's table. It may make rows of other chains ready, add rows to a flattened map, end
   the step (``changes``).
3. A step that ended may make other steps known; their groups are considered again (``ready``).
4. A state that waits (a retry, a pause, an input that is not final) stays with its branch, which leaves the window. A
retry
   is a timer here, and becomes a new job when it is due.
5. Places in the window go to the deepest chain that has a row, so a branch is finished before another is begun
   (``admission``).
6. A job that was lost with its worker makes a suspect, which runs again alone (``suspects``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from operator import itemgetter
from typing import Any

from prefectish.engine.clock import Now
from prefectish.engine.jobs.job import Job
from prefectish.engine.jobs.protocol import Receipt
from prefectish.engine.jobs.references import Held
from prefectish.engine.pause import answered
from prefectish.engine.plan.steps import Plan
from prefectish.engine.scheduling.cancellation import Cancellation
from prefectish.engine.scheduling.crashes import CrashPolicy
from prefectish.engine.scheduling.dispatch import Dispatcher
from prefectish.engine.scheduling.failure_policy import NEVER_STARTED
from prefectish.engine.scheduling.live_limits import RunControls
from prefectish.engine.scheduling.previous_run import PreviousRun
from prefectish.engine.scheduling.ready import Notify
from prefectish.engine.scheduling.retry_failed import FailedRetrier
from prefectish.engine.scheduling.rows import Rows
from prefectish.engine.scheduling.run_state import StepChain
from prefectish.engine.scheduling.table import RunState
from prefectish.engine.scheduling.verdict import CRASHED, FAILED, flow_state
from prefectish.engine.state import Cancelled, Failed, Paused, Resume, State
from prefectish.engine.task_states import SlowChild


class Progress:
    """One run: its state table, and the rules that change it.

    Parameters
    ----------
    plan
        The compiled flow.
    facts
        Facts of the run, for the context of every body.
    notify
        Called where the owner makes a transition (parents of maps, crashes); returns the state after the handlers.
    starts
        State a step starts from, by step number: finished states are kept, waiting ones go on.
    window
        Branches of maps open at once, at most.
    slots
        Threads that run bodies, for the size of batches.
    tag_limits
        Children of all tasks with a tag that run at once, at most.
    keep
        Numbers of the steps whose large results are kept.
    record
        Keep events for a history.
    recall
        What is known of the run from before, if it is resumed.

    Attributes
    ----------
    table
        What became of the steps, and what goes on.
    endings
        Ends what is stopped, cancelled, or out of time.
    steering, again
        Do what is asked while the run goes on.
    """

    def __init__(
        self,
        plan: Plan,
        facts: Mapping[str, Any],
        *,
        notify: Notify,
        starts: Mapping[int, State] | None = None,
        window: int = 1,
        slots: int = 1,
        tag_limits: Mapping[str, int] | None = None,
        keep: Collection[int] = (),
        record: bool = False,
        recall: PreviousRun | None = None,
    ) -> None:
        self.table = RunState(plan, facts, notify, (window, slots, tag_limits), keep, record, recall)
        self.branches = Rows(self.table)
        self.endings = Cancellation(self.branches)
        self.losses = CrashPolicy(self.endings)
        self.steering = RunControls(self.table)
        self.again = FailedRetrier(self.branches)
        self.starter = Dispatcher(self.endings)
        for number, state in sorted((starts or {}).items(), key=itemgetter(0)):  # sources first
            self.starter.give(self.table.runs[number], state)

    def start(self, now: Now) -> list[Job]:
        """Return the first jobs."""
        for run in self.table.runs:
            if run.step.literal is not None:
                run.state, run.final = run.step.literal, True
        self.table.finisher.touched.update(self.table.groups)
        return self.advance((), now)

    def advance(self, receipts: Iterable[Receipt], now: Now) -> list[Job]:
        """Take receipts and return the jobs that can run now."""
        self.table.now = now
        for receipt in receipts:
            self._take(receipt, now)
        if self.table.over:
            return []
        self._fire(now)
        self._admit(now)
        self.branches.forget_timers()
        jobs, self.table.jobs = self.table.jobs, []
        return jobs

    @property
    def next_due(self) -> float | None:
        """When something is due, in seconds of the monotonic clock; None if nothing is."""
        table = self.table
        if not (table.timers or table.deadlines or table.suspects.busy or table.admission.limits.waiting):
            return None
        due = (
            table.timers.next_due,
            table.deadlines.next_due,
            None if table.paused else table.admission.limits.next_start(),
            None if table.paused else table.suspects.due(),
        )
        return min((d for d in due if d is not None), default=None)

    @property
    def done(self) -> bool:
        """Whether nothing runs and nothing will: all tasks are finished, or wait for somebody outside."""
        table = self.table
        if table.over:
            return True
        if self.endings.draining:
            return False
        held = table.jobs or table.suspects.busy or table.admission.stuck or self.branches.held_back
        return not (table.in_flight or table.timers or held)

    @property
    def raised(self) -> BaseException | None:
        """The first ordinary error of a task, under ``raise_on_exception``."""
        return self.table.finisher.raised

    def states(self) -> list[State]:
        """Return the state of each step as it is now, in the order of the plan."""
        return [run.snapshot() for run in self.table.runs]

    def verdict(self) -> State:
        """Return the state of the flow."""
        if self.losses.lost is not None:
            return Failed(f"The run was cut short: {self.losses.lost.detail}.", context={"exit_code": CRASHED})
        if self.endings.overran is not None:
            text = self.endings.overran
            return Failed(f"{text[0].upper()}{text[1:]}.", TimeoutError(text), context={"exit_code": FAILED})
        return flow_state(self.table.plan, self.states())

    def slowest(self) -> tuple[SlowChild, ...]:
        """Return the children that took longest, the longest first."""
        return self.branches.slowest.told(self.table.runs)

    def held(self) -> list[Held]:
        """Return the results that are still held where they were made."""
        states = (state for run in self.table.runs for state in run.children or ())
        found = (state._result for state in states if state is not None)
        return [result for result in found if isinstance(result, Held) and result.handle is not None]

    def open_rows(self) -> dict[int, list[int]]:
        """Return the rows whose bodies may be running, by number of the step; asked by another thread, so a guess."""
        rows: dict[int, list[int]] = {}
        for chain in list(self.table.chains.values()):
            for branch in list(chain.branches.values()):
                if flying := branch.flying:
                    first = (flying & -flying).bit_length() - 1
                    rows.setdefault(chain.runs[first].step.number, []).append(branch.row)
        return rows

    def paused(self) -> list[tuple[int, int, str]]:
        """Return what waits for somebody outside: number of the step, row, and name."""
        return [
            (
                chain.runs[position].step.number,
                branch.row,
                chain.spec.steps[position].label(-1 if chain.space is None else branch.row),
            )
            for chain in self.table.chains.values()
            for branch in chain.branches.values()
            for position, state in branch.starts.items()
            if isinstance(state, Paused) and branch.waiting >> position & 1
        ]

    def resume(self, which: Iterable[tuple[int, int]], now: Now) -> list[Job]:
        """Resume paused tasks, given by step number and row, and return the jobs that can run now."""
        self.approve(which, now)
        return self.advance((), now)

    def approve(self, which: Iterable[tuple[int, int]], now: Now, answer: Any = None) -> None:
        """Let paused tasks, given by step number and row, go on with the next turn of the loop.

        Parameters
        ----------
        answer
            What they are told; None for nothing.
        """
        for number, row in which:
            chain = self.table.runs[number].chain
            branch = chain.branches.get(row) if chain is not None else None
            if chain is None or branch is None:
                continue
            position = chain.position[number]
            paused = branch.starts[position]
            resumed = Resume("Resumed.", context=answered(paused.context, paused.message, answer))
            branch.starts = {**branch.starts, position: resumed}
            branch.waiting &= ~(1 << position)
            self.branches.resubmit(chain, branch, now)

    def _take(self, receipt: Receipt, now: Now) -> None:
        job = receipt.job
        if not job.awaiting:
            return
        chain = self.table.chains[job.chain.ident]
        branch = chain.branches[job.index if job.index > 0 else 0]
        for position, record in receipt.records:
            bit = 1 << position
            if job.awaiting & bit:
                job.awaiting ^= bit
                branch.flying ^= bit
                branch.seconds += record.seconds
                self.branches.record(chain, branch, position, record, now)
        if receipt.lost is not None:
            self.losses.lose(chain, branch, job, receipt.lost, now)
        if not job.awaiting:
            self._land(chain, job, now)
        self.branches.after(chain, branch, now)

    def _land(self, chain: StepChain, job: Job, now: Now) -> None:
        """Note that a job has nothing more to report."""
        self.branches.leave(chain, job)
        suspect = self.table.suspects.current
        if job.solo and suspect is not None and not self.losses.step_alone(suspect):
            self.table.suspects.clear(now.seconds)

    def _fire(self, now: Now) -> None:
        """Do what is due."""
        while (end := self.table.deadlines.pop(now.seconds)) is not None:
            end(now)
        self.branches.fire(now)

    def _consider(self, now: Now) -> None:
        """Stop maps that gave up, and open what has become known."""
        while self.table.finisher.stopping or self.table.finisher.touched:
            self.endings.stop_maps(now)
            self.starter.consider(now)

    def _admit(self, now: Now) -> None:
        """Start what has a place: suspects alone, else single steps, and rows of maps."""
        finisher, admission = self.table.finisher, self.table.admission
        if self.endings.draining:
            if not self.table.in_flight:
                self.endings.end(lambda run, row: Cancelled("cancelled"), NEVER_STARTED, now)
            return
        if self.table.paused:
            self._consider(now)
            return
        if self.table.suspects.busy:
            self.losses.start_suspect(now)
            if self.table.suspects.busy:
                return
        if self.branches.held_back or admission.waiting:
            self.branches.let_go_on(now)
        while True:
            if finisher.stopping or finisher.touched:  # rows that are final already, and ends of iterators, tell more
                self._consider(now)
            chain = admission.next_chain()
            if chain is None:
                break
            self.starter.begin_next(chain, now)
        admission.come_back()
