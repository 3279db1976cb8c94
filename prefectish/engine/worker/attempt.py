"""One attempt of one step, where its body runs: asks ``decide``, calls through ``capture``, returns a record."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

from prefectish.engine import clock as clocks
from prefectish.engine.capture import Error, Value, capture
from prefectish.engine.context import bind, current, unbind
from prefectish.engine.deferred import Deferred
from prefectish.engine.handlers import call_handlers
from prefectish.engine.jobs.envelope import SIMPLE
from prefectish.engine.jobs.failures import of_bounded_size
from prefectish.engine.jobs.job import ChainSpec, Record, StepSpec
from prefectish.engine.pause import ANSWERS
from prefectish.engine.plan.item_key import ITEM_KEY, item_key, name_of
from prefectish.engine.plan.map_domain import SCALAR, UNMAPPABLE, Measure, element_width, measure
from prefectish.engine.state import (
    Crashed,
    Failed,
    Looped,
    Pending,
    Retrying,
    Running,
    Scheduled,
    State,
    Success,
    plain_success,
)
from prefectish.engine.transitions import check, validating
from prefectish.engine.worker import cost
from prefectish.engine.worker.attempt_context import BEFORE_TURN, CRASH_PROGRESS, KILLED_PROCESS, MISS, AttemptContext
from prefectish.engine.worker.body import UNFINISHED, call_body, finished
from prefectish.engine.worker.decide import CallBody, Finish, NotReady, after, before, retry, within_retries
from prefectish.engine.worker.input_check import CHECK_INPUTS
from prefectish.engine.worker.logs.capture import safely
from prefectish.engine.worker.parts import AttemptPart, Call, Parts, limited_by_run, parts_of
from prefectish.engine.worker.redaction import redacted_state
from prefectish.engine.worker.time_limit import AttemptOverran, Outcome, bounded, is_run_over, surrounding
from prefectish.engine.worker.tracebacks import is_quit, shorten_traceback, where_to_debug
from prefectish.errors import describe, is_plain
from prefectish.kinds import is_a
from prefectish.secrets import masking

PENDING = Pending()
RUNNING = Running("Starting task run.")


class Called(NamedTuple):
    """A body that was called before anything else of its attempt was done, as nothing had to be.

    Attributes
    ----------
    outcome
        What it returned or raised.
    seconds
        Its time.
    """

    ctx: AttemptContext
    inputs: dict[str, Any]
    outcome: Value | Error
    seconds: float

    @property
    def is_plain(self) -> bool:
        """Whether it plainly succeeded, with a result that needs no look."""
        is_simple = type(self.outcome) is Value and type(self.outcome.value) in SIMPLE
        return is_simple and self.ctx.lines is None and masking.pattern is None


def is_bare(spec: StepSpec, run: Mapping[str, Any], waits: bool = False) -> bool:
    """Whether an attempt that begins now is the call of the body and nothing else, if all goes well.

    What it uses of the processor is not measured of a body that `waits`: that is spent in the loop of many.
    """
    if spec.bare is None:
        spec.bare = _is_bare(spec, run)
    if not spec.bare or masking.pattern is not None or clocks.current is not clocks.MACHINE:
        return False
    if spec.took > cost.WORTHWHILE and cost.MEASURES in run and not waits:
        return False
    return surrounding.get() is None


def _is_bare(spec: StepSpec, run: Mapping[str, Any]) -> bool:
    """Whether nothing is attached to a step: no part, handler, limit, tag, or length for others to know."""
    attached = spec.late or spec.fills or spec.by_position or spec.named_by_key or spec.derives
    if attached or not spec.plain or spec.limit is not None or spec.task.state_handlers or spec.task.tags:
        return False
    if "task_loop_count" in run or "task_tags" in run:
        return False
    if spec.measure and not (spec.mapped and spec.measure < Measure.ELEMENTS) and spec.measure is not Measure.QUIETLY:
        return False
    return not parts_of(spec, bool(run.get(CHECK_INPUTS))) and not any(
        i.key is None or i.flattened for i in spec.inputs
    )


def bare_inputs(spec: StepSpec, upstream: Sequence[State]) -> dict[str, Any] | None:
    """Return the inputs of a bare step; None if one of them needs a look."""
    inputs = dict(spec.constants)
    for i, state in zip(spec.inputs, upstream, strict=True):
        if type(state) is not Success or type(state._raw_result) not in SIMPLE:
            return None
        inputs[i.key] = state._raw_result  # type: ignore[index]
    return inputs


def call_bare(
    run: Mapping[str, Any], spec: StepSpec, index: int, inputs: dict[str, Any], upstream: Sequence[State]
) -> Called:
    """Call the body of a bare step; of what is upstream only a step whose keys are computed needs to know."""
    ctx = AttemptContext(run, spec, index, PENDING)
    token = bind(ctx)
    began = perf_counter()
    try:
        if spec.computes_key:
            _set_keys(spec, ctx, upstream, run)
        outcome = capture(spec.task.run, **inputs)
    finally:
        seconds = perf_counter() - began
        unbind(token)
    spec.took = max(seconds, cost.FADES * spec.took)
    return Called(ctx, inputs, outcome, seconds)


def run_step(
    chain: ChainSpec,
    position: int,
    index: int,
    upstream: Sequence[State],
    start: State,
    probe_only: bool = False,
    called: Called | None = None,
) -> Record:
    """Run one attempt of a step.

    Parameters
    ----------
    index
        Position of the row in its map, -1 for a single step.
    upstream
        The state of each input of the step.
    start
        The state it starts from: Pending, or what a former attempt left (Retrying, Resume, ...).
    probe_only
        Return `start` instead of running the body.
    called
        Its body, if that was called already.
    """
    spec = chain.steps[position]
    if called is None and start is PENDING and not probe_only and is_bare(spec, chain.run):
        inputs = bare_inputs(spec, upstream)
        called = None if inputs is None else call_bare(chain.run, spec, index, inputs, upstream)
    if called is not None and called.is_plain:
        state = plain_success(called.outcome.value)  # type: ignore[union-attr]
        return Record(state, called.seconds, None, None, None, called.ctx.key)
    return _run_attempt(chain.run, spec, index, upstream, start, probe_only, called)


def _run_attempt(
    run: Mapping[str, Any],
    spec: StepSpec,
    index: int,
    upstream: Sequence[State],
    start: State,
    probe_only: bool,
    called: Called | None,
) -> Record:
    """Run one attempt of a step with all that belongs to it."""
    ctx = AttemptContext(run, spec, index, start) if called is None else called.ctx
    token = bind(ctx)
    clock = clocks.current
    used = cost.begin() if spec.took > cost.WORTHWHILE and cost.MEASURES in run else None
    began = perf_counter() if clock is clocks.MACHINE else clock.begin()
    try:
        if called is None and (spec.computes_key or spec.named_by_key):
            bounded(ctx, "the key of its item", _set_keys, spec, ctx, upstream, run)
        if called is None:
            state = _attempt(spec, ctx, upstream, start, probe_only)
        else:
            state = _run_body(spec, ctx, (), called.inputs, RUNNING, called.outcome)
    except AttemptOverran as overran:
        state = overran.state
    finally:
        seconds = perf_counter() - began if clock is clocks.MACHINE else clock.end(began)
        unbind(token)
    if type(state) is Retrying and not (isinstance(start, Retrying) and state.run_count == start.run_count):
        state = within_retries(spec, state, ctx.turn_count)  # a handler may have asked for it
    state = _settled(spec, ctx, state)
    due_in_seconds = width = None
    if spec.measure and (type(state) is Success or state.is_successful()):
        try:
            width = bounded(ctx, "the length of its result", _width, ctx, state)
        except AttemptOverran as overran:
            state = overran.state
    elif isinstance(state, Scheduled) and state.start_time is not None:
        due_in_seconds = _due_in(ctx, state.start_time)
    lines = None if ctx.lines is None else ctx.lines.all()
    paid = None if used is None or _runs_elsewhere(spec) else cost.spent(used, upstream)
    spec.took = max(seconds, cost.FADES * spec.took)
    seconds += 0.0 if called is None else called.seconds
    return Record(state, seconds, due_in_seconds, width, None, ctx.key, lines, True, paid)


def _settled(spec: StepSpec, ctx: AttemptContext, state: State) -> State:
    """Return the state of an attempt as it is kept: without secrets, of bounded size, with its key and name."""
    if masking.pattern is not None:
        state = redacted_state(state)
    if type(state) is not Success and is_a(state._raw_result, BaseException):
        state = of_bounded_size(state)
    if spec.named_by_key and ctx.item_key is not None:
        state = state.replace(context={**state.context, ITEM_KEY: ctx.item_key})
    if ctx.name is not None:
        state = state.replace(context={**state.context, "task_run_name": ctx.name})
    return state


def _runs_elsewhere(spec: StepSpec) -> bool:
    """Whether a body runs in another thread, or a process of its own, and spends nothing of this one."""
    return surrounding.get() is not None or any(part.wraps for part in spec.parts or ())


def _set_keys(spec: StepSpec, ctx: AttemptContext, upstream: Sequence[State], run: Mapping[str, Any]) -> None:
    """Compute the key of the item of an attempt, and what is named after it."""
    if spec.computes_key:
        ctx.key = ctx.item_key = item_key(spec, upstream, run)
    if spec.reduces:
        ctx.item_key = ctx.start.context.get(ITEM_KEY)
    elif spec.named_by_key:
        ctx.item_key = name_of(spec, upstream, ctx.key)


def _attempt(spec: StepSpec, ctx: AttemptContext, upstream: Sequence[State], start: State, probe_only: bool) -> State:
    in_limited_run = ctx.is_timed = surrounding.get() is not None
    if in_limited_run and is_run_over():
        return start  # nothing begins, and the client decides on its state
    verdict = before(spec, upstream) if spec.limit is None else _decide(spec, ctx, upstream)
    if type(verdict) is not CallBody:
        return _without_body(spec, ctx, start, verdict)
    inputs = verdict.inputs
    parts = spec.parts
    if parts is None or in_limited_run:
        parts = _parts(spec, ctx, in_limited_run)
    if parts and (found := _found(spec, parts, ctx, start, inputs)) is not None:
        return found
    if probe_only:
        return _missed(spec, ctx, start)
    state, aborted = _change(ctx, start, RUNNING)
    if aborted or (state is not RUNNING and not state.is_running()):
        return state
    for part in parts:
        refusal = _ask(ctx, part, part.begin, inputs)
        if refusal is not None:
            return _change(ctx, state, refusal)[0]
    state = _run_body(spec, ctx, parts, inputs, state)
    for part in parts:
        _ask(ctx, part, part.end, state)
    return state


def _decide(spec: StepSpec, ctx: AttemptContext, upstream: Sequence[State]) -> Finish | CallBody | NotReady:
    """Decide as `before` does, in the time of the attempt if that calls code of the user: a trigger, unpickling."""
    if spec.plain and not spec.late and not any(is_a(state._raw_result, Deferred) for state in upstream):
        return before(spec, upstream)
    return bounded(ctx, "its trigger, or reading its inputs,", before, spec, upstream)


def _parts(spec: StepSpec, ctx: AttemptContext, in_limited_run: bool) -> Parts:
    """Return the optional parts of an attempt; those of the step are listed at its first one."""
    if spec.parts is None:
        spec.parts = parts_of(spec, bool(ctx.run.get(CHECK_INPUTS)))
    return limited_by_run(spec.parts) if in_limited_run else spec.parts


def _missed(spec: StepSpec, ctx: AttemptContext, start: State) -> State:
    """Return the state from which a run starts whose cache has nothing, with its key if others may have the same."""
    if ctx.miss is None or ctx.miss.same_key is None or spec.cache is None or not spec.cache.is_isolated:
        return start
    return start.replace(context={**start.context, MISS: ctx.miss})


def _without_body(spec: StepSpec, ctx: AttemptContext, start: State, verdict: Finish | CallBody | NotReady) -> State:
    """Return the state of a step that ends here, or `start` if something upstream is not finished."""
    if not isinstance(verdict, Finish):
        return start
    return _change(ctx, start, verdict.state)[0]


def _found(spec: StepSpec, parts: Parts, ctx: AttemptContext, start: State, inputs: dict[str, Any]) -> State | None:
    """Return the state that stands for the run of the body, if one of the parts has one."""
    for part in parts:
        found = _ask(ctx, part, part.before_body, inputs)
        if found is not None:
            return found if part.replays else _change(ctx, start, found)[0]
    return None


def _run_body(
    spec: StepSpec,
    ctx: AttemptContext,
    parts: Parts,
    inputs: dict[str, Any],
    state: State,
    first: Value | Error | None = None,
) -> State:
    """Run the body, and return the state after it: final, or that of a retry. `first` is what its first call gave."""
    state, aborted = _call_until_done(spec, ctx, parts, inputs, state, first)
    if aborted or type(state) is Success:
        return state
    if state.is_failed() and not (ctx.allowance is not None and ctx.allowance.spent):
        return _retried(spec, ctx, state)
    return _with_progress(state, ctx)


def _retried(spec: StepSpec, ctx: AttemptContext, state: State) -> State:
    """Return the state that follows a failure of the body: itself if it is final."""
    seconds, wall = clocks.current.seconds(), clocks.now()
    again = bounded(ctx, "what decides on its retry", retry, spec, state, ctx.turn_count, lambda: wall, random.random)
    if again is None and type(state) is Crashed and state.cause == KILLED_PROCESS and spec.task.crash_retries:
        return state.replace(context={**state.context, CRASH_PROGRESS: _crash_progress(ctx)})
    if again is None:
        return state.replace(context={**state.context, BEFORE_TURN: ctx.before}) if ctx.before else state
    if isinstance(again, Retrying) and again.start_time is not None:
        ctx.due = again.start_time, seconds + (again.start_time - wall).total_seconds()
    return _change(ctx, state, _with_progress(again, ctx))[0]


def _with_progress(state: State, ctx: AttemptContext) -> State:
    """Add to the context of a waiting state what the next attempt continues from: turn of its loop, time used."""
    if not isinstance(state, Scheduled):
        return state
    if ctx.loop_count or ctx.before:
        state = state.replace(context={**state.context, **_turn_context(ctx)})
    if ctx.before and isinstance(state, Retrying):  # the client tells attempts apart by their number
        state = state.replace(run_count=ctx.run_count)
    answers = getattr(ctx, ANSWERS, None)
    if answers and ANSWERS not in state.context:  # no question is asked again because of a retry
        state = state.replace(context={**state.context, ANSWERS: answers})
    return state if ctx.allowance is None else ctx.allowance.carried_by(state)


def _crash_progress(ctx: AttemptContext) -> dict[str, Any]:
    """Return what an attempt after a crash continues from; it is none of those that ``max_retries`` counts."""
    progress = _with_progress(Retrying(run_count=ctx.run_count), ctx).context
    return {**progress, "task_run_count": ctx.run_count, BEFORE_TURN: ctx.before + 1}


def _call_until_done(
    spec: StepSpec,
    ctx: AttemptContext,
    parts: Parts,
    inputs: dict[str, Any],
    state: State,
    first: Value | Error | None,
) -> tuple[State, bool]:
    """Call the body until it stops raising LOOP; return the state after its handlers, and whether one aborted."""
    while True:
        if parts or spec.by_position:
            outcome = _call_body(spec, ctx, parts, inputs)
        else:  # what call_body does, without a jump: most bodies are called here
            outcome = capture(spec.task.run, **inputs) if first is None else first
            first = None
            if type(outcome) is Error or issubclass(type(outcome.value), UNFINISHED):
                outcome = finished(outcome, spec.task.run)
        if type(outcome) is Error:
            new = _after_error(spec, ctx, outcome)
        else:
            new = after(spec, outcome, ctx.run_count - ctx.before)
        for part in parts:
            if type(new) is Success:  # so is what a body that raised SUCCESS ends with
                new = _ask(ctx, part, part.after_body, inputs, new)
        new, aborted = _ended(ctx, state, new)
        if aborted or not isinstance(new, Looped):
            return new, aborted
        ctx.begin_turn(new.result, new.loop_count)
        state, aborted = _change(ctx, new, RUNNING)
        if aborted or not state.is_running():
            return state, aborted


def _call_body(spec: StepSpec, ctx: AttemptContext, parts: Parts, inputs: dict[str, Any]) -> Value | Error:
    """Call the body in what parts put around the call, the first of them outermost."""
    call: Call = partial(call_body, spec.task, inputs, spec.by_position)
    for part in reversed(parts):
        if part.wraps:
            call = partial(part.around, ctx, inputs, call)
    return call()


def _ended(ctx: AttemptContext, old: State, ended: State) -> tuple[State, bool]:
    """Let the handlers see how a body ended; a failure that one of them hides is logged, as the client sees none."""
    new, aborted = _change(ctx, old, ended)
    if type(ended) is Failed and not new.is_failed():
        text = "failed: %s; a state handler made it %s"
        safely(ctx["logger"].warning, text, describe(ended.result), type(new).__name__)
    return new, aborted


def _after_error(spec: StepSpec, ctx: AttemptContext, outcome: Error) -> State:
    """Return the state after what a body raised."""
    error = outcome.exception
    if is_quit(error):
        raise KeyboardInterrupt("the debugger was quit")
    shorten_traceback(error)
    instead = where_to_debug(error)
    if instead is not error:
        outcome = Error(instead)
    if spec.limit is None or is_plain(instead):
        return after(spec, outcome, ctx.turn_count)
    return bounded(ctx, "the text of its exception", after, spec, outcome, ctx.turn_count)


def _ask(ctx: AttemptContext, part: AttemptPart, method: Callable[..., Outcome], /, *args: Any) -> Outcome:
    """Call a method of a part, within the time limit of the attempt if it may take any time."""
    if ctx.spec.limit is None or not part.calls_user:
        return method(ctx, *args)
    return bounded(ctx, "what belongs to its result, its name or its cache", method, ctx, *args)


def _unchecked_change(ctx: AttemptContext, old: State, new: State) -> tuple[State, bool]:
    """Let the task's handlers see a change of state; they may replace the new one."""
    task = ctx.spec.task
    if not task.state_handlers:
        return new, False
    transition = bounded(ctx, "its state handlers", call_handlers, task, task.state_handlers, old, new)
    return transition.state, transition.aborted


