"""One event loop for the async bodies of a process that share a slot (``async_concurrency``).

An attempt has a thread, which waits: so handlers, context and time limits are what they are for any other body, and
only the coroutine runs in the loop, beside those of its siblings. Where nothing is attached to a body there need not be
one (:func:`begin_in_loop`).

A body that blocks holds up all that share its loop. One that does so past its time limit is left behind with the loop,
and what comes later has another one.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from prefectish.engine.capture import Error, Value
from prefectish.engine.context import bind, current, unbind
from prefectish.engine.side_thread import GRACE_SECONDS, current_side_thread

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from concurrent.futures import Future

#: Seconds after which a loop that was left behind, and has nothing to do, ends.
IDLE_SECONDS = 1.0

_lock = threading.Lock()
_loops: dict[int, AbstractEventLoop] = {}
#: Loops in which a body was to stop: what they set once they have heard of it, and until when they have time for that.
_doubted: dict[AbstractEventLoop, tuple[threading.Event, float]] = {}
#: What runs there, which a loop only refers to weakly.
_tasks: set[Any] = set()


def shares_loop() -> bool:
    """Whether the body of this attempt runs in the loop of its process."""
    attempt = getattr(current(), "attempt", None)
    return attempt is not None and attempt.spec.task.async_concurrency is not None


def awaited(coroutine: Coroutine[Any, Any, Any]) -> Value | Error:
    """Run a coroutine in the loop of this process, and wait for its end."""
    import asyncio

    loop = _loop()
    future = asyncio.run_coroutine_threadsafe(_captured(coroutine), loop)
    thread = current_side_thread()
    if thread is not None:
        thread.stop = partial(_stop, future, loop)  # its time is up
    try:
        return future.result()
    except asyncio.CancelledError as error:
        return Error(error)
    except BaseException:  # an interrupt, or the alarm of a time limit
        _stop(future, loop)
        raise
    finally:
        if thread is not None:
            thread.stop = None


def _stop(future: Future[Any], loop: AbstractEventLoop) -> None:
    """Cancel what runs in a loop, which is doubted until it has heard of it; what was too slow waits for that."""
    future.cancel()
    heard = threading.Event()
    _doubted[loop] = heard, time.monotonic() + GRACE_SECONDS
    loop.call_soon_threadsafe(heard.set)
    heard.wait(GRACE_SECONDS)  # here, as the next one has a time limit of its own


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
        if loop is not None and _is_blocked(loop):
            loop.call_soon_threadsafe(loop.call_later, IDLE_SECONDS, _end_idle, loop)
            loop = None
        if loop is None:
            loop = _loops[os.getpid()] = asyncio.new_event_loop()
            threading.Thread(target=_run, args=(loop,), name="prefectish-loop", daemon=True).start()
    return loop


def _is_blocked(loop: AbstractEventLoop) -> bool:
    heard, until = _doubted.pop(loop, (None, 0.0))
    return heard is not None and not heard.wait(max(until - time.monotonic(), 0))


def _run(loop: AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


def _end_idle(loop: AbstractEventLoop) -> None:
    """End a loop that was left behind once nothing runs there."""
    import asyncio

    if asyncio.all_tasks(loop):
        loop.call_later(IDLE_SECONDS, _end_idle, loop)
    else:
        loop.stop()


def side_by_side(calls: list[Callable[[], None]], most: int) -> None:
    """Make calls, so many at a time, each in a thread and a copy of the context of this one; raise what one raised."""
    import contextvars
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(most, len(calls)), "prefectish-async") as pool:
        for future in [pool.submit(contextvars.copy_context().run, call) for call in calls]:
            future.result()
