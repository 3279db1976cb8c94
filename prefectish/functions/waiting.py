"""Wait for futures: for all of them, or for one after another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from prefectish.functions.futures import MapFuture, TaskFuture
from prefectish.functions.settled import Settled


class DoneAndNotDone(NamedTuple):
    """Futures that have ended, and those that have not."""

    done: set[TaskFuture[Any]]
    not_done: set[TaskFuture[Any]]


def wait(futures: Iterable[TaskFuture[Any]], timeout: float | None = None) -> DoneAndNotDone:
    """Wait until futures have ended.

    Parameters
    ----------
    futures
        Futures of calls or children, or a map.
    timeout
        Seconds to wait at most; then some may still run.

    Examples
    --------
    >>> from prefectish import flow, task, wait
    >>> @task
    ... def double(x):
    ...     return 2 * x
    >>> @flow
    ... def doubles():
    ...     done, not_done = wait([double.submit(1), double.submit(2)])
    ...     return len(done), len(not_done)
    >>> doubles()
    (2, 0)
    """
    asked = list(futures)
    end = None if timeout is None else time.monotonic() + timeout
    for future in asked:
        future.wait(None if end is None else max(0.0, end - time.monotonic()))
    done = {future for future in asked if future.done()}
    return DoneAndNotDone(done, {future for future in asked if future not in done})


def as_completed(futures: Iterable[TaskFuture[Any]], timeout: float | None = None) -> Iterator[TaskFuture[Any]]:
    """Yield futures as they end; the children of a map come as they end, without a future for each that runs.

    Parameters
    ----------
    futures
        Futures of calls or children, or a map.
    timeout
        Seconds that all may take together.

    Raises
    ------
    TimeoutError
        Some have not ended after `timeout` seconds.
    TaskRunFailed
        What is left is paused.
    """
    end = None if timeout is None else time.monotonic() + timeout
    if isinstance(futures, MapFuture):
        yield from _children(futures, end)
    else:
        yield from _calls(list(futures), end)


def _calls(futures: list[TaskFuture[Any]], end: float | None) -> Iterator[TaskFuture[Any]]:
    ended: SimpleQueue[TaskFuture[Any]] = SimpleQueue()
    for future in futures:
        future._outcome.then(_put(ended, future))
    left = set(futures)
    while left:
        future = _next(ended, end, len(left))
        if future in left:
            left.discard(future)
            if not future.done():
                future.result()  # it is paused, and says so
            yield future


def _put(ended: SimpleQueue[TaskFuture[Any]], future: TaskFuture[Any]) -> Callable[[Settled], None]:
    return lambda outcome: ended.put(future)


def _children(children: MapFuture[Any], end: float | None) -> Iterator[TaskFuture[Any]]:
    rows: SimpleQueue[int | None] = SimpleQueue()
    stop = children.listen(rows.put)
    children._map_call.outcome.then(lambda outcome: rows.put(None))
    seen: set[int] = set()
    try:
        while True:
            row = _next(rows, end, 1)
            if row is None:
                if not children.done():
                    children.result()  # it is paused, and says so
                if len(seen) == len(children):
                    return
            elif row not in seen:
                seen.add(row)
                yield children.child_of_row(row)
            if row is not None and children.done() and len(seen) == len(children):
                return
    finally:
        stop()


def _next(ended: SimpleQueue[Any], end: float | None, left: int) -> Any:
    try:
        return ended.get(timeout=None if end is None else max(0.0, end - time.monotonic()))
    except Empty:
        raise TimeoutError(f"{left} of the futures did not finish in time") from None
