"""The only loop: jobs to the session, receipts back to progress, until the run is done."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from contextvars import copy_context
from datetime import datetime
from typing import Any, NamedTuple

from prefectish.engine import driven
from prefectish.engine.cached import CACHES
from prefectish.engine.capture import Error, capture
from prefectish.engine.clock import Clock
from prefectish.engine.context import bind, current, unbind
from prefectish.engine.executor import Executor, Job, Session
from prefectish.engine.facts import run_facts
from prefectish.engine.handle import Control, cancel_run
from prefectish.engine.handlers import call_handlers
from prefectish.engine.inline import LocalExecutor
from prefectish.engine.interrupts import INTERRUPTED, TERMINATED, Terminated, interruptible, raise_swallowed
from prefectish.engine.lanes import StepRun
from prefectish.engine.logs import TERMS, listening, retell
from prefectish.engine.moments import RunClock
from prefectish.engine.onlooking import Watch, see_end, watch_for
from prefectish.engine.plan import Plan, compile_flow
from prefectish.engine.policy import NEVER_STARTED
from prefectish.engine.progress import Progress
from prefectish.engine.recall import Recall
from prefectish.engine.recorder import Recorder
from prefectish.engine.recorder import load as load_recorder
from prefectish.engine.state import Cancelled, Failed, Mapped, Queued, Running, Scheduled, State, Submitted, innermost
from prefectish.engine.timeout import TimeLeft, within
from prefectish.engine.verdict import by_task
from prefectish.errors import HistoryWriteError, describe
from prefectish.origin import origin_of
from prefectish.tasks.task import Task

#: Longest time that events wait before they are handed to the history, in seconds.
HAND_OVER = 0.2


class Terms(NamedTuple):
    """What was asked of a run.

    Attributes
    ----------
    keep_results : which large results can be read after the run.
    timeout : longest time of the run in seconds, None for no limit.
    on_pause : "prompt" to ask on the terminal about paused tasks, None to end the run when only they are left.
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
    parameters : a value for each parameter that has no default.
    task_states : states from a former run; finished tasks are kept and feed their downstream, others go on from there.
    state : what the flow starts from, for its handlers.
    keep_results : which large results can be read after the run: None for those of terminal and reference tasks, True
        for all, False for none, or a task, or several.
    timeout : longest time of the run in seconds; then open tasks are TimedOut, and those not started Cancelled.
    on_pause : "prompt" to ask on the terminal about paused tasks.
    history : where the run is recorded: None for the history in the home folder, False for nowhere, a path or a
        database URL.
    control : what brings requests of other threads.
    resumption : a recorded run to go on with.
    plan : the steps of a flow function, which adds to them while it runs; None: those of the flow.
    progress : whether the run is shown while it goes on; None: in a terminal or a notebook.
    background : whether the run goes on beside somebody who types at the terminal.

    Raises
    ------
    FlowDefinitionError : the flow cannot run as it is.
    KeyboardInterrupt, SystemExit : the run was interrupted, or terminated; ``.state`` is the state it ended in.
    BaseException : what a task raised, under ``raise_on_exception``.
    """
    ticking = RunClock(clock)
    executor = LocalExecutor() if executor is None else _checked_executor(executor)
    values = dict(parameters)
    if plan is None:
        plan = compile_flow(flow, parameters, getattr(executor, "tag_limits", None) or ())
        own = flow.parameters()
        values = {step.name: step.literal.result for step in plan.steps if step.literal and step.task in own}
    _check_known(flow, plan, task_states or {})
    run_id = new_run_id() if resumption is None else resumption.run.id
    recall = None if resumption is None else resumption.recall(plan)
    control = control or Control()
    control.run_id = run_id
    given = {**current(), **(context or {})}
    facts = run_facts(flow.name, run_id, flow_run_name or run_id, values, ticking.moment().wall, given, _due(state))
    for name, states in (given.get("caches") or {}).items():
        for cached in states:
            CACHES.add(name, cached)
    facts["caches"] = CACHES
    facts["flow_source"] = origin_of(flow)
    if resumption is not None:
        facts["flow_run_part"] = resumption.part
        facts["flow_run_retry_failed"] = resumption.retry_failed
    token = bind(facts)
    mine = driven.begin(run_id)
    try:
        with interruptible():
            started = _change(flow, state or Scheduled(), Running("Running flow."))
            if not started.is_running():
                return _with_id(started, run_id)
            terms = Terms(keep_results, timeout, on_pause)
            recorder = load_recorder(history) if resumption is None else resumption.recorder()
            watch = watch_for(progress, plan.flow_name, "task_slug" in given, background)
            mine.recorder = recorder = _recording(recorder, history is not None, flow, plan, facts, executor)
            try:
                starts = _starts(plan, task_states or {})
                with listening(run_id) as logged:
                    facts[TERMS] = logged(recorder is not None)
                    final = _run(flow, plan, executor, facts, starts, ticking, terms, control, recorder, recall, watch)
            except BaseException as error:
                see_end(watch, _state_of(error))
                if recorder is not None:
                    recorder.failed(error)
                raise
            see_end(watch, final)
            return _with_id(final if final.is_running() else _change(flow, started, final), run_id)
    except KeyboardInterrupt as stop:
        end = _ending_of(stop, run_id)
        if end is not stop:
            raise end from None
        raise
    finally:
        control.break_off = None  # it would keep the tables of the run, on a circle with them
        driven.end(run_id)
        unbind(token)


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


def _run(
    flow: Any,
    plan: Plan,
    executor: Executor,
    facts: Mapping[str, Any],
    starts: Mapping[int, State],
    clock: RunClock,
    terms: Terms,
    control: Control,
    recorder: Recorder | None,
    recall: Recall | None,
    watch: Watch | None,
) -> State:
    """Drive the run in a session of the executor."""
    with executor.start(plan, facts) as session:
        progress = Progress(
            plan,
            facts,
            notify=_notify,
            starts=starts,
            window=session.window,
            slots=session.slots,
            tag_limits=getattr(executor, "tag_limits", None),
            keep=_kept(plan, terms.keep_results),
            record=recorder is not None,
            recall=recall,
        )
        if recorder is not None:
            recorder.watch(progress.open_rows, lambda: control.ask(cancel_run))
        if terms.timeout is not None:
            progress.endings.limit_time(terms.timeout, clock.moment())
        if watch is not None:
            watch.begin(progress, session, None if recorder is None else facts["flow_run_id"])

        def interrupted(stop: KeyboardInterrupt) -> None:
            progress.endings.end(lambda run, row: Cancelled("interrupted"), NEVER_STARTED, clock.moment())
            session.cancel(progress.table.cancelled)
            _hand_over(progress, recorder)
            vars(stop)["state"] = _verdict(flow, plan, progress, control)

        def break_off(stop: KeyboardInterrupt) -> BaseException:
            interrupted(stop)
            if recorder is not None:
                recorder.failed(stop)
            return _ending_of(stop, facts["flow_run_id"])

        scope = copy_context()
        control.break_off = lambda stop: scope.run(break_off, stop)
        try:
            control.begin(progress, session)
            with within(_time_left(plan, progress, clock, terms)), clock.source.driven():
                loop(progress, session, clock, progress.start(clock.moment()), control, recorder, watch)
                while terms.on_pause == "prompt" and (resumed := _ask_about_pauses(progress, watch)):
                    loop(progress, session, clock, progress.resume(resumed, clock.moment()), control, recorder, watch)
        except KeyboardInterrupt as stop:
            interrupted(stop)
            raise
        except BaseException:
            _hand_over(progress, recorder)  # what has ended stays ended
            raise
        session.settle(progress.held())
    verdict = _verdict(flow, plan, progress, control)
    return verdict if recorder is None else recorder.ended(plan, progress.states(), verdict)


def _checked_executor(executor: Any) -> Executor:
    """Refuse what is no executor, a class among it, before anything runs."""
    if isinstance(executor, type) or not callable(getattr(executor, "start", None)):
        raise TypeError(
            f"executor={executor!r}: an executor is wanted, such as prefectish.executors.LocalDaskExecutor(), "
            f"not its name or class"
        )
    checked: Executor = executor
    return checked


def _time_left(plan: Plan, progress: Progress, clock: RunClock, terms: Terms) -> TimeLeft | None:
    """Return what tells bodies that run in the loop's thread how long they may; None if nothing limits them."""
    if terms.timeout is None and all(step.task.map_timeout is None for step in plan.steps):
        return None
    return lambda slug: progress.endings.time_left(slug, clock.moment())


