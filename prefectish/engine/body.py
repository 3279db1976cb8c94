"""Call a body: the one place that knows a body may be a coroutine function."""

from __future__ import annotations

from collections.abc import Coroutine
from types import CoroutineType
from typing import Any

from prefectish.engine.capture import Error, Value, capture
from prefectish.tasks.task import Task


def call_body(task: Task, inputs: dict[str, Any]) -> Value | Error:
    """Call ``task.run(**inputs)`` and return what comes out as a value."""
    outcome = capture(task.run, **inputs)
    if type(outcome) is Value and type(outcome.value) is CoroutineType:
        return capture(_finish, outcome.value)
    return outcome


def _finish(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end, in a helper thread where a loop is already running in this one."""
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    return _in_thread(coroutine)


def _in_thread(coroutine: Coroutine[Any, Any, Any]) -> Any:
    import asyncio
    import contextvars
    import threading

    outcome: list[Value | Error] = []
    scope = contextvars.copy_context()
    thread = threading.Thread(
        target=lambda: outcome.append(scope.run(capture, asyncio.run, coroutine)), name="prefectish-async-body"
    )
    thread.start()
    thread.join()
    ended = outcome[0]
    if isinstance(ended, Error):
        raise ended.exception
    return ended.value
