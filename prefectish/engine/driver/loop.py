"""The only loop: jobs to the session, receipts back to progress, until the run is done."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from contextvars import copy_context
from datetime import datetime
from typing import Any, NamedTuple

from prefectish.engine.capture import Error, capture
from prefectish.engine.clock import Clock, RunClock
from prefectish.engine.context import bind, current, unbind
from prefectish.engine.driver import active_runs
from prefectish.engine.driver.handle import Control, cancel_run
from prefectish.engine.driver.inline import LocalExecutor
from prefectish.engine.driver.interrupts import INTERRUPTED, TERMINATED, Terminated, interruptible, raise_swallowed
from prefectish.engine.driver.progress_view import ProgressTicker, see_end, watch_for
from prefectish.engine.handlers import call_handlers
from prefectish.engine.jobs.job import Job
from prefectish.engine.jobs.protocol import Executor, Session
from prefectish.engine.plan.compile import compile_flow
from prefectish.engine.plan.steps import Plan
from prefectish.engine.scheduling.events import Recorder
from prefectish.engine.scheduling.events import load as load_recorder
from prefectish.engine.scheduling.previous_run import PreviousRun
from prefectish.engine.scheduling.progress import Progress
from prefectish.engine.scheduling.run_state import NEVER_STARTED, StepState
from prefectish.engine.scheduling.verdict import by_task
from prefectish.engine.state import Cancelled, Failed, Mapped, Queued, Running, Scheduled, State, Submitted, innermost
from prefectish.engine.worker.attempt_context import run_context
from prefectish.engine.worker.cache import CACHES
from prefectish.engine.worker.logs.capture import TERMS
from prefectish.engine.worker.logs.relay import listening, replay_log_records
from prefectish.engine.worker.time_limit import TimeLeft, within
from prefectish.errors import HistoryWriteError, describe
from prefectish.flow_source import origin_of
from prefectish.tasks.task import Task

#: Longest time that events wait before they are handed to the history, in seconds.
HAND_OVER = 0.2


class RunSettings(NamedTuple):
    """What was asked of a run.

    Attributes
    ----------
    keep_results
        Which large results can be read after the run.
    timeout
        Longest time of the run in seconds, None for no limit.
    on_pause
        "prompt" to ask on the terminal about paused tasks, None to end the run when only they are left.
    """

    keep_results: Any = None
    timeout: float | None = None
    on_pause: str | None = None


def run_flow(
    flow: Any,
    *,
    parameters: Mapping[str, Any],
    executor: Executor | None = None,
    context: Mapping[str, Any] | None = None,
    task_states: Mapping[Any, State] | None = None,
    state: State | None = None,
    flow_run_name: str | None = None,
    keep_results: Any = None,
    timeout: float | None = None,
    on_pause: str | None = None,
    history: Any = None,
    clock: Clock | None = None,
    control: Control | None = None,
    resumption: Any = None,
    plan: Plan | None = None,
    progress: bool | None = None,
    background: bool = False,
) -> State:
    """Run a flow to its end and return its state; its result maps each task to its state.

    Parameters
    ----------
    parameters
        A value for each parameter that has no default.
    task_states
        States from a former run; finished tasks are kept and feed their downstream, others go on from there.
    state
        What the flow starts from, for its handlers.
    keep_results
        Which large results can be read after the run: None for those of terminal and reference tasks, True for all,
        False for none, or a task, or several.
    timeout
        Longest time of the run in seconds; then open tasks are TimedOut, and those not started Cancelled.
    on_pause
        "prompt" to ask on the terminal about paused tasks.
    history
        Where the run is recorded: None for the history in the home folder, False for nowhere, a path or a database URL.
    control
        What brings requests of other threads.
    resumption
        A recorded run to go on with.
    plan
        The steps of a flow function, which adds to them while it runs; None: those of the flow.
    progress
        Whether the run is shown while it goes on; None: in a terminal or a notebook.
    background
        Whether the run goes on beside somebody who types at the terminal.

    Raises
    ------
    FlowDefinitionError
        The flow cannot run as it is.
    KeyboardInterrupt, SystemExit
        The run was interrupted, or terminated; ``.state`` is the state it ended in.
    BaseException
        What a task raised, under ``raise_on_exception``.
    """
    executor = LocalExecutor() if executor is None else _checked_executor(executor)
    values = dict(parameters)
    if plan is None:
        plan = compile_flow(flow, parameters, getattr(executor, "tag_limits", None) or ())
        own = flow.parameters()
        values = {step.name: step.literal.result for step in plan.steps if step.literal and step.task in own}
    _check_known(flow, plan, task_states or {})
    ticking = RunClock(clock)
    control = control or Control()
    control.run_id = run_id = new_run_id() if resumption is None else resumption.run.id
    recall = None if resumption is None else resumption.recall(plan)  # it is a part further from here on
    given = {**current(), **(context or {})}
    facts = run_context(flow.name, run_id, flow_run_name or run_id, values, ticking.moment().wall, given, _due(state))
    facts |= _shared(flow, given) if resumption is None else _shared(flow, given) | _former(resumption)
    run = Run(flow, plan, executor, facts, ticking, RunSettings(keep_results, timeout, on_pause), control)
    run.recall = recall
    token = bind(facts)
    mine = active_runs.begin(run_id)
    try:
        with interruptible():
            started = _change(flow, state or Scheduled(), Running("Running flow."))
            if not started.is_running():
                if resumption is not None:
                    resumption.release()
                return _with_id(started, run_id)
            recorder = load_recorder(history) if resumption is None else resumption.recorder()
            run.watch = watch_for(progress, plan.flow_name, "task_slug" in given, background)
            mine.recorder = run.recorder = _recording(recorder, history is not None, flow, plan, facts, executor)
            final = run.to_its_end(task_states or {})
            return _with_id(final if final.is_running() else _change(flow, started, final), run_id)
    except KeyboardInterrupt as stop:
        end = _ending_of(stop, run_id)
        if end is not stop:
            raise end from None
        raise
    finally:
        control.break_off = None  # it would keep the tables of the run, on a circle with them
        active_runs.end(run_id)
        unbind(token)


def _shared(flow: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run shares with others: what they have cached, and the flow as it was written."""
    for name, states in (given.get("caches") or {}).items():
        for cached in states:
            CACHES.add(name, cached)
    return {"caches": CACHES, "flow_source": origin_of(flow)}


