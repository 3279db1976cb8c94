"""`prefect.executors`: the executors with the arguments that they had there, and their futures.

A run needs neither `submit` nor `wait`; they are for programs that used an executor by itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from typing import Any

from prefectish.engine.capture import Error, Value, capture
from prefectish.engine.driver.inline import LocalExecutor as OwnLocalExecutor
from prefectish.engine.driver.inline import SerialSession
from prefectish.engine.worker.run_steps import run_job
from prefectish.errors import ExecutorFailed
from prefectish.executors.pool import LocalDaskExecutor as OwnLocalDaskExecutor

_SCHEDULERS = {
    "sync": "synchronous", "single-threaded": "synchronous", "threading": "threads", "multiprocessing": "processes",
}  # fmt: skip


class Executor:
    """Base class of executors; of one's own it needs `submit` and `wait`, which are called for one task at a time."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own = vars(cls).get("start")
        if own is not None and len(inspect.signature(own).parameters) == 1:  # written for submissions alone
            cls.start = _within(own)  # type: ignore[method-assign]

    @contextmanager
    def start(self, plan: Any = None, run: Any = None) -> Iterator[Any]:
        """Open a session for a run; or, without a plan, be ready for submissions in a `with` block."""
        if plan is None:
            yield self
            return
        session = SerialSession(partial(_submitted, self))
        try:
            yield session
        finally:
            session.watch.close()

    def submit(self, fn: Callable[..., Any], *args: Any, extra_context: Any = None, **kwargs: Any) -> Any:
        """Call a function, at once or later, and return its future."""
        raise NotImplementedError(f"{type(self).__name__} has no submit()")

    def wait(self, futures: Any) -> Any:
        """Return futures, in whatever lists and dicts, as their results."""
        raise NotImplementedError(f"{type(self).__name__} has no wait()")

    def __repr__(self) -> str:
        return f"<Executor: {type(self).__name__}>"


def _submitted(executor: Executor, job: Any) -> Any:
    try:
        return executor.wait(executor.submit(run_job, job))
    except Exception as error:
        raise ExecutorFailed(error) from error


def _within(own: Callable[..., Any]) -> Callable[..., Any]:
    """Return `start` of an executor that knows submissions alone: a run submits its tasks one by one."""

    @contextmanager
    @wraps(own)
    def start(self: Executor, plan: Any = None, run: Any = None) -> Iterator[Any]:
        with ExitStack() as opened:
            try:
                opened.enter_context(own(self))
            except Exception as error:
                if plan is None:
                    raise
                raise ExecutorFailed(error) from error
            yield self if plan is None else opened.enter_context(Executor.start(self, plan, run))

    return start


class LocalExecutor(OwnLocalExecutor, Executor):
    """Runs a flow in this thread; see :class:`prefectish.executors.LocalExecutor`."""

    __repr__ = Executor.__repr__

    @contextmanager
    def start(self, plan: Any = None, run: Any = None) -> Iterator[Any]:
        """Open a session for a run; or, without a plan, be ready for submissions."""
        if plan is None:
            yield self
            return
        has_own = type(self).submit is not LocalExecutor.submit or type(self).wait is not LocalExecutor.wait
        with Executor.start(self, plan, run) if has_own else super().start(plan, run) as session:
            yield session

    def submit(self, fn: Callable[..., Any], *args: Any, extra_context: Any = None, **kwargs: Any) -> Any:
        """Call a function now and return its result."""
        return fn(*args, **kwargs)

    def wait(self, futures: Any) -> Any:
        """Return what it is given: the results are there."""
        return futures


class LocalDaskExecutor(OwnLocalDaskExecutor, Executor):
    """Runs a flow on threads or processes; see :class:`prefectish.executors.LocalDaskExecutor`.

    Parameters
    ----------
    scheduler
        "threads", "processes", or "sync", "synchronous" and "single-threaded".
    **kwargs
        `num_workers`, and the options of the class.
    """

    def __init__(self, scheduler: str = "threads", **kwargs: Any) -> None:
        super().__init__(_SCHEDULERS.get(scheduler, scheduler), **kwargs)
        self._pool: ThreadPoolExecutor | None = None

    __repr__ = Executor.__repr__

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pool": None}

    @contextmanager
    def start(self, plan: Any = None, run: Any = None) -> Iterator[Any]:
        """Open a session for a run; or, without a plan, a pool of threads for submissions."""
        if plan is not None:
            with super().start(plan, run) as session:
                yield session
            return
        with ThreadPoolExecutor(1 if self.scheduler == "synchronous" else self._slots()) as pool:
            self._pool = pool
            try:
                yield self
            finally:
                self._pool = None
                pool.shutdown(cancel_futures=True)

    def submit(self, fn: Callable[..., Any], *args: Any, extra_context: Any = None, **kwargs: Any) -> Any:
        """Call a function on a thread, with the results of futures among its arguments, and return its future."""
        if self._pool is None:
            raise ValueError("Executor must be started: submit in `with executor.start():`")
        return self._pool.submit(call, fn, args, kwargs)

    def wait(self, futures: Any) -> Any:
        """Return futures, in whatever lists and dicts, as their results."""
        return results(futures)


def call(fn: Callable[..., Any], args: Any, kwargs: Any, *_: Any) -> Value | Error:
    """Call a function with the results of what was submitted before; signals, too, are returned as a value."""
    return capture(lambda: fn(*results(args), **results(kwargs)))


def results(value: Any) -> Any:
    """Return what submissions gave, in whatever lists and dicts; what one raised is raised."""
    if isinstance(value, Future):
        return results(value.result())
    if isinstance(value, Error):
        raise value.exception
    if isinstance(value, Value):
        return value.value
    if isinstance(value, list | tuple | set):
        return type(value)(results(item) for item in value)
    if isinstance(value, dict):
        return {key: results(item) for key, item in value.items()}
    return value
