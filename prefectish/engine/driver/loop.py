"""The only loop: jobs to the session, receipts back to progress, until the run is done."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextvars import copy_context
from functools import partial
from typing import Any, Protocol

from prefectish.engine.capture import Error, capture
from prefectish.engine.clock import Now, RunClock
from prefectish.engine.driver import handler_calls
from prefectish.engine.driver.control import Interrupt, RunControl, carry_out
from prefectish.engine.driver.failure_log import FailureLog
from prefectish.engine.driver.interrupts import Lost, ended_by, reraise_lost_interrupt, stopped_by
from prefectish.engine.driver.options import RunOptions
from prefectish.engine.driver.progress_view import ProgressTicker, show_end
from prefectish.engine.driver.remote_requests import ask
from prefectish.engine.handlers import call_handlers
from prefectish.engine.jobs.bundle import Bundle, unpack
from prefectish.engine.jobs.job import Job, taken_back
from prefectish.engine.jobs.protocol import Executor, RunnableFlow, Session
from prefectish.engine.plan.steps import Plan
from prefectish.engine.scheduling.events import LimitKeeper, Recorder
from prefectish.engine.scheduling.previous_run import PreviousRun
from prefectish.engine.scheduling.progress import Progress
from prefectish.engine.scheduling.run_state import NEVER_STARTED, StepState
from prefectish.engine.scheduling.verdict import by_task
from prefectish.engine.signals import TimeoutSignal
from prefectish.engine.state import Cancelled, Failed, Mapped, Queued, State, Submitted, TimedOut, innermost
from prefectish.engine.state_column import kinds_of
from prefectish.engine.task_states import RunStory, keep_story
from prefectish.engine.transitions import validating
from prefectish.engine.worker.body_progress import OWNER, board
from prefectish.engine.worker.cost import MEASURES
from prefectish.engine.worker.logs.capture import SETTINGS
from prefectish.engine.worker.logs.relay import listening, replay_log_records
from prefectish.engine.worker.time_limit import surrounding, within
from prefectish.engine.worker.yielding import Receiver, Yielded, receivers
from prefectish.errors import PrefectishError, describe
from prefectish.interrupting import interrupt
from prefectish.kinds import is_a
from prefectish.next_command import NextCommand
from prefectish.process_tree import process_id, process_name
from prefectish.tasks.task import Task

#: Longest time that events wait before they are handed to the history, in seconds.
FLUSH_INTERVAL = 0.2


class CallSource(Protocol):
    """Adds steps to a run while it is driven: a flow function."""

    plan: Plan  # the steps so far
    is_open: bool  # more may come, so that the run does not end when nothing of it runs

    def begin(self, progress: Progress, session: Session) -> None:
        """Note that the loop begins."""

    def carry_out(self, request: Any, progress: Progress, now: Now) -> Any:
        """Do what a request asks for, those of every run among them."""

    def left_paused(self, step: int, row: int, state: State) -> None:
        """Note that a paused task is not resumed, of which it was asked."""

    def verdict(self, progress: Progress) -> State:
        """Return the state of the flow, all its steps being known."""


class Run:
    """One run of a flow in a session of its executor: its loop, and its end.

    Attributes
    ----------
    facts
        What every body knows of the run.
    recorder, ticker
        What records the run, and what shows it; None for nothing.
    previous
        What is known of a former part of the run.
    progress, session
        The tables of the run and the executor at work, from the first job on.
    """

    progress: Progress
    session: Session

    def __init__(
        self,
        flow: RunnableFlow,
        plan: Plan,
        executor: Executor,
        facts: dict[str, Any],
        clock: RunClock,
        options: RunOptions,
        control: RunControl,
        calls: CallSource | None = None,
    ) -> None:
        self.flow = flow
        self.plan = plan
        self.executor = executor
        self.facts = facts
        self.clock = clock
        self.options = options
        self.control = control
        self.calls = calls
        self.recorder: Recorder | None = None
        self.previous: PreviousRun | None = None
        self.ticker: ProgressTicker | None = None
        self._flushed = 0.0  # when events were handed to the history last
        self.keeper: LimitKeeper | None = None  # keeps what the run holds of limits across runs
        self.failures: FailureLog
        self._left_paused: set[tuple[int, int]] = set()  # of which it was asked, steps and rows

    @property
    def run_id(self) -> str:
        """Return the identifier of the run."""
        return str(self.facts["flow_run_id"])

    def run(self, task_states: Mapping[Any, State]) -> State:
        """Drive the run to its end; whatever that is, it is shown and recorded."""
        try:
            starts = _starts(self.plan, task_states)
            commands = None if self.recorder is None else NextCommand.of_history(self.recorder.address)
            with listening(self.run_id, commands) as logged:
                self.facts[SETTINGS] = logged(self.recorder is not None)
                if self.recorder is not None:
                    self.facts[MEASURES] = True
                self.facts[OWNER] = process_id()
                board.open(self.run_id, self._is_open)
                receivers[self.run_id] = Receiver(self._take_yielded, threading.get_ident())
                self.failures = FailureLog(self.run_id, commands, self._shows_causes)
                try:
                    final = self._drive(starts)
                finally:
                    self.failures.end()
                    board.close(self.run_id)
                    del receivers[self.run_id]
        except BaseException as error:
            stop = stopped_by(error) if isinstance(error, KeyboardInterrupt) else None
            show_end(self.ticker, _state_of(error), stop)
            if self.recorder is not None:
                self.recorder.failed(error)
            raise
        show_end(self.ticker, final)
        return final

    def _drive(self, starts: Mapping[int, State]) -> State:
        with self.executor.start(self.plan, self.facts) as self.session:
            self.progress = progress = self._tables(starts)
            self._connect()
            try:
                self.control.dashboard = getattr(self.session, "dashboard_link", None)
                self.control.is_shown = self.ticker is not None
                self.control.begin(progress, self.session.wake)
                if self.calls is not None:
                    self.calls.begin(progress, self.session)
                with within(None), self.clock.source.driven():
                    self._loop(progress.start(self.clock.moment()))
            except KeyboardInterrupt as stop:
                self._interrupt(stop)
                raise
            except BaseException:
                self._flush_events()  # what has ended stays ended
                raise
            finally:
                if self.keeper is not None:
                    self.keeper.end()
            self.session.settle(progress.held())
        verdict = self._verdict()
        return verdict if self.recorder is None else self.recorder.ended(self.plan, progress.states(), verdict)

    def _tables(self, starts: Mapping[int, State]) -> Progress:
        return Progress(
            self.plan,
            self.facts,
            notify=_notify,
            starts=starts,
            window=self.session.window,
            slots=self.session.slots,
            batches=self.session.batches,
            in_order=self.session.in_order,
            bundles=getattr(self.session, "bundles", False),  # sessions of others may not say so
            tag_limits=getattr(self.executor, "tag_limits", None),
            keep=_kept(self.plan, self.options.keep_results),
            record=self.recorder is not None or self.previous is not None,  # children are found by the keys of a record
            previous_run=self.previous,
            story=self._story(),
        )

    def _story(self) -> RunStory | None:
        """Return the log of what happens to each child; None unless it was asked for."""
        if not (self.options.story or (self.options.story is None and validating())):
            return None
        plan = self.plan
        story = RunStory(self.run_id, lambda: [(step.slug, step.label, step.name) for step in list(plan.steps)])
        keep_story(story)
        return story

    def _connect(self) -> None:
        """Give the tables of the run to what records it, shows it, and ends it from outside."""
        scope = copy_context()
        if self.recorder is not None:
            lost = partial(self.control.mailbox.post, Interrupt(Lost))
            self.recorder.watch(
                self.progress.open_rows,
                self.progress.widths,
                partial(ask, self.control),
                lost,
                lambda: self.control.mailbox.is_cancelled,
            )
        if self.options.timeout is not None:
            self.progress.cancellation.limit_time(self.options.timeout, self.clock.moment(), self.options.spent)
        if self.ticker is not None:
            recorded = None if self.recorder is None else self.run_id
            self.ticker.begin(self.progress, self.session, recorded, self.failures.causes, self.run_id)
        self.control.interrupt_from_thread = lambda stop: scope.run(self._interrupt_here, stop)

    def _keep_shared_limits(self) -> None:
        """Hold limits across runs from now on; they stand in the history."""
        if self.recorder is None:
            raise PrefectishError(
                "tasks with shared_limits must have a history, by which runs know of one another; this run has none"
            )
        self.keeper = self.recorder.share_limits(self.control, self.progress.admission.limits)

    def _limit_bodies(self) -> None:
        """Limit the bodies that this thread calls, once the run, or a map that was added to it, has a limit."""
        cancellation = self.progress.cancellation
        if cancellation.ends and surrounding.get() is None:
            surrounding.set(lambda slug: cancellation.time_left(slug, self.clock.moment()))

    # -- the loop --------------------------------------------------------------------------------------------------

    def _loop(self, jobs: list[Job | Bundle]) -> None:
        """Submit, wait for receipts or timers, again; until nothing is left to do."""
        progress, session, clock = self.progress, self.session, self.clock
        mailbox = self.control.mailbox
        self._flushed = clock.moment().seconds
        while True:
            if interrupt.happened:
                reraise_lost_interrupt()
            if progress.admission.limits.shared and self.keeper is None:
                self._keep_shared_limits()
            self._submit(jobs)
            if progress.run_state.raised is not None:
                raise progress.run_state.raised
            if progress.done and self._is_over():
                self._flush_events()
                return
            if self.options.one_pass and self._only_waits():
                self._flush_events()
                return
            receipts = clock.source.receipts(
                session, progress.run_state.submitted_jobs, progress.next_due, mailbox.idle
            )
            now = clock.moment()
            if mailbox.requests:
                self._answer(now)
            progress.admission.follow(session.window)
            # Maps over what was yielded begin before it is known that its generator has failed.
            jobs = progress.advance((), now) if receipts and progress.streams.have_begun() else []
            jobs += progress.advance(receipts, now)
            self._show_and_flush(now)

    def _show_and_flush(self, now: Now) -> None:
        """Show how far the run is, and hand over what happened, if that is due."""
        if self.ticker is not None:
            self.ticker.refresh()
        run_state = self.progress.run_state
        if run_state.logs or run_state.failure_events or run_state.events:
            self._flushed = self._flush_if_due(now.seconds, self._flushed)

    def _only_waits(self) -> bool:
        """Whether nothing runs, and what is next is due later."""
        due = self.progress.next_due
        return not self.progress.run_state.submitted_jobs and due is not None and due > self.clock.moment().seconds

    def _take_yielded(self, yielded: Yielded) -> None:
        """Take items of a generator; where it runs in the thread of the loop, run what follows from them first."""
        if threading.get_ident() != receivers[self.run_id].thread:
            self.control.mailbox.post(yielded)
            return
        progress, session = self.progress, self.session
        progress.streams.take(yielded)
        if self.control.mailbox.requests:
            self._answer(self.clock.moment())
        jobs = progress.advance((), self.clock.moment())
        while True:
            self._submit(jobs)
            if progress.run_state.raised is not None:
                raise progress.run_state.raised
            if not getattr(session, "has_queued", False) or progress.run_state.over:
                return
            receipts, now = session.receipts(None), self.clock.moment()
            jobs = progress.advance(receipts, now)
            self._show_and_flush(now)

    def _submit(self, jobs: list[Job | Bundle]) -> None:
        """Submit jobs, drop those that were cancelled, and take back those that are recalled."""
        session, run_state = self.session, self.progress.run_state
        self._limit_bodies()
        while True:
            recalled = dict.fromkeys(run_state.recalled)
            unsent = [job for job in unpack(jobs) if job in recalled] if recalled else []
            if unsent:
                jobs = [job for job in unpack(jobs) if job not in recalled]
            if jobs:
                session.submit(jobs)
            if run_state.cancelled:
                session.cancel(run_state.cancelled)
                run_state.cancelled.clear()
            if not recalled and not run_state.after_recall:
                return
            run_state.recalled.clear()
            sent = [job for job in recalled if job.awaiting and job not in unsent]
            receipts = [*map(taken_back, unsent), *(session.recall(sent) if sent else ())]
            jobs = self.progress.advance(receipts, self.clock.moment())

    def _answer(self, now: Now) -> None:
        """Carry out what other threads asked for."""
        act = carry_out if self.calls is None else self.calls.carry_out
        self.control.mailbox.deliver(lambda request: act(request, self.progress, now))

    def _flush_if_due(self, now: float, last: float) -> float:
        """Pass on lines at once, and events if the last were handed over a while ago; return when they were."""
        if self.progress.run_state.logs or self.progress.run_state.failure_events:
            self._flush_logs()
        if now - last <= FLUSH_INTERVAL:
            return last
        self._flush_events()
        return now

    def _flush_events(self) -> None:
        """Give the recorder what happened meanwhile."""
        run_state = self.progress.run_state
        if run_state.logs or run_state.failure_events:
            self._flush_logs()
        if self.recorder is not None and run_state.events:
            self.recorder.record(run_state.events)
            run_state.events = []

    def _flush_logs(self) -> None:
        """Pass on what bodies logged: to the handlers, if they did it in another process, and to the history.

        What failed comes after it.
        """
        run_state = self.progress.run_state
        logs, run_state.logs = run_state.logs, []
        failures, run_state.failure_events = run_state.failure_events, []
        here = process_name()
        for log in logs:
            if log.worker is not None and log.worker != here:
                replay_log_records(log, self.run_id)
        logs += [self.failures.note(failure) for failure in failures]
        if self.recorder is not None:
            self.recorder.log(logs)

    def _is_open(self, slug: str, index: int | None) -> bool:
        """Whether a child has not ended, for any thread."""
        row = 0 if index is None else index
        for step_state in list(self.progress.run_state.step_states):
            if step_state.step.slug == slug:
                children = step_state.children
                return children is not None and row < len(children) and not children.has(row)
        return False

    def _shows_causes(self) -> bool | None:
        """Whether a live view shows why tasks fail; None as long as that is not known."""
        return False if self.ticker is None else self.ticker.shows_causes

    # -- the end ---------------------------------------------------------------------------------------------------

    def _is_over(self) -> bool:
        """Whether nothing more comes, now that nothing runs; asks about what is paused, if that is to be."""
        while self.progress.done:
            paused = self.progress.paused() if self.options.on_pause == "prompt" else ()
            new = [place for place in paused if place[:2] not in self._left_paused]
            if new and self.ticker is not None:
                self.ticker.release_screen()
            resumed = [(number, row) for number, row, label in new if self._is_resumed(number, row, label)]
            if not resumed:
                # The function may have called since the requests were carried out, and have returned then.
                return self.calls is None or not (self.calls.is_open or self.control.mailbox.requests)
            self._submit(self.progress.resume(resumed, self.clock.moment()))
        return False

    def _is_resumed(self, number: int, row: int, label: str) -> bool:
        """Ask on the terminal about a paused task."""
        if input(f"{label} is paused. Resume it? [y/N] ").strip().lower() in ("y", "yes"):
            return True
        self._left_paused.add((number, row))
        if self.calls is not None:
            chain = self.progress.run_state.step_states[number].chain
            assert chain is not None
            self.calls.left_paused(number, row, chain.open_rows[row].starts[chain.position[number]])
        return False

    def _interrupt(self, stop: KeyboardInterrupt) -> None:
        """End everything that is open; the interrupt carries the state of the flow."""
        cancellation = self.progress.cancellation
        never = self.session.cancel(cancellation.sent_jobs())
        cancellation.end(lambda run, row: Cancelled("interrupted"), NEVER_STARTED, self.clock.moment(), never=never)
        self._flush_events()
        vars(stop)["state"] = self._verdict()

    def _interrupt_here(self, stop: KeyboardInterrupt) -> BaseException:
        """End the run as an interrupt does, from another thread; return what is to be raised."""
        self._interrupt(stop)
        if self.recorder is not None:
            self.recorder.failed(stop)
        return exception_of(stop, self.run_id)

    def _verdict(self) -> State:
        """Return the state of the flow with the states of its tasks."""
        if self.calls is not None:
            return self.calls.verdict(self.progress)
        states = self.progress.states()
        verdict = self.progress.verdict()
        if verdict.is_finished():
            verdict = _ask_terminal_handler(self.flow, self.plan, verdict, states)
        return verdict.replace(result=by_task(self.plan, states, self.progress.slowest()))


def exception_of(stop: KeyboardInterrupt, run_id: str) -> BaseException:
    """Return what an interrupted run raises, with the state that it ended in."""
    return ended_by(stop, _state_of(stop), run_id)


def _state_of(stop: BaseException) -> State | None:
    """Return the state that the run ended in: a second Ctrl-C, while the first is seen to, does not have it itself."""
    state: State | None = getattr(stop, "state", None)
    return _state_of(stop.__context__) if state is None and stop.__context__ is not None else state


def _kept(plan: Plan, keep_results: Any) -> frozenset[int]:
    """Return the steps whose large results are kept: by default those of terminal and reference tasks."""
    if keep_results is True:
        return frozenset(step.number for step in plan.steps)
    if keep_results is False:
        return frozenset()
    asked = () if keep_results is None else keep_results
    tasks = {asked} if isinstance(asked, Task | int) else set(asked)
    if not all(isinstance(task, Task) for task in tasks):
        raise TypeError(f"keep_results must be None, True, False, a task or a list of tasks, got {keep_results!r}")
    named = (step.number for step in plan.steps if step.origin in tasks)
    return frozenset((*plan.terminals, *plan.references, *named))


def _starts(plan: Plan, task_states: Mapping[Any, State]) -> dict[int, State]:
    """Return the states from a former run by step; what such a run set up is gone, so it is set up again."""
    given = {step.number: unwrapped(task_states[step.origin]) for step in plan.steps if step.origin in task_states}
    return {n: s for n, s in given.items() if not (plan.steps[n].task.runs_again and s.is_finished())}


def unwrapped(state: State) -> State:
    """Return the state in which a task was handed over or waited for a place; of a map, those of its children."""
    kinds = kinds_of(state.map_states) if isinstance(state, Mapped) else ()
    if not isinstance(state, Mapped) or not any(issubclass(kind, Queued | Submitted) for kind in kinds):
        return innermost(state)
    return state.replace(map_states=[None if child is None else innermost(child) for child in state.map_states or ()])


def _notify(run: StepState, old: State, new: State) -> State:
    """Let a task's handlers see a transition that the owner makes."""
    task = run.step.task
    if not task.state_handlers:
        return new
    called = partial(call_handlers, task, task.state_handlers, old, new)
    try:
        return handler_calls.call(f"state handlers of {run.step.label}", called, task.timeout).state
    except TimeoutSignal as overrun:
        return TimedOut(str(overrun), overrun)


def _ask_terminal_handler(flow: RunnableFlow, plan: Plan, verdict: State, states: list[State]) -> State:
    handler: Callable[..., Any] | None = flow.terminal_state_handler
    if handler is None:
        return verdict
    called = partial(capture, handler, flow, verdict, [states[n] for n in plan.references])
    outcome = handler_calls.call("the terminal state handler", called)
    if isinstance(outcome, Error):
        text = f"Unexpected error while calling the terminal state handler: {describe(outcome.exception)}"
        return Failed(text, outcome.exception)
    return outcome.value if is_a(outcome.value, State) else verdict
