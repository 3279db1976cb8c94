"""One task run, decided: states of the inputs in, what to do out. No I/O, no clock of its own, no executor.

The order of the checks is the contract:

1. An input that is not finished: not ready. Nothing happens, no handler is called.
2. A skipped input skips the task, unless ``skip_on_upstream_skip=False``. Before the trigger: one failed and
   one skipped input give Skipped.
3. An item that cannot be taken out of its list fails the task; the upstream has not failed: no trigger is called.
4. The trigger.
5. The inputs are read from the keyed edges. One that cannot be read fails the task.
6. The body (:mod:`prefectish.engine.worker.attempt` calls it), whose outcome :func:`after` turns into a state.
7. A failure of the body is retried if the options of the task allow it (:func:`retry`); a failed trigger never is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from prefectish.engine import signals
from prefectish.engine.capture import Error, Value, capture, is_true
from prefectish.engine.clock import later
from prefectish.engine.deferred import Deferred
from prefectish.engine.jobs.envelope import SIMPLE
from prefectish.engine.jobs.slots import fill_slots
from prefectish.engine.plan.map_domain import SCALAR, SKIPPED_UPSTREAM, element_width, skips_reader
from prefectish.engine.state import (
    Crashed,
    Failed,
    Finished,
    Mapped,
    Retrying,
    Skipped,
    State,
    Success,
    TimedOut,
    TriggerFailed,
)
from prefectish.engine.state_column import SUCCEEDED, kinds_of
from prefectish.engine.transitions import can_end
from prefectish.engine.worker.attempt_context import CRASH_PROGRESS
from prefectish.errors import MAX_TEXT_LENGTH, after_earlier, describe, text_of
from prefectish.kinds import is_a
from prefectish.secrets.lazy import LazySecret
from prefectish.secrets.masking import mask
from prefectish.tasks import retries
from prefectish.tasks.hooks import RunFacts
from prefectish.tasks.mapping import UNMAPPABLE_RESULT, Unmappable, check_result, checked_item, items_of

if TYPE_CHECKING:
    from prefectish.engine.jobs.job import StepSpec
    from prefectish.engine.plan.steps import Input

#: Begins the message of a task whose body raised.
BODY_FAILED = "Error during execution of task: "

#: In the context of a state that stands for an item that could not be read.
UNREAD = "unread_item"


def unread_item(path: Sequence[int], error: BaseException) -> Failed:
    """Return the state that stands for an item that could not be taken out of its list."""
    text = text_of(error)
    if isinstance(error, LookupError):
        text = f"{describe(error)}; what is mapped over must have an item at each position below its length"
    places = [place for place in path if place >= 0]  # below 0: what is wrong with the whole list
    what = f"item {places}" if places else "the item"
    return Failed(f"{what} could not be read: {text}", error, context={UNREAD: True})


class Finish:
    """The task ends here, without its body."""

    __slots__ = ("error", "state")

    def __init__(self, state: State, error: BaseException | None = None) -> None:
        self.state = state
        self.error = error


class CallBody:
    """Call the body with these inputs."""

    __slots__ = ("inputs",)

    def __init__(self, inputs: dict[str, Any]) -> None:
        self.inputs = inputs


class NotReady:
    """Something upstream is not finished."""

    __slots__ = ()


NOT_READY = NotReady()


def before(spec: StepSpec, upstream: Sequence[State]) -> Finish | CallBody | NotReady:
    """Decide what to do with a task whose inputs have these states.

    Parameters
    ----------
    upstream
        One state an input of `spec`; a mapped input gives the state of its child, an unmapped input from a mapped task
        gives the Mapped state with all children.
    """
    if spec.plain:
        for state in upstream:
            if type(state) is not Success:
                break
        else:
            return _read(spec, upstream)
    if not all(finished(state) and not is_undecided(state) for state in upstream):
        return NOT_READY
    if spec.reduces:
        return _before_combining(spec, upstream)
    if spec.task.skip_on_upstream_skip and any(skips_reader(False, state) for state in upstream):
        return Finish(Skipped(SKIPPED_UPSTREAM))
    for i, state in zip(spec.inputs, upstream, strict=True):
        if type(state) is Failed and UNREAD in state.context and not i.allow_failure:
            refused = f"{UNMAPPABLE_RESULT} " if is_a(state.result, Unmappable) else ""
            return Finish(Failed(f"{refused}argument {i.key!r}: {state.message}", state.result), state.result)
    stopped = _ask_trigger(spec, upstream)
    return _read(spec, upstream) if stopped is None else stopped


def _before_combining(spec: StepSpec, upstream: Sequence[State]) -> Finish | CallBody:
    """Decide about a call that combines results: failures are for the trigger, and left out if it passes."""
    group = next(n for n, i in enumerate(spec.inputs) if i.key is not None)
    children = [child for child in getattr(upstream[group], "map_states", ()) if child is not None]
    if not children:
        text = f"{spec.inputs[group].source_label} is an empty map: there is nothing to combine"
        return Finish(Failed(text, ValueError(text)))
    kept = [child for child in children if child.is_successful() and not child.is_skipped()]
    if spec.task.skip_on_upstream_skip:
        others = any(isinstance(state, Skipped) for state in upstream)
        if others or (any(child.is_skipped() for child in children) and (spec.plain or not kept)):
            return Finish(Skipped(SKIPPED_UPSTREAM))
    stopped = _ask_trigger(spec, upstream)
    if stopped is not None:
        return stopped
    if not kept:
        text = f"none of the {len(children)} results that it combines is there: they failed, or were skipped"
        return Finish(Failed(text, ValueError(text)))
    combined = [*upstream]
    combined[group] = Mapped(None, map_states=kept)
    return _read(spec, combined)


def finished(state: State) -> bool:
    """Whether a state, and every child of a Mapped one, is finished."""
    if not isinstance(state, Mapped):
        return isinstance(state, Finished)
    children = state.map_states or ()
    kinds = kinds_of(children)
    if not all(issubclass(kind, Finished) for kind in kinds):
        return False
    return Mapped not in kinds or all(finished(child) for child in children if child is not None)


def is_undecided(state: State) -> bool:
    """Whether a state is that of an isolated body that died and may be retried, which the client decides."""
    return type(state) is Crashed and CRASH_PROGRESS in state.context


def _ask_trigger(spec: StepSpec, upstream: Sequence[State]) -> Finish | None:
    """Call the trigger of the task; return None if it passed."""
    judged = ((i, _judged(i, state)) for i, state in zip(spec.inputs, upstream, strict=True) if not i.given)
    return ask_trigger(spec.task.trigger, {i.edge: state for i, state in judged if state is not None})


def ask_trigger(trigger: Callable[..., Any], states: Mapping[Any, State]) -> Finish | None:
    """Call a trigger with the states of upstream tasks by their edges; return None if it passed."""
    answer = capture(is_true, trigger, states)
    if isinstance(answer, Value):
        if answer.value:
            return None
        text = f'Trigger was "{getattr(trigger, "__name__", trigger)}" but it did not pass.'
        return Finish(TriggerFailed(text, signals.TRIGGERFAIL(text)))
    error = answer.exception
    if isinstance(error, signals.Signal):
        return Finish(_asked_for(error.state))
    text = f"Unexpected error while checking task trigger: {describe(error)}"
    return Finish(TriggerFailed(text, error), error)


def _judged(i: Input, state: State) -> State | None:
    """Return an input's state for the trigger: without failures that are allowed; None if nothing is left of it."""
    if not i.allow_failure:
        return failed_in(state) or state if i.mapped else state
    if state.is_failed():
        return None
    if i.mapped or not isinstance(state, Mapped) or not state.map_states:
        return state
    kept = [child for child in state.map_states if child is None or not child.is_failed()]
    return Mapped(state.message, map_states=kept, context=state.context) if kept else None


