"""From a flow and the options of a run to its state."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from datetime import datetime
from functools import partial
from importlib import import_module
from typing import Any

from prefectish import config
from prefectish.engine.clock import Clock, RunClock
from prefectish.engine.context import bind, current, get_logger, unbind
from prefectish.engine.driver import active_runs, handler_calls
from prefectish.engine.driver.active_runs import ActiveRun
from prefectish.engine.driver.control import RunControl
from prefectish.engine.driver.inline import LocalExecutor
from prefectish.engine.driver.interrupts import interruptible
from prefectish.engine.driver.loop import CallSource, Run, exception_of
from prefectish.engine.driver.options import RunOptions
from prefectish.engine.driver.progress_view import in_notebook, ticker_for
from prefectish.engine.handlers import call_handlers
from prefectish.engine.jobs.protocol import Executor, RunnableFlow, waited_for
from prefectish.engine.plan.compile import annotate, compile_flow
from prefectish.engine.plan.steps import Plan
from prefectish.engine.scheduling.events import Recorder
from prefectish.engine.scheduling.events import load as load_recorder
from prefectish.engine.scheduling.previous_run import Resumption
from prefectish.engine.scheduling.retry_failed import chooser_in_run
from prefectish.engine.state import Running, Scheduled, State
from prefectish.engine.worker.attempt_context import run_context
from prefectish.engine.worker.cache import CACHES
from prefectish.errors import HistoryWriteError
from prefectish.flow_source import origin_of
from prefectish.kinds import is_a
from prefectish.tasks.annotations import log_annotations, options_here

DEFAULTS = RunOptions()


def run_flow(
    flow: RunnableFlow,
    parameters: Mapping[str, Any],
    options: RunOptions = DEFAULTS,
    *,
    control: RunControl | None = None,
    calls: CallSource | None = None,
    clock: Clock | None = None,
) -> State:
    """Run a flow to its end and return its state; its result maps each task to its state.

    Parameters with a default may be left out. `control` brings requests of other threads, `calls` adds the steps of a
    flow function while it runs. An interrupted run raises KeyboardInterrupt or SystemExit with its ``.state``; under
    ``raise_on_exception`` the run raises what a task raised.
    """
    executor = LocalExecutor() if options.executor is None else _checked(options.executor)
    if options.page:
        import_module("prefectish.ui.beside").opener()  # a library that is missing is named before anything runs
    plan, values = _planned(flow, parameters, executor) if calls is None else (calls.plan, dict(parameters))
    _check_known(flow, plan, options.task_states or {})
    run_clock, control, resumption = RunClock(clock), control or RunControl(), options.resumption
    control.run_id = run_id = (options.run_id or new_run_id()) if resumption is None else resumption.run.id
    previous = None if resumption is None else resumption.recall(plan)  # the run has one part more from here on
    given = {**current(), **(options.context or {})}
    name, due = options.flow_run_name or run_id, _due(options.state)
    facts = run_context(flow.name, run_id, name, values, run_clock.moment().wall, given, due)
    facts |= _shared(flow, given) | _part(resumption)
    facts["flow_run_origin"] = options.origin
    refresh = options.refresh_cache
    checks = options.check_inputs
    facts["check_inputs"] = config.switch("check_inputs", False) if checks is None else checks
    facts["refresh_cache"] = config.switch("refresh_cache", False) if refresh is None else refresh
    run = Run(flow, plan, executor, facts, run_clock, options, control, calls)
    run.previous = previous
    token = bind(facts)
    active = active_runs.begin(run_id)
    try:
        with interruptible(), waited_for(executor) if calls is None else nullcontext():
            state = _run(run, given, active)
            return state.replace(context={**state.context, "flow_run_id": run_id})
    except KeyboardInterrupt as stop:
        end = exception_of(stop, run_id)
        if end is not stop:
            raise end from None
        raise
    finally:
        control.interrupt_from_thread = None  # it would keep the tables of the run, on a circle with them
        active_runs.end(run_id)
        unbind(token)


def resumption(
    run_id: str, history: Any, retry_failed: bool = False, force: bool = False, where: Any = None
) -> Resumption:
    """Return a recorded run to continue, which this process holds from now on; see :meth:`prefectish.Flow.resume`."""
    for name, value in (("retry_failed", retry_failed), ("force", force)):
        if not isinstance(value, bool):
            hint = "; where=... chooses among failures" if name == "retry_failed" else ""
            raise TypeError(f"{name} must be True or False, got {value!r}{hint}")
    chosen = None if where is None else chooser_in_run(where)
    load = import_module("prefectish.history.resume").resumption
    recorded: Resumption = load(run_id, history, retry_failed or chosen is not None, force, chosen)
    return recorded


def approved(
    drive: Callable[..., State], options: RunOptions, run_id: str, slug: str, index: int | None, answer: Any
) -> Callable[..., State]:
    """Record an approval of a run in the background that has ended, paused; return what continues the run."""
    history = options.history
    if history is False:
        raise RuntimeError(f"run {run_id} has ended, and history=False did not record it; give it a history")
    store = None if history is True else history
    import_module("prefectish.history").run(run_id, store=store).approve(slug, index, answer)
    recorded = resumption(run_id, history)
    return partial(drive, options._replace(history=None, task_states=None, flow_run_name=None, resumption=recorded))


def _run(run: Run, given: Mapping[str, Any], active: ActiveRun) -> State:
    """Take the flow from its first state to its last, its handlers asked at each change."""
    flow, options, resumption = run.flow, run.options, run.options.resumption
    started = _change(flow, options.state or Scheduled(), Running("Running flow."))
    if not started.is_running():
        if resumption is not None:
            resumption.release()
        return started
    recorder = load_recorder(options.history) if resumption is None else resumption.recorder()
    run.ticker = ticker_for(options.progress, run.plan.flow_name, "task_slug" in given, options.background)
    active.recorder = run.recorder = _recording(recorder, run)
    if options.page:
        _open_page(run)
    final = run.run(options.task_states or {})
    return final if final.is_running() else _change(flow, started, final)


def _planned(flow: Any, parameters: Mapping[str, Any], executor: Executor) -> tuple[Plan, dict[str, Any]]:
    """Return the steps of a flow, and the values of its parameters, defaults included."""
    if not flow.tasks:
        text = f"{flow!r} has no tasks, so that nothing runs; call tasks inside of `with Flow(...) as flow:`"
        warnings.warn(text, stacklevel=_callers_level())
    plan = compile_flow(flow, parameters, getattr(executor, "tag_limits", None) or ())
    around = options_here()
    if around:
        log_annotations(around)
        annotate(plan, around)
    own = flow.parameters()
    return plan, {step.name: step.literal.result for step in plan.steps if step.literal and step.task in own}


def _callers_level() -> int:
    """Return the level, for a warning of who calls this, of the first frame that is not the package's own."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == "prefectish":
        frame, level = frame.f_back, level + 1
    return level


