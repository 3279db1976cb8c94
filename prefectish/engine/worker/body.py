"""Call a body: the one place that knows a body may be a coroutine function."""

from __future__ import annotations

from collections.abc import Coroutine
from functools import partial
from types import AsyncGeneratorType, CoroutineType
from typing import Any

from prefectish.engine.capture import Error, Value, capture
from prefectish.engine.side_thread import SideThread, current_side_thread
from prefectish.engine.worker.redaction import redacted
from prefectish.secrets import masking
from prefectish.tasks.task import Task

#: What calling an async function gives.
ASYNC = frozenset({CoroutineType, AsyncGeneratorType})


def call_body(task: Task, inputs: dict[str, Any]) -> Value | Error:
    """Call ``task.run(**inputs)`` and return what comes out as a value; a coroutine is run to its end."""
    return finished(capture(task.run, **inputs))


def finished(outcome: Value | Error) -> Value | Error:
    """Return the outcome of a body whose call gave `outcome`: a coroutine is run to its end, an error is redacted."""
    if type(outcome) is Value and type(outcome.value) in ASYNC:
        outcome = capture(_finish, outcome.value)
        outcome = outcome.value if type(outcome) is Value else outcome
    if type(outcome) is Error and masking.pattern is not None:
        return Error(redacted(outcome.exception))
    return outcome


def _finish(value: Any) -> Value | Error:
    """Run a coroutine to its end, in a side thread if a loop is already running in this one."""
    import asyncio

    if type(value) is AsyncGeneratorType:
        return Error(_useless(value))
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