def _hand_over(progress: Progress, recorder: Recorder | None) -> None:
    """Give the recorder what happened meanwhile."""
    if progress.table.told:
        _tell(progress, recorder)
    if recorder is not None and progress.table.events:
        recorder.record(progress.table.events)
        progress.table.events = []


def _tell(progress: Progress, recorder: Recorder | None) -> None:
    """Pass on what bodies logged: to the handlers, if they did it in another process, and to the history."""
    from prefectish.engine.wire import process_name

    told, progress.table.told = progress.table.told, []
    mine, run_id = process_name(), current()["flow_run_id"]
    for lines in told:
        if lines.worker is not None and lines.worker != mine:
            retell(lines, run_id)
    if recorder is not None:
        recorder.log(told)


def _pass_on(progress: Progress, recorder: Recorder | None, now: float, last: float) -> float:
    """Pass on lines at once, and events if the last were handed over a while ago; return when they were."""
    if progress.table.told:
        _tell(progress, recorder)
    if now - last <= HAND_OVER:
        return last
    _hand_over(progress, recorder)
    return now


def loop(
    progress: Progress,
    session: Session,
    clock: RunClock,
    jobs: list[Job],
    control: Control | None = None,
    recorder: Recorder | None = None,
    watch: Watch | None = None,
) -> None:
    """Drive a run: submit, wait for receipts or timers, again.

    Parameters
    ----------
    jobs : what can run at first.
    """
    handed_over = clock.moment().seconds
    while True:
        raise_swallowed()
        if jobs:
            session.submit(jobs)
        if progress.table.cancelled:
            session.cancel(progress.table.cancelled)
            progress.table.cancelled.clear()
        if progress.raised is not None:
            raise progress.raised
        if progress.done and not (control is not None and control.is_open):
            _hand_over(progress, recorder)
            return
        due = progress.next_due
        idle = None if control is None else control.idle
        receipts = clock.source.receipts(session, progress.table.in_flight, due, idle)
        now = clock.moment()
        if control is not None:
            control.answer(progress, now)
        jobs = progress.advance(receipts, now)
        if watch is not None:
            watch.look()
        if progress.table.told or progress.table.events:
            handed_over = _pass_on(progress, recorder, now.seconds, handed_over)


def _due(state: State | None) -> datetime | None:
    """Return when a run was to start, by the state that it begins with."""
    return state.start_time if isinstance(state, Scheduled) else None


def _verdict(flow: Any, plan: Plan, progress: Progress, control: Control) -> State:
    """Return the state of the flow with the states of its tasks."""
    if plan.grows:
        return control.verdict(progress)
    states = progress.states()
    verdict = progress.verdict()
    if verdict.is_finished():
        verdict = _ask_terminal_handler(flow, plan, verdict, states)
    return verdict.replace(result=by_task(plan, states, progress.slowest()))


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


def _ask_about_pauses(progress: Progress, watch: Watch | None) -> list[tuple[int, int]]:
    """Ask on the terminal about each paused task; return the steps and rows to resume."""
    resumed = []
    if watch is not None:
        watch.rest()
    for number, row, label in progress.paused():
        if input(f"{label} is paused. Resume it? [y/N] ").strip().lower() in ("y", "yes"):
            resumed.append((number, row))
    return resumed


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
    ValueError : naming the tasks.
    """
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


def _notify(run: StepRun, old: State, new: State) -> State:
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