def failed_in(state: State) -> State | None:
    """Return a state that is not a success: itself, or of a map that is one item of a list, that of a child."""
    if not isinstance(state, Mapped):
        return None if state.is_successful() else state
    return next((child for child in state.map_states or () if child is not None and not child.is_successful()), None)


def _read(spec: StepSpec, upstream: Sequence[State]) -> Finish | CallBody:
    """Read the inputs from the keyed edges; constants are inputs too."""
    inputs = dict(spec.constants)
    for name in spec.late:
        opened = capture(inputs[name].get)
        if is_a(opened, Error):
            return Finish(Failed(text_of(opened.exception), opened.exception), opened.exception)
        inputs[name] = opened.value
    secret = False
    for i, state in zip(spec.inputs, upstream, strict=True):
        if i.key is None:
            continue
        value = state._raw_result
        if type(value) is LazySecret and spec.derives and not i.mapped:
            inputs[i.key], secret = value, True
            continue
        if (
            i.flattened
            or issubclass(type(value), Deferred)
            or type(state) is Mapped
            or (i.mapped and type(value) not in SIMPLE)
        ):
            outcome = capture(_input_of, i, state)
            if isinstance(outcome, Error):
                return Finish(_unread(i.key, outcome.exception), outcome.exception)
            value = outcome.value
        inputs[i.key] = value
    if spec.fills:
        filled = capture(fill_slots, inputs, [i for i in spec.inputs if i.inside])
        if isinstance(filled, Error):  # results that cannot be keys, for example
            text = f"an argument could not be assembled: {describe(filled.exception)}"
            return Finish(Failed(text, filled.exception), filled.exception)
    return _withheld(spec, inputs) if secret else CallBody(inputs)


def _unread(key: str, error: BaseException) -> Failed:
    text = f"{UNMAPPABLE_RESULT} argument {key!r}: {error}" if isinstance(error, Unmappable) else text_of(error)
    return Failed(text, error)


def _withheld(spec: StepSpec, inputs: dict[str, Any]) -> Finish:
    """Return how to build a value of which a part is secret; it is built once here, so that an error shows here."""
    result = LazySecret(spec.task.run, inputs, spec.label)
    made = capture(result.get)
    if isinstance(made, Error):
        return Finish(Failed(failure_text(made.exception), made.exception), made.exception)
    return Finish(Success(SUCCEEDED, result))