def _former(resumption: Any) -> dict[str, Any]:
    """Return what a run that is resumed knows of its former parts."""
    return {"flow_run_part": resumption.part, "flow_run_retry_failed": resumption.retry_failed}


def _recording(
    recorder: Recorder | None, asked: bool, flow: Any, plan: Plan, facts: Mapping[str, Any], executor: Executor
) -> Recorder | None:
    """Begin to record; a history that nobody asked for and that cannot be written warns, and there is none."""
    if recorder is None:
        return None
    try:
        recorder.started(plan, facts, getattr(flow, "version", None), repr(executor))
    except HistoryWriteError as error:
        if asked:
            raise
        warnings.warn(f"this run is not recorded: {error}", stacklevel=2)
        return None
    return recorder


def new_run_id() -> str:
    """Return an identifier for a run: time ordered to the second, unique by 64 random bits."""
    import os

    return f"{int(time.time()):08x}-{os.urandom(8).hex()}"


def _checked_executor(executor: Any) -> Executor:
    """Refuse what is no executor, a class among it, before anything runs."""
    if isinstance(executor, type) or not callable(getattr(executor, "start", None)):
        raise TypeError(
            f"executor={executor!r}: an executor is wanted, such as prefectish.executors.LocalDaskExecutor(), "
            f"not its name or class"
        )
    checked: Executor = executor
    return checked


def _due(state: State | None) -> datetime | None:
    """Return when a run was to start, by the state that it begins with."""
    return state.start_time if isinstance(state, Scheduled) else None


