"""Wait for futures: for all of them, or for one after another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, SimpleQueue
from typing import Any, Generic, Literal, NamedTuple, TypeVar, overload

from prefectish.functions.bodies import refuse_in_body
from prefectish.functions.futures import MapFuture, TaskFuture
from prefectish.interrupting import HEARD_WITHIN

T = TypeVar("T", covariant=True)
#: What may be waited for: calls and children, and maps, whose children are meant.
Futures = Iterable[TaskFuture[Any] | MapFuture[Any]]


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


class AsCompleted(Iterator[T], Generic[T]):
    """Futures as they end; made by :func:`as_completed`. More can be added while it is iterated over."""

    def __init__(self, futures: Futures, timeout: float | None, with_results: bool) -> None:
        self._maps: dict[MapFuture[Any], _Children] = {}  # of which a child was not given yet
        self._end = None if timeout is None else time.monotonic() + timeout
        self._with_results = with_results
        #: What ended: a call, or a map and the row of a child, None for the whole map.
        self._ended: SimpleQueue[tuple[TaskFuture[Any] | MapFuture[Any], int | None]] = SimpleQueue()
        self._calls: set[TaskFuture[Any]] = set()  # that were not given yet
        self.update([futures] if isinstance(futures, MapFuture) else futures)

    def add(self, future: TaskFuture[Any] | MapFuture[Any]) -> None:
        """Wait for one more future, or for the children of one more map."""
        refuse_in_body(future)
        ended = self._ended
        if isinstance(future, MapFuture):
            if future not in self._maps:
                children = self._maps[future] = _Children()
                children.stop = future.listen(lambda row: ended.put((future, row)))
                future._map_call.outcome.then(lambda outcome: ended.put((future, None)))
        elif isinstance(future, TaskFuture):
            if future not in self._calls:
                self._calls.add(future)
                future._outcome.then(lambda outcome: ended.put((future, None)))
        else:
            raise TypeError(f"as_completed takes futures, got {future!r}; .submit(...) and .map(...) return futures")

    def update(self, futures: Futures) -> None:
        """Wait for more futures; those of a map are its children."""
        for future in [futures] if isinstance(futures, MapFuture) else list(futures):
            self.add(future)

    def __next__(self) -> T:
        while self._calls or self._maps:
            future, row = self._next()
            found = self._child(future, row) if isinstance(future, MapFuture) else self._call(future)
            if found is not None:
                return (found, found.result()) if self._with_results else found  # type: ignore[return-value]
        raise StopIteration

    def _call(self, future: TaskFuture[Any]) -> TaskFuture[Any] | None:
        if future not in self._calls:  # a call that was paused, and that ended, is put twice
            return None
        self._calls.discard(future)
        if not future.done():
            future.result()  # it is paused, and says so
        return future

    def _child(self, future: MapFuture[Any], row: int | None) -> TaskFuture[Any] | None:
        children = self._maps.get(future)
        if children is None:
            return None
        if row is None and not future.done():
            future.result()  # it is paused, and says so
        is_new = row is not None and row not in children.seen
        if row is not None and is_new:
            children.seen.add(row)
        if future.done() and len(children.seen) == len(future):
            self._maps.pop(future).stop()
        return future.child_of_row(row) if row is not None and is_new else None

    def _next(self) -> tuple[TaskFuture[Any] | MapFuture[Any], int | None]:
        while True:
            left = HEARD_WITHIN if self._end is None else max(0.0, self._end - time.monotonic())
            try:
                return self._ended.get(timeout=min(left, HEARD_WITHIN))
            except Empty:
                if left <= HEARD_WITHIN and self._end is not None:
                    break
        left = len(self._calls) + len(self._maps)
        raise TimeoutError(f"{left} of the futures did not finish in time")

    def __del__(self) -> None:
        for children in self._maps.values():
            children.stop()


class _Children:
    """The children of a map that were given."""

    __slots__ = ("seen", "stop")

    def __init__(self) -> None:
        self.seen: set[int] = set()  # their rows
        self.stop: Callable[[], None] = _nothing  # ends the reports of the map about its children


def _nothing() -> None:
    """Do nothing: the map does not report its children yet."""


@overload
def as_completed(
    futures: Futures, timeout: float | None = None, *, with_results: Literal[False] = False
) -> AsCompleted[TaskFuture[Any]]: ...


@overload
def as_completed(
    futures: Futures, timeout: float | None = None, *, with_results: Literal[True]
) -> AsCompleted[tuple[TaskFuture[Any], Any]]: ...


def as_completed(futures: Futures, timeout: float | None = None, *, with_results: bool = False) -> AsCompleted[Any]:
    """Return an iterator over futures as they end; the children of a map come as they end.

    Its `add` and `update` wait for more, also while it is iterated over.

    Parameters
    ----------
    futures
        Futures of calls or children, or maps, of which no future is made for each child that runs.
    timeout
        Seconds that all may take together.
    with_results
        Give pairs of a future and its result; a failure is raised.

    Raises
    ------
    TimeoutError
        Some have not ended after `timeout` seconds.
    TaskRunFailed
        What is left is paused.
    PrefectishError
        A future belongs to the run in one of whose bodies this is called.

    Examples
    --------
    >>> from prefectish import flow, task
    >>> @task
    ... def half(x):
    ...     return x // 2
    >>> @flow
    ... def halved(x):
    ...     found = as_completed([half.submit(x)], with_results=True)
    ...     for _, result in found:
    ...         if result:
    ...             found.add(half.submit(result))
    ...         last = result
    ...     return last
    >>> halved(9)
    0
    """
    return AsCompleted(futures, timeout, with_results)
