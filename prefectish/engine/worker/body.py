"""Call a body: the one place that knows what else than a value may come of it: a coroutine, a generator, a state."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from prefectish.engine.capture import Error, Value, capture
from prefectish.engine.side_thread import SideThread, current_side_thread
from prefectish.engine.signals import ENDRUN
from prefectish.engine.state import Paused, Retrying, State
from prefectish.engine.worker.redaction import redacted
from prefectish.engine.worker.shared_loop import awaited, shares_loop
from prefectish.engine.worker.yielding import collected
from prefectish.secrets import masking
from prefectish.tasks.signatures import as_given, functions_behind
from prefectish.tasks.task import Task

#: What calling an async function returns.
_ASYNC = frozenset({CoroutineType, AsyncGeneratorType})
#: Classes of what a body may return that is not a value yet: :func:`finished` looks at them.
UNFINISHED = (CoroutineType, AsyncGeneratorType, GeneratorType, State)


def call_body(task: Task, inputs: dict[str, Any], by_position: Sequence[str] = ()) -> Value | Error:
    """Call ``task.run`` with its inputs, some of them by position, and return what :func:`finished` makes of it."""
    if not by_position:
        return finished(capture(task.run, **inputs), task.run)
    args, named = as_given(inputs, by_position)
    return finished(capture(task.run, *args, **named), task.run)


def finished(outcome: Value | Error, body: Callable[..., Any]) -> Value | Error:
    """Return what comes of a body whose call gave `outcome`.

    A coroutine is run to its end, the items of a generator function are collected, a state that was returned is what
    ``ENDRUN(state)`` asks for, and an error is redacted.
    """
    if type(outcome) is Value and type(outcome.value) in _ASYNC:
        outcome = capture(_finish, outcome.value)
        outcome = outcome.value if type(outcome) is Value else outcome
    if type(outcome) is Value and type(outcome.value) is GeneratorType and _made_by(body, outcome.value):
        outcome = collected(outcome.value)
    if type(outcome) is Value and issubclass(type(outcome.value), State):
        outcome = Error(_asked_for(outcome.value))
    if type(outcome) is Error and masking.pattern is not None:
        return Error(redacted(outcome.exception))
    return outcome


def _made_by(body: Callable[..., Any], generator: GeneratorType[Any, Any, Any]) -> bool:
    """Whether a body is the function of a generator; one that it only returns is a value like any other."""
    return any(getattr(f, "__code__", None) is generator.gi_code for f in functions_behind(body))


def _asked_for(state: State) -> BaseException:
    """Return what a body asks for that returned a state."""
    if state.is_finished() or isinstance(state, Retrying | Paused):
        return ENDRUN(state)
    return TypeError(
        f"a body must return a state in which a task can end, Retrying or Paused, got {type(state).__name__}; "
        f"return a value, or a finished state"
    )


def _finish(value: Any) -> Value | Error:
    """Run a coroutine to its end, in a side thread if a loop is already running in this one."""
    import asyncio

    if type(value) is AsyncGeneratorType:
        return Error(_useless(value))
    if shares_loop():
        return awaited(value)
    try:
        asyncio.get_running_loop()
        is_running = True
    except RuntimeError:
        is_running = False  # and not in here: the body's own error would come "during handling" of this one
    return _in_thread(value) if is_running else capture(_run, value)


def _useless(generator: AsyncGeneratorType[Any, Any]) -> TypeError:
    name = generator.__name__
    return TypeError(
        f"{name} is an async generator, which cannot be iterated over once its event loop has ended; "
        f"collect in the body, `return [x async for x in ...]`"
    )


def _in_thread(coroutine: Coroutine[Any, Any, Any]) -> Value | Error:
    thread = SideThread(partial(capture, _run, coroutine), "prefectish-async-body")
    try:
        outcome = thread.wait()
    except BaseException:  # an interrupt, or the alarm of a time limit
        thread.abandon()
        raise
    assert outcome is not None
    return outcome


def _run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in a loop of its own, which this thread does not keep."""
    import asyncio

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(_stoppable(coroutine))


async def _stoppable(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Await a coroutine, which :meth:`SideThread.abandon` may cancel."""
    import asyncio

    thread = current_side_thread()
    if thread is not None:
        task = asyncio.current_task()
        assert task is not None
        thread.stop = partial(asyncio.get_running_loop().call_soon_threadsafe, task.cancel)
    try:
        return await coroutine
    finally:
        if thread is not None:
            thread.stop = None
