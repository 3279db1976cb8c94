"""One flow run, sans-io: receipts in, jobs out, then the verdict.

The loop of a run is::

    jobs = progress.start(moment)
    while not progress.done:
        session.submit(jobs)
        jobs = progress.advance(session.receipts(...), moment)

Nothing here sleeps, asks a clock, or talks to an executor: the time comes with each call as a :class:`Now`. Some
effects are let in, because what they return decides what comes next; :meth:`Progress.advance` lists them. What a
receipt changes:

1. Each record is taken once: the job it belongs to must still await that position (a fence against late records).
2. A final state goes into the step's table. It may make rows of other chains ready, add rows to a flattened map, end
   the step (``changes``).
3. A step that ended may make other steps known; their groups are considered again (``ready``).
4. A state that waits (a retry, a pause, an input that is not final) stays with its row, which leaves the window. A
   retry is a timer here, and becomes a new job when it is due.
5. Places in the window go to the deepest chain that has a row, so a row is finished before another is begun
   (``admission``).
6. A job that was lost with its worker makes a suspect, which runs again alone (``crashes``).
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping
from operator import itemgetter
from typing import Any

from prefectish.engine.clock import Now
from prefectish.engine.context import context
from prefectish.engine.jobs.bundle import Bundle, BundleReceipt
from prefectish.engine.jobs.job import CALL, Job, Receipt
from prefectish.engine.jobs.references import Held
from prefectish.engine.pause import answered
from prefectish.engine.plan.steps import Plan
from prefectish.engine.scheduling.admission import Admission, Limits
from prefectish.engine.scheduling.cancellation import Cancellation, RunControls
from prefectish.engine.scheduling.changes import Changes, Notify
from prefectish.engine.scheduling.crashes import CrashPolicy, Suspects
from prefectish.engine.scheduling.dispatch import Dispatcher
from prefectish.engine.scheduling.invariants import validate
from prefectish.engine.scheduling.previous_run import PreviousRun
from prefectish.engine.scheduling.ready import ReadySteps
from prefectish.engine.scheduling.release import ResultRelease
from prefectish.engine.scheduling.resume_rules import ResumeRules
from prefectish.engine.scheduling.retry_failed import FailedRetrier
from prefectish.engine.scheduling.rows import Rows, slowest_children
from prefectish.engine.scheduling.run_state import NEVER_STARTED, NOT_RUN, MapRow, RunState, StepChain, StepState
from prefectish.engine.scheduling.story import RecordedChanges
from prefectish.engine.scheduling.streams import Streams
from prefectish.engine.scheduling.verdict import CRASHED, FAILED, flow_state
from prefectish.engine.state import Cancelled, Crashed, Failed, Paused, Resume, State
from prefectish.engine.state_column import raw_results
from prefectish.engine.task_states import RunStory, SlowChild
from prefectish.engine.transitions import check, check_attempt, validating
from prefectish.slugs import child_label


class Progress:
    """One run: its state table, and the rules that change it.

    Parameters
    ----------
    plan
        The compiled flow.
    facts
        Facts of the run, for the context of every body.
    notify
        Called for transitions that no attempt makes (parents of maps, crashes); returns the state after the handlers.
    starts
        State a step starts from, by step number: finished states are kept, waiting ones continue.
    window
        Branches of maps open at once, at most.
    slots
        Threads that run bodies, for the size of batches.
    batches
        Whether the executor runs the jobs of a batch one after another.
    in_order
        Whether the executor runs one job after another, so that calls and maps begin in the order in which they came.
    bundles
        Whether it takes batches as bundles.
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
    run_state
        The tables: what became of each step and row.
    changes
        The verbs that write them.
    rows, dispatcher
        Submit open rows and take their records; start steps and rows.
    admission
        Queues, the window, and limits.
    cancellation, crash_policy
        End what is stopped, cancelled, or out of time; and what was lost.
    controls, retrier
        Carry out requests to an active run.
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
        batches: bool = True,
        in_order: bool = False,
        bundles: bool = False,
        tag_limits: Mapping[str, int] | None = None,
        keep: Collection[int] = (),
        record: bool = False,
        previous_run: PreviousRun | None = None,
        story: RunStory | None = None,
    ) -> None:
        self.run_state = RunState(plan, record)
        self.admission = Admission(window, slots, Limits(plan, tag_limits), batches, plan.grows, in_order, bundles)
        release = ResultRelease(plan, self.run_state.step_states, keep)
        as_requested = notify
        if validating():
            notify = _checked(notify)
            self.advance = self._checked_advance  # type: ignore[method-assign]  # a run without checks pays nothing
        tables = self.run_state, self.admission, release, notify, facts
        self.changes = Changes(*tables) if story is None else RecordedChanges(*tables, story=story)
        self.suspects = Suspects()
        self.rows = Rows(self.changes, self.admission, self.suspects)
        self.ready = ReadySteps(self.changes, facts, keep, keyed=record)
        self.resume_rules = None if previous_run is None else ResumeRules(previous_run)
        self.cancellation = Cancellation(self.rows)
        self.crash_policy = CrashPolicy(self.cancellation)
        self.controls = RunControls(self.changes, self.admission)
        self.streams = Streams(self.changes, self.suspects)
        self._turns = 0  # those that were checked
        self.retrier = FailedRetrier(self.rows, as_requested)
        self.dispatcher = Dispatcher(self.cancellation, self.ready, self.resume_rules)
        for number, state in sorted((starts or {}).items(), key=itemgetter(0)):  # sources first
            self.dispatcher.seed(self.run_state.step_states[number], state)

    def start(self, now: Now) -> list[Job | Bundle]:
        """Return the first jobs."""
        self.changes.turn(now)
        for step_state in self.run_state.step_states:
            if step_state.step.literal is not None:
                self.changes.keep_step(step_state, step_state.step.literal)
        self.run_state.touched.update(self.run_state.groups)
        return self.advance((), now)

    def advance(self, receipts: Iterable[Receipt | BundleReceipt], now: Now) -> list[Job | Bundle]:
        """Take receipts and return the jobs that can run now.

        Notes
        -----
        These effects happen in this call, in the thread of the loop, each at one place and under ``capture`` where it
        is the user's code:

        * state handlers of tasks, for transitions that no attempt makes (``Changes.notify``), and ``map_ended``;
        * ``next`` of an iterator that is mapped over (``Changes.pull_row``), and a `priority` that is a function;
        * in a resumed run, the question whether a stored result can be read (``PreviousResult.readable``);
        * the release of large results, whose Dask futures are dropped (``ResultRelease``);
        * the cache of this process, which remembers Cached states (``worker.cache.remember``);
        * the watchers of a flow function, which wake the threads that wait for a result;
        * log records: warnings of maps, and the crashes of children.

        Everything else is returned, or left in :class:`RunState` for the loop: jobs, cancelled jobs, events, logs.
        """
        self.changes.turn(now)
        for receipt in receipts:
            if type(receipt) is BundleReceipt:
                self._take_bundle(receipt, now)
            else:
                self._take(receipt, now)
        if self.run_state.after_recall:
            for act in self.changes.take_after_recall():
                act(now)
        if self.run_state.over:
            return []
        if self.run_state.timers or self.run_state.deadlines:
            self._fire_due(now)
        self._admit(now)
        while self.run_state.watched_ended:
            self.rows.same_keys.settle(now, may_start=not self.cancellation.draining)
            self._admit(now)
        if self.run_state.timers:
            self.rows.drop_cancelled_timers()
        return self.changes.take_jobs()

    def _checked_advance(self, receipts: Iterable[Receipt | BundleReceipt], now: Now) -> list[Job | Bundle]:
        """Advance, with each transition held against the table and the tables of the run against each other."""
        receipts = list(receipts)
        for receipt in receipts:
            if type(receipt) is BundleReceipt:
                for number in receipt.records.others:
                    self._check_receipt(receipt.receipt(number))
            else:
                self._check_receipt(receipt)
        jobs = Progress.advance(self, receipts, now)
        self.validate()
        return jobs

    def _check_receipt(self, receipt: Receipt) -> None:
        job = receipt.job
        for position, record in receipt.records:
            step = job.chain.steps[position]
            if (
                record.begun and job.awaiting >> position & 1 and not step.task.state_handlers
            ):  # handlers may leave any state
                check_attempt(job.starts.get(position, NOT_RUN), record.state, step.label_of(job.index))

    def validate(self) -> None:
        """Check the tables of the run against each other.

        Raises
        ------
        InvalidRunState
            Naming what does not hold, and where.
        """
        if not self.run_state.over:
            self._turns += 1
            validate(self.run_state, self._turns)
            self.admission.validate(self.run_state)

    @property
    def next_due(self) -> float | None:
        """When something is due, in seconds of the monotonic clock; None if nothing is."""
        run_state = self.run_state
        if not (run_state.timers or run_state.deadlines or self.suspects.busy or self.admission.limits.waiting):
            return None
        due = (
            run_state.timers.next_due,
            run_state.deadlines.next_due,
            None if run_state.paused else self.admission.limits.next_start(),
            None if run_state.paused else self.suspects.due(),
        )
        return min((d for d in due if d is not None), default=None)

    @property
    def done(self) -> bool:
        """Whether nothing runs and nothing will: all tasks are finished, or wait for an approval."""
        run_state = self.run_state
        if run_state.over:
            return True
        if run_state.after_recall:
            return False
        if self.cancellation.draining:
            return False
        if run_state.submitted_jobs or run_state.timers or run_state.jobs or run_state.watched_ended:
            return False
        return not (self.suspects.busy or self.admission.stuck or self.rows.held_rows)

    @property
    def raised(self) -> BaseException | None:
        """The first ordinary error of a task, under ``raise_on_exception``."""
        return self.run_state.raised

    def states(self) -> list[State]:
        """Return the state of each step as it is now, in the order of the plan."""
        return [step_state.snapshot() for step_state in self.run_state.step_states]

    def verdict(self) -> State:
        """Return the state of the flow."""
        if self.crash_policy.lost is not None:
            return Failed(f"The run was cut short: {self.crash_policy.lost.detail}.", context={"exit_code": CRASHED})
        if self.cancellation.overran is not None:
            text = self.cancellation.overran
            return Failed(f"{text[0].upper()}{text[1:]}.", TimeoutError(text), context={"exit_code": FAILED})
        return flow_state(self.run_state.plan, self.states())

    def slowest(self) -> tuple[SlowChild, ...]:
        """Return the children that took longest, the longest first."""
        return slowest_children(self.rows.slowest, self.run_state.step_states)

    def held(self) -> list[Held]:
        """Return the results that are still held where they were made."""
        steps = self.run_state.step_states
        tables = itertools.chain.from_iterable(raw_results(step_state.children) for step_state in steps)
        found = itertools.chain(tables, list(self.changes.result_release.copies))
        return [result for result in found if issubclass(type(result), Held) and result.handle is not None]

    def open_rows(self) -> dict[int, list[int]]:
        """Return the rows whose bodies may be running, by number of the step; asked by another thread, so a guess."""
        rows: dict[int, list[int]] = {}
        for chain in list(self.run_state.chains.values()):
            for map_row in list(chain.open_rows.single.values()):
                if submitted := map_row.submitted:
                    first = (submitted & -submitted).bit_length() - 1
                    rows.setdefault(chain.step_states[first].step.number, []).append(map_row.row)
            for bundle in list(chain.open_rows.bundles.values()):
                rows.setdefault(chain.step_states[0].step.number, []).extend(bundle.rows)
        return rows

    def widths(self) -> dict[int, int]:
        """Return how many children each map has that gets no more, by number of the step; asked as `open_rows`."""
        return {
            step_state.step.number: len(step_state.children)
            for chain in list(self.run_state.chains.values())
            if chain.map_state is not None and chain.map_state.closed
            for step_state in chain.step_states
            if step_state.children is not None
        }

    def paused(self) -> list[tuple[int, int, str]]:
        """Return what waits for an approval: number of the step, row, and name."""
        return [
            (
                chain.step_states[position].step.number,
                map_row.row,
                chain.spec.steps[position].label_of(-1 if chain.map_state is None else map_row.row),
            )
            for chain in self.run_state.chains.values()
            for map_row in chain.open_rows.single.values()
            for position, state in map_row.starts.items()
            if isinstance(state, Paused) and map_row.waiting >> position & 1
        ]

    def resume(self, which: Iterable[tuple[int, int]], now: Now) -> list[Job | Bundle]:
        """Resume paused tasks, given by step number and row, and return the jobs that can run now."""
        self.approve(which, now)
        return self.advance((), now)

    def approve(self, which: Iterable[tuple[int, int]], now: Now, answer: Any = None) -> None:
        """Let paused tasks, given by step number and row, continue in the next turn of the loop.

        Parameters
        ----------
        answer
            What ``pause_task`` returns to them.
        """
        for number, row in which:
            chain = self.run_state.step_states[number].chain
            map_row = chain.open_rows.get(row) if chain is not None else None
            if chain is None or map_row is None:
                continue
            position = chain.position[number]
            paused = map_row.starts[position]
            resumed = Resume("Resumed.", context=answered(paused.context, paused.message, answer))
            self.changes.start_row_from(map_row, position, resumed)
            self.changes.wake_row(map_row, 1 << position)
            self.rows.resubmit(chain, map_row, now)

    def _take_bundle(self, receipt: BundleReceipt, now: Now) -> None:
        """Take the receipt of a bundle: of what plainly succeeded at once, of the rest one by one."""
        bundle, records = receipt.bundle, receipt.records
        chain = self.run_state.chains[bundle.chain.ident]
        numbers: Iterable[int] = range(len(bundle))
        is_open = bundle.number in chain.open_rows.bundles and not self.run_state.watched
        if is_open and len(records.others) < len(bundle):  # where nothing plainly succeeded, columns may be missing
            self.rows.finish_bundle(chain, bundle, records, now)
            numbers = records.others
        for number in numbers:
            self._take(receipt.receipt(number), now)

    def _take(self, receipt: Receipt, now: Now) -> None:
        job = receipt.job
        if not job.awaiting:
            return
        chain = self.run_state.chains[job.chain.ident]
        if job.batch is not None:
            chain.open_rows.single_out(job.batch)
        map_row = chain.open_rows.single[job.index if job.index > 0 else 0]
        for position, record in receipt.records:
            bit = 1 << position
            if job.awaiting & bit:
                self.changes.take_record(map_row, job, bit, record)
                if type(record.state) is Crashed:
                    record = self.crash_policy.after_crash(chain, map_row, position, record)
                self.rows.record(chain, map_row, position, record, now)
        if receipt.lost is not None:
            self.crash_policy.lose(chain, map_row, job, receipt.lost, now)
        if not job.awaiting:
            self._end_job(chain, map_row, job, now)
        self.rows.settle_row(chain, map_row, now)

    def _end_job(self, chain: StepChain, map_row: MapRow, job: Job, now: Now) -> None:
        """Note that a job has nothing more to report."""
        self.rows.job_ended(chain, job)
        if chain.precedence == CALL:
            job.items = ()  # or each call of a chain would keep those that it followed
        suspect = self.suspects.current
        if suspect is None or not (job.solo and self.suspects.is_current(chain, map_row)):
            return
        if not self.crash_policy.step_alone(suspect):
            self.suspects.clear(now.seconds)

    def _fire_due(self, now: Now) -> None:
        """Do what is due."""
        while (end := self.run_state.deadlines.pop_due(now.seconds)) is not None:
            end(now)
        self.rows.resubmit_due(now)

    def _consider(self, now: Now) -> None:
        """Stop maps that gave up, and open what has become known."""
        while self.run_state.stopping or self.run_state.touched:
            self.cancellation.stop_maps(now)
            self.dispatcher.consider(now)

    def _admit(self, now: Now) -> None:
        """Start what has a place: suspects alone, else single steps, and rows of maps."""
        run_state, admission = self.run_state, self.admission
        if self.cancellation.draining:
            if not self.run_state.submitted_jobs:
                self.cancellation.end(lambda step_state, row: Cancelled("cancelled"), NEVER_STARTED, now)
            return
        if self.run_state.paused or self.run_state.ending:
            self._consider(now)
            return
        if self.suspects.busy and not self.crash_policy.start_suspect(now):
            return
        if self.rows.held_rows or admission.waiting:
            self.rows.resubmit_held(now)
        while True:
            if run_state.stopping or run_state.touched:  # rows that are final already, and ends of iterators, tell more
                self._consider(now)
            chain = admission.next_chain()
            if chain is None:
                break
            self.dispatcher.start_next(chain, now)
        if admission.deferred:
            admission.requeue_deferred()


def _checked(notify: Notify) -> Notify:
    """Hold the transitions that no attempt makes against the table."""

    def notify_checked(step_state: StepState, old: State, new: State) -> State:
        row = context.get("map_index") if step_state.step.mapped else None
        check(old, new, child_label(step_state.step.label, row))
        return notify(step_state, old, new)

    return notify_checked