def _shared(flow: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run shares with others: what they have cached, and the flow as it was written."""
    for name, states in (given.get("caches") or {}).items():
        for cached in states:
            CACHES.add(name, cached)
    return {"caches": CACHES, "flow_source": origin_of(flow)}


def _part(resumption: Resumption | None) -> dict[str, Any]:
    """Return which part of a resumed run this is."""
    if resumption is None:
        return {}
    return {"flow_run_part": resumption.part, "flow_run_retry_failed": resumption.retry_failed}


def _recording(recorder: Recorder | None, run: Run) -> Recorder | None:
    """Begin to record; a default history that cannot be written only warns."""
    if recorder is None:
        return None
    try:
        recorder.started(run.plan, run.facts, getattr(run.flow, "version", None), repr(run.executor))
    except HistoryWriteError as error:
        if run.options.history is not None:
            raise
        warnings.warn(f"this run is not recorded: {error}", stacklevel=2)
        return None
    return recorder


def _open_page(run: Run) -> None:
    """Have a process of its own show the run, and say where; a run that could not be recorded has no page."""
    if run.recorder is None:
        get_logger("engine").warning("there is no page of this run: it is not recorded")
        return
    run.control.page = link = import_module("prefectish.ui.beside").link_of(run.recorder.address, run.run_id)
    get_logger("engine").info("page: %s", link)
    if in_notebook():
        import_module("prefectish.display.notebook").show_link("page of the run", link)


def new_run_id() -> str:
    """Return an identifier for a run: time ordered to the second, unique by 64 random bits."""
    import os

    return f"{int(time.time()):08x}-{os.urandom(8).hex()}"


def _checked(executor: Any) -> Executor:
    """Refuse anything but an executor or its name, a class included, before anything runs."""
    if isinstance(executor, str) and executor in config.EXECUTORS:
        executor = config.executor_named(executor)
    hint = _way_to_cluster(type(executor))
    if hint or isinstance(executor, type) or not callable(getattr(executor, "start", None)):
        raise TypeError(
            f"executor must be an Executor instance such as prefectish.executors.LocalDaskExecutor(), or one of "
            f"{', '.join(map(repr, config.EXECUTORS))}, got {executor!r}{hint}"
        )
    checked: Executor = executor
    return checked


def _way_to_cluster(kind: type) -> str:
    """Return what to write where a client or cluster of Dask was given for an executor; empty for anything else."""
    names = {each.__name__ for each in kind.__mro__ if each.__module__.partition(".")[0] == "distributed"}
    if "Client" in names:
        return "; write DaskExecutor(client=client)"
    return "; write DaskExecutor(cluster.scheduler_address)" if "Cluster" in names else ""


def _check_known(flow: RunnableFlow, plan: Plan, task_states: Mapping[Any, State]) -> None:
    """Refuse states of tasks that are not in the flow: they would be ignored in silence."""
    for task, state in task_states.items():
        if not isinstance(state, State):
            raise TypeError(f"task_states: the state of {task!r} must be a State such as Success(...), got {state!r}")
    unknown = task_states.keys() - {step.task for step in plan.steps}
    if unknown:
        names = ", ".join(sorted(map(repr, unknown)))
        raise ValueError(
            f"task_states: {names} not in {flow!r}; states are found by the very task objects, so pass those of a run "
            f"of this flow object"
        )


def _due(state: State | None) -> datetime | None:
    """Return when a run was to start, by the state that it begins with."""
    return state.start_time if isinstance(state, Scheduled) else None


def _change(flow: RunnableFlow, old: State, new: State) -> State:
    if not flow.state_handlers:
        return new
    called = partial(call_handlers, flow, flow.state_handlers, old, new)
    transition = handler_calls.call("state handlers of the flow", called)
    if transition.aborted and current().get("raise_on_exception") and is_a(transition.state.result, Exception):
        raise transition.state.result
    return transition.state