def _input_of(i: Input, state: State) -> Any:
    """Return what a body is given of a state; of one child, what stands for a value that Dask has is refused."""
    if i.mapped:
        return checked_item(state.result)
    return flattened(state.result) if i.flattened else state.result


def flattened(value: Any) -> Any:
    """Remove one level of a list of lists; a value without a second level is used as it is.

    Examples
    --------
    >>> flattened([[1, 2], 3, []]), flattened([1, 2])
    ([1, 2, 3], [1, 2])

    Raises
    ------
    Unmappable
        An item is a table, or a list that is not as long as it says.
    """
    if element_width(value) == SCALAR:
        return value
    flat: list[Any] = []
    for item in items_of(value):
        if element_width(item) == SCALAR:
            flat.append(item)
        else:
            flat.extend(items_of(item))
    return flat


def after(spec: StepSpec, outcome: Value | Error, run_count: int) -> State:
    """Turn the outcome of a body into a state.

    Parameters
    ----------
    run_count
        Number of this attempt, from 1.
    """
    if type(outcome) is Value:
        if type(outcome.value) in SIMPLE:
            return Success(SUCCEEDED, outcome.value)
        refused = capture(check_result, outcome.value)
        if type(refused) is Value:
            return Success(SUCCEEDED, outcome.value)
        return Failed(f"its result cannot be kept: {text_of(refused.exception)}", refused.exception)
    error = outcome.exception
    if isinstance(error, signals.TimeoutSignal):
        return TimedOut("Task timed out during execution.", error)
    if isinstance(error, signals.Signal):
        return _signalled(spec, error.state, run_count)
    return Failed(failure_text(error), error)


def _signalled(spec: StepSpec, state: State, run_count: int) -> State:
    if not isinstance(state, Retrying):
        return _asked_for(state)
    counted = within_retries(spec, state, run_count)
    return counted.replace(run_count=run_count) if counted is state else counted


def within_retries(spec: StepSpec, state: Retrying, run_count: int) -> State:
    """Return the Retrying state that a body or a handler asks for; Failed if ``max_retries`` is used up.

    Without ``max_retries`` a task may ask as often as it likes, as one that polls does.
    """
    limit = spec.task.max_retries
    if limit and run_count > limit:
        return Failed(f"RETRY signal, but max_retries={limit} is used up", state._raw_result)
    return state


def _asked_for(state: State) -> State:
    """Return the state that a signal asks for; Failed in the place of one in which no task can end or wait."""
    if can_end(state):
        return state
    text = f"a signal must ask for a state in which a task can end or wait, got {type(state).__name__}"
    return Failed(text, ValueError(text))


def failure_text(error: BaseException) -> str:
    """Return the message of a failed run, cut to `MAX_TEXT_LENGTH` characters and a mark with the full length."""
    text = mask(f"{BODY_FAILED}{_repr(error)}")
    if len(text) <= MAX_TEXT_LENGTH:
        return text
    return f"{text[:MAX_TEXT_LENGTH]}… (cut, {_length(error)} characters)"


def _repr(error: BaseException) -> str:
    outcome = capture(repr, error)
    return outcome.value if isinstance(outcome, Value) else describe(error)


def _length(error: BaseException) -> int:
    outcome = capture(str, error)
    return len(outcome.value) if isinstance(outcome, Value) else 0


def retry(
    spec: StepSpec, state: State, run_count: int, now: Callable[[], datetime], random: Callable[[], float]
) -> State | None:
    """Return the Retrying state that follows a failure, None if it is final.

    Parameters
    ----------
    state
        The failed state of attempt number `run_count`.
    now, random
        Return the current aware time, and a number in [0, 1); called only if there is a retry.
    """
    # `max_retries` counts attempts that ended in the user's code; what a trigger refused it would refuse again, also
    # where a body says so.
    if isinstance(state, Crashed | TriggerFailed):
        return None
    task = spec.task
    error = state._raw_result if is_a(state._raw_result, BaseException) else None
    if not retries.should_retry(run_count, task.max_retries, task.retry_on, error):
        return None
    if task.retry_condition_fn is not None:
        asked = capture(is_true, task.retry_condition_fn, task, RunFacts.here(), state)
        if isinstance(asked, Error):
            text = f"retry_condition_fn of {spec.label} failed: {describe(asked.exception)}"
            return Failed(text, asked.exception)
        if not asked.value:
            return None
    delay = capture(
        retries.delay_seconds,
        run_count,
        delay=task.retry_delay,
        backoff=task.retry_backoff,
        jitter=task.retry_jitter,
        error=error,
        random=random,
    )
    if isinstance(delay, Error):
        text = f"retry delay of {spec.label} could not be computed: {describe(delay.exception)}"
        return Failed(f"{text}{after_earlier(delay.exception, error)}", delay.exception)
    text = f"Retrying Task (after attempt {run_count} of {task.max_retries + 1})"
    return Retrying(text, state._raw_result, start_time=later(now(), delay.value), run_count=run_count)