class Run:
    """One run of a flow in a session of its executor: its loop, and its end.

    Attributes
    ----------
    facts
        What every body knows of the run.
    recorder, watch
        Who writes the run down, and who shows it; None for nobody.
    recall
        What is known of a former part of the run.
    progress, session
        The tables of the run and the executor at work, from the first job on.
    """

    progress: Progress
    session: Session

    def __init__(
        self,
        flow: Any,
        plan: Plan,
        executor: Executor,
        facts: dict[str, Any],
        clock: RunClock,
        terms: RunSettings,
        control: Control,
    ) -> None:
        self.flow = flow
        self.plan = plan
        self.executor = executor
        self.facts = facts
        self.clock = clock
        self.terms = terms
        self.control = control
        self.recorder: Recorder | None = None
        self.recall: PreviousRun | None = None
        self.watch: ProgressTicker | None = None

    @property
    def run_id(self) -> str:
        """Return the identifier of the run."""
        return str(self.facts["flow_run_id"])

    def to_its_end(self, task_states: Mapping[Any, State]) -> State:
        """Drive the run; whatever its end, who watches and who records hear of it."""
        try:
            starts = _starts(self.plan, task_states)
            with listening(self.run_id) as logged:
                self.facts[TERMS] = logged(self.recorder is not None)
                final = self._drive(starts)
        except BaseException as error:
            see_end(self.watch, _state_of(error))
            if self.recorder is not None:
                self.recorder.failed(error)
            raise
        see_end(self.watch, final)
        return final

    def _drive(self, starts: Mapping[int, State]) -> State:
        with self.executor.start(self.plan, self.facts) as self.session:
            self.progress = progress = self._tables(starts)
            self._introduce()
            try:
                self.control.begin(progress, self.session)
                with within(self._time_left()), self.clock.source.driven():
                    self._loop(progress.start(self.clock.moment()))
                    while self.terms.on_pause == "prompt" and (resumed := self._ask_about_pauses()):
                        self._loop(progress.resume(resumed, self.clock.moment()))
            except KeyboardInterrupt as stop:
                self._interrupt(stop)
                raise
            except BaseException:
                self._hand_over()  # what has ended stays ended
                raise
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
            tag_limits=getattr(self.executor, "tag_limits", None),
            keep=_kept(self.plan, self.terms.keep_results),
            record=self.recorder is not None,
            previous_run=self.recall,
        )

    def _introduce(self) -> None:
        """Let everybody who has to do with the run know its tables."""
        control, scope = self.control, copy_context()
        if self.recorder is not None:
            self.recorder.watch(self.progress.open_rows, lambda: control.ask(cancel_run))
        if self.terms.timeout is not None:
            self.progress.cancellation.limit_time(self.terms.timeout, self.clock.moment())
        if self.watch is not None:
            self.watch.begin(self.progress, self.session, None if self.recorder is None else self.run_id)
        control.break_off = lambda stop: scope.run(self._break_off, stop)

    def _time_left(self) -> TimeLeft | None:
        """Return what tells bodies that run in the loop's thread how long they may; None if nothing limits them."""
        if self.terms.timeout is None and all(step.task.map_timeout is None for step in self.plan.steps):
            return None
        return lambda slug: self.progress.cancellation.time_left(slug, self.clock.moment())

    # -- the loop --------------------------------------------------------------------------------------------------

    def _loop(self, jobs: list[Job]) -> None:
        """Submit, wait for receipts or timers, again; until nothing is left to do.

        Parameters
        ----------
        jobs
            What can run at first.
        """
        progress, session, clock, control = self.progress, self.session, self.clock, self.control
        handed_over = clock.moment().seconds
        while True:
            raise_swallowed()
            if jobs:
                session.submit(jobs)
            if progress.run_state.cancelled:
                session.cancel(progress.run_state.cancelled)
                progress.run_state.cancelled.clear()
            if progress.raised is not None:
                raise progress.raised
            if progress.done and not control.is_open:
                self._hand_over()
                return
            receipts = clock.source.receipts(
                session, progress.run_state.submitted_jobs, progress.next_due, control.idle
            )
            now = clock.moment()
            control.answer(progress, now)
            jobs = progress.advance(receipts, now)
            if self.watch is not None:
                self.watch.look()
            if progress.run_state.logs or progress.run_state.events:
                handed_over = self._pass_on(now.seconds, handed_over)

    def _pass_on(self, now: float, last: float) -> float:
        """Pass on lines at once, and events if the last were handed over a while ago; return when they were."""
        if self.progress.run_state.logs:
            self._tell()
        if now - last <= HAND_OVER:
            return last
        self._hand_over()
        return now

    def _hand_over(self) -> None:
        """Give the recorder what happened meanwhile."""
        run_state = self.progress.run_state
        if run_state.logs:
            self._tell()
        if self.recorder is not None and run_state.events:
            self.recorder.record(run_state.events)
            run_state.events = []

    def _tell(self) -> None:
        """Pass on what bodies logged: to the handlers, if they did it in another process, and to the history."""
        from prefectish.engine.process_tree import process_name

        told, self.progress.run_state.logs = self.progress.run_state.logs, []
        mine = process_name()
        for lines in told:
            if lines.worker is not None and lines.worker != mine:
                replay_log_records(lines, self.run_id)
        if self.recorder is not None:
            self.recorder.log(told)

    # -- the end ---------------------------------------------------------------------------------------------------

    def _ask_about_pauses(self) -> list[tuple[int, int]]:
        """Ask on the terminal about each paused task; return the steps and rows to resume."""
        if self.watch is not None:
            self.watch.rest()
        return [
            (number, row)
            for number, row, label in self.progress.paused()
            if input(f"{label} is paused. Resume it? [y/N] ").strip().lower() in ("y", "yes")
        ]

    def _interrupt(self, stop: KeyboardInterrupt) -> None:
        """End everything that is open; the interrupt tells the state of the flow."""
        self.progress.cancellation.end(lambda run, row: Cancelled("interrupted"), NEVER_STARTED, self.clock.moment())
        self.session.cancel(self.progress.run_state.cancelled)
        self._hand_over()
        vars(stop)["state"] = self._verdict()

    def _break_off(self, stop: KeyboardInterrupt) -> BaseException:
        """End the run as an interrupt does, from another thread; return what is to be raised."""
        self._interrupt(stop)
        if self.recorder is not None:
            self.recorder.failed(stop)
        return _ending_of(stop, self.run_id)

    def _verdict(self) -> State:
        """Return the state of the flow with the states of its tasks."""
        if self.plan.grows:
            return self.control.verdict(self.progress)
        states = self.progress.states()
        verdict = self.progress.verdict()
        if verdict.is_finished():
            verdict = _ask_terminal_handler(self.flow, self.plan, verdict, states)
        return verdict.replace(result=by_task(self.plan, states, self.progress.slowest()))


