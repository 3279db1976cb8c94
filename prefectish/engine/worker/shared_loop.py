"""One event loop for the async bodies of a process that share a slot (``async_concurrency``).

An attempt has a thread, which waits: so handlers, context and time limits are what they are for any other body, and
only the coroutine runs in the loop, beside those of its siblings. Where nothing is attached to a body there need not be
one (:func:`begin_in_loop`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Coroutine, Mapping
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from prefectish.engine.capture import Error, Value
from prefectish.engine.context import bind, current, unbind
from prefectish.engine.side_thread import current_side_thread

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

_lock = threading.Lock()
_loops: dict[int, AbstractEventLoop] = {}
#: What runs there, which a loop only refers to weakly.
_tasks: set[Any] = set()


def shares_loop() -> bool:
    """Whether the body of this attempt runs in the loop of its process."""
    attempt = getattr(current(), "attempt", None)
    return attempt is not None and attempt.spec.task.async_concurrency is not None


def awaited(coroutine: Coroutine[Any, Any, Any]) -> Value | Error:
    """Run a coroutine in the loop of this process, and wait for its end."""
    import asyncio

    future = asyncio.run_coroutine_threadsafe(_captured(coroutine), _loop())
    thread = current_side_thread()
    if thread is not None:
        thread.stop = future.cancel  # its time is up
    try:
        return future.result()
    except asyncio.CancelledError as error:
        return Error(error)
    except BaseException:  # an interrupt, or the alarm of a time limit
        future.cancel()
        raise
    finally:
        if thread is not None:
            thread.stop = None


def is_coroutine(value: Any) -> bool:
    """Whether a body returned what a loop runs to its end."""
    return type(value) is CoroutineType


def begin_in_loop(
    ctx: Mapping[str, Any], coroutine: Coroutine[Any, Any, Any], then: Callable[[Value | Error], None]
) -> None:
    """Begin a coroutine in the loop of this process, in a context; `then` is called there with what came of it."""
    token = bind(ctx)
    try:
        _loop().call_soon_threadsafe(_create_task, coroutine, then)  # in a copy of the context of this thread
    finally:
        unbind(token)


def _create_task(coroutine: Coroutine[Any, Any, Any], then: Callable[[Value | Error], None]) -> None:
    import asyncio

    task = asyncio.get_running_loop().create_task(_captured(coroutine))
    _tasks.add(task)

    def done(task: asyncio.Task[Value | Error]) -> None:
        _tasks.discard(task)
        then(Error(asyncio.CancelledError()) if task.cancelled() else task.result())

    task.add_done_callback(done)


async def _captured(coroutine: Coroutine[Any, Any, Any]) -> Value | Error:
    """Await a coroutine; an exit, or an interrupt, of one body must not end the loop of all."""
    try:
        return Value(await coroutine)
    except BaseException as error:
        return Error(error)


def _loop() -> AbstractEventLoop:
    import asyncio

    with _lock:
        loop = _loops.get(os.getpid())  # a fork has the loop of its parent, and no thread that runs it
        if loop is None:
            loop = _loops[os.getpid()] = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="prefectish-loop", daemon=True).start()
    return loop


def side_by_side(calls: list[Callable[[], None]], most: int) -> None:
    """Make calls, so many at a time, each in a thread and a copy of the context of this one; raise what one raised."""
    import contextvars
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(most, len(calls)), "prefectish-async") as pool:
        for future in [pool.submit(contextvars.copy_context().run, call) for call in calls]:
            future.result()