def _checked_change(ctx: AttemptContext, old: State, new: State) -> tuple[State, bool]:
    """Hold a change of state against the table before the handlers see it."""
    index = current().get("map_index")
    check(old, new, ctx.spec.label_of(-1 if index is None else index))
    return _unchecked_change(ctx, old, new)


_change = _checked_change if validating() else _unchecked_change


def _turn_context(ctx: AttemptContext) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if ctx.loop_count:
        found |= {"task_loop_count": ctx.loop_count, "task_loop_result": ctx.loop_result}
    if ctx.before:
        found |= {"task_run_count": ctx.run_count, BEFORE_TURN: ctx.before}
    return found


def _width(ctx: AttemptContext, state: State) -> Any:
    """Return what a map over the result has to know; of a child that is flattened, the number of its elements."""
    spec = ctx.spec
    if spec.measure is Measure.QUIETLY and type(state._raw_result) in SIMPLE:
        return None  # it travels to the client, which measures it if a map needs that
    if spec.mapped:
        return _elements(ctx, state) if spec.measure >= Measure.ELEMENTS else None
    outcome = capture(measure, state.result, 1 if spec.measure is Measure.QUIETLY else spec.measure)
    if isinstance(outcome, Value):
        return outcome.value
    return (UNMAPPABLE, type(state._raw_result).__name__, f"a list: reading it raised {describe(outcome.exception)}")


def _elements(ctx: AttemptContext, state: State) -> int:
    outcome = capture(element_width, state.result)
    width: int = outcome.value if isinstance(outcome, Value) else SCALAR
    if width == SCALAR and ctx.spec.measure is not Measure.QUIETLY and not state.is_skipped():
        token = bind(ctx)
        text = "%s did not return an iterable but %s; flatten takes it as one element"
        safely(ctx["logger"].warning, text, ctx.spec.label_of(ctx.index), type(state.result).__name__)
        unbind(token)
    return width


def _due_in(ctx: AttemptContext, start_time: datetime) -> float:
    """Return the seconds until a state is due; a wall clock that is set while handlers run moves no retry."""
    if ctx.due is not None and ctx.due[0] == start_time:
        return max(0.0, ctx.due[1] - clocks.current.seconds())
    return max(0.0, (start_time - clocks.now()).total_seconds())