def _ending_of(stop: KeyboardInterrupt, run_id: str) -> BaseException:
    """Return what an interrupted run raises, with its complete state: a terminated program exits with its code."""
    code = TERMINATED if isinstance(stop, Terminated) else INTERRUPTED
    state = _state_of(stop)
    if state is not None:
        state = _with_id(state.replace(context={**state.context, "exit_code": code}), run_id)
    end: BaseException = SystemExit(code) if isinstance(stop, Terminated) else stop
    vars(end)["state"] = state
    return end


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
        raise TypeError(f"keep_results={keep_results!r}: None, True, False, a task or a list of tasks is wanted")
    named = (step.number for step in plan.steps if step.task in tasks)
    return frozenset((*plan.terminals, *plan.references, *named))


def _check_known(flow: Any, plan: Plan, task_states: Mapping[Any, State]) -> None:
    """Refuse states of tasks that are not in the flow: they would be ignored in silence.

    Raises
    ------
    TypeError
        A value is no state.
    ValueError
        Naming the tasks.
    """
    for task, state in task_states.items():
        if not isinstance(state, State):
            raise TypeError(f"task_states: {task!r} has {state!r}; a state is wanted, such as Success(result=...)")
    unknown = task_states.keys() - {step.task for step in plan.steps}
    if unknown:
        names = ", ".join(sorted(map(repr, unknown)))
        raise ValueError(
            f"task_states: {names} not in {flow!r}; states are found by the very task objects, so pass those of a run "
            f"of this flow object"
        )


def _starts(plan: Any, task_states: Mapping[Any, State]) -> dict[int, State]:
    """Return the states from a former run by step; what such a run set up is gone, so it is set up again."""
    given = {step.number: _unwrapped(task_states[step.task]) for step in plan.steps if step.task in task_states}
    return {n: s for n, s in given.items() if not (plan.steps[n].task.runs_again and s.is_finished())}


def _unwrapped(state: State) -> State:
    """Return the state in which a task was handed over or waited for a place; of a map, those of its children."""
    if not isinstance(state, Mapped) or not any(isinstance(c, Queued | Submitted) for c in state.map_states or ()):
        return innermost(state)
    return state.replace(map_states=[None if child is None else innermost(child) for child in state.map_states or ()])


def _notify(run: StepState, old: State, new: State) -> State:
    """Let a task's handlers see a transition that the owner makes."""
    task = run.step.task
    if not task.state_handlers:
        return new
    return call_handlers(task, task.state_handlers, old, new).state


def _change(flow: Any, old: State, new: State) -> State:
    if not flow.state_handlers:
        return new
    transition = call_handlers(flow, flow.state_handlers, old, new)
    if transition.aborted and current().get("raise_on_exception") and isinstance(transition.state.result, Exception):
        raise transition.state.result
    return transition.state


def _ask_terminal_handler(flow: Any, plan: Any, verdict: State, states: list[State]) -> State:
    handler: Callable[..., Any] | None = flow.terminal_state_handler
    if handler is None:
        return verdict
    outcome = capture(handler, flow, verdict, [states[n] for n in plan.references])
    if isinstance(outcome, Error):
        text = f"Unexpected error while calling the terminal state handler: {describe(outcome.exception)}"
        return Failed(text, outcome.exception)
    return outcome.value if isinstance(outcome.value, State) else verdict


def _with_id(state: State, run_id: str) -> State:
    return state.replace(context={**state.context, "flow_run_id": run_id})
