"""Futures of a flow function: of a call, of a child of a map, and of a whole map."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, overload
from weakref import WeakValueDictionary

from prefectish.engine.capture import Error, capture
from prefectish.engine.context import get_logger
from prefectish.engine.plan.steps import TaskName
from prefectish.engine.state import Cancelled, Mapped, Pending, State
from prefectish.engine.state_column import plain_results
from prefectish.errors import describe
from prefectish.functions.bodies import refuse_in_body
from prefectish.functions.call_requests import CancelCall, CancelMap, MapCall, ReleaseMap, ReleaseResult
from prefectish.functions.results import not_finished_error, value_of
from prefectish.functions.settled import Settled
from prefectish.interrupting import Latch
from prefectish.missing_names import LeadsOut
from prefectish.tasks.not_a_value import is_written

if TYPE_CHECKING:
    from prefectish.functions.function_run import FunctionRun
    from prefectish.tasks.call_options import CallOptions

R = TypeVar("R", covariant=True)
PENDING = Pending()
NOT_A_VALUE = ": it is a future, not a value; what it will be is its result()"


def equal_to(future: object, other: object) -> Any:
    """Compare futures, which are equal to themselves only; a comparison with a value is warned of."""
    if not isinstance(other, TaskFuture | MapFuture) and is_written(sys._getframe(1)):
        text = f"{future!r} == {other!r} compares the future, not its result, and is always False; "
        warnings.warn(f"{text}compare its result()", stacklevel=2)
    return future is other or NotImplemented


class TaskFuture(LeadsOut, Generic[R]):
    """A call that runs, or a child of a map.

    Attributes
    ----------
    name
        Of the task run, such as ``load[3]``.
    """

    _kind = "future"
    _otherwise = NOT_A_VALUE
    __slots__ = ("__weakref__", "_map_future", "_outcome", "_returns_state", "_run", "task_name")

    def __init__(self, run: FunctionRun, outcome: Settled, task_name: TaskName, returns_state: bool = False) -> None:
        self._run = run
        self._outcome = outcome
        self._returns_state = returns_state
        #: The map that it is a child of: its results can be asked for as long as a future of a child is there.
        self._map_future: MapFuture[R] | None = None
        self.task_name = task_name

    @property
    def name(self) -> str:
        """Return what the task run is called."""
        return self._outcome.label

    @property
    def state(self) -> State:
        """Return the state as it is now."""
        outcome = self._outcome
        if outcome.state is not None:
            outcome.read = True
            return self._run.owned(outcome.state)
        return outcome.waiting or self._run.state_of(outcome) or PENDING

    def done(self) -> bool:
        """Return whether the final state is known."""
        return self._outcome.state is not None

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end of the call.

        Parameters
        ----------
        timeout
            Seconds to wait at most.

        Returns
        -------
        bool
            False if it has not ended after `timeout` seconds.
        """
        return self._ended(timeout)

    def _ended(self, timeout: float | None = None) -> bool:
        refuse_in_body(self)
        return self._outcome.wait(timeout)

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> R:
        """Wait for the end of the call and return what the body returned.

        Parameters
        ----------
        timeout
            Seconds to wait at most.
        raise_on_failure
            False: return the exception, or the state that has none, instead of raising. A call that was submitted with
            ``allow_failure=True`` or ``return_state=True`` gives its state.

        Raises
        ------
        TimeoutError
            It has not ended after `timeout` seconds.
        PrefectishError
            It is asked in the body of a task of the same run: pass the future as an argument.
        Exception
            What the body raised; `TaskRunFailed` if it was cancelled, paused, or did not run, with the first cause.
        """
        outcome = self._outcome
        if not self._ended(timeout):
            raise TimeoutError(f"{outcome.label} did not finish within {timeout:g} s")
        outcome.read = True
        state = outcome.state
        if state is None:
            assert outcome.waiting is not None
            raise not_finished_error(outcome.waiting, outcome.label)
        if self._returns_state and not state.is_successful():
            return state  # type: ignore[return-value]
        if raise_on_failure:
            value: R = value_of(state, outcome.label, outcome.sources)
            return value
        tried = capture(value_of, state, outcome.label, outcome.sources)
        return tried.exception if isinstance(tried, Error) else tried.value  # type: ignore[return-value]

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the end of the call and return what `result` would raise, None for a success.

        Raises
        ------
        TimeoutError
            It has not ended after `timeout` seconds.
        """
        if not self._ended(timeout):
            raise TimeoutError(f"{self._outcome.label} did not finish within {timeout:g} s")
        tried = capture(self.result)
        return tried.exception if isinstance(tried, Error) else None

    def cancel(self) -> None:
        """Cancel the call if it has not ended; a running body ends by itself, and its result is dropped."""
        self._outcome.read = True
        self._run.post(CancelCall(self._outcome))

    def cancelled(self) -> bool:
        """Return whether it was cancelled."""
        return isinstance(self._outcome.state, Cancelled)

    def add_done_callback(self, function: Callable[[TaskFuture[R]], object]) -> None:
        """Call a function with this future at its end, in the thread that drives the run; what it raises is logged."""

        def call(outcome: Settled) -> None:
            if outcome.state is None:
                return
            done = capture(function, self)
            if isinstance(done, Error):
                get_logger("functions").error(
                    "a callback of %s raised %s", outcome.label, describe(done.exception), exc_info=done.exception
                )

        self._outcome.then(call)

    def __await__(self) -> Generator[Any, None, R]:
        """Wait for the end of the call in an event loop, and return its result, or raise as `result` does."""
        refuse_in_body(self)
        yield from _awaited(self._outcome.then)
        return self.result()

    def __del__(self) -> None:
        if self._map_future is None:
            self._run.release(ReleaseResult(self._outcome))

    def __bool__(self) -> bool:
        raise TypeError(f"{self!r} is neither true nor false; ask for its result()")

    def __iter__(self) -> Iterator[Any]:
        raise TypeError(f"{self!r} is not iterable; iterate over its result(), or map over the future")

    def _operate(self, *other: Any) -> NoReturn:
        raise TypeError(f"{self!r} is a future, not a value; compute with its result(), as in future.result() + 1")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _operate
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __neg__ = __abs__ = _operate
    __lt__ = __le__ = __gt__ = __ge__ = __getitem__ = __len__ = __float__ = __int__ = __index__ = _operate

    __eq__ = equal_to
    __hash__ = object.__hash__

    def __reduce__(self) -> Any:
        raise TypeError(f"{self!r} cannot be pickled: pass it as an argument, at any depth of lists and dicts")

    def __repr__(self) -> str:
        return f"<TaskFuture: {self.name}, {type(self._outcome.state or self._outcome.waiting or PENDING).__name__}>"


class CallFuture(TaskFuture[R], Coroutine[Any, Any, R]):
    """A call of an async task in an async flow function, which runs at once.

    It is also what the call is without a flow: a coroutine, for `await` and whatever takes one, as
    :func:`asyncio.create_task` does. It may be awaited several times.
    """

    __slots__ = ("_gives_state", "_steps")

    def __init__(self, run: FunctionRun, outcome: Settled, task_name: TaskName, options: CallOptions) -> None:
        super().__init__(run, outcome, task_name, options.returns_state)
        self._gives_state = options.return_state
        #: By the task of an event loop that takes it as a coroutine: each waits by itself, and may do so again.
        self._steps: dict[Any, Generator[Any, None, R]] = {}

    def __await__(self) -> Generator[Any, None, R]:
        """Wait for the end of the call in an event loop, and return what the call returns."""
        refuse_in_body(self)
        yield from _awaited(self._outcome.then)
        return self.state if self._gives_state else self.result()  # type: ignore[return-value]

    def send(self, value: Any, /) -> Any:
        """Go on until the next wait, for an event loop."""
        waiter = _waiter()
        if waiter not in self._steps:
            self._steps[waiter] = self.__await__()
        return self._go_on(waiter, self._steps[waiter].send, value)

    def throw(self, kind: Any, value: Any = None, traceback: Any = None, /) -> Any:
        """Raise an error where the coroutine waits, for an event loop."""
        error = kind if value is None else value
        waiter = _waiter()
        if waiter not in self._steps:
            raise error
        return self._go_on(waiter, self._steps[waiter].throw, error)

    def close(self) -> None:
        """Stop waiting; the call continues."""
        if (steps := self._steps.pop(_waiter(), None)) is not None:
            steps.close()

    def _go_on(self, waiter: Any, step: Callable[[Any], Any], value: Any) -> Any:
        try:
            return step(value)
        except BaseException:  # StopIteration, with the result, is one
            del self._steps[waiter]
            raise


def _waiter() -> Any:
    """Return the task of the event loop that runs here; None where there is none."""
    import asyncio

    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _awaited(then: Callable[[Callable[[Any], None]], None]) -> Generator[Any, None, None]:
    """Wait in an event loop until something calls back."""
    import asyncio

    loop = asyncio.get_running_loop()
    known: asyncio.Future[None] = loop.create_future()

    def settle() -> None:
        if not known.done():
            known.set_result(None)

    def tell(outcome: Any) -> None:
        loop.call_soon_threadsafe(settle)

    then(tell)
    yield from known


class MapFuture(LeadsOut, Sequence[TaskFuture[R]]):
    """A map that runs: a sequence of the futures of its children, made as they are asked for.

    A child has one future, as long as it is referenced.
    """

    _kind = "future"
    _otherwise = NOT_A_VALUE

    def __init__(self, run: FunctionRun, map_call: MapCall, task_name: TaskName, returns_state: bool = False) -> None:
        self._run = run
        self._map_call = map_call
        self._returns_state = returns_state
        self._children: WeakValueDictionary[int, TaskFuture[R]] = WeakValueDictionary()  # by row
        self.task_name = task_name

    @property
    def name(self) -> str:
        """Return what the map is called, such as ``load``."""
        return self._map_call.name.label

    @property
    def state(self) -> State:
        """Return the state as it is now: Mapped with the states of the children so far."""
        outcome = self._map_call.outcome
        if outcome.state is not None:
            outcome.read = True
            return self._run.owned(outcome.state)
        return PENDING if outcome.step_state is None else outcome.step_state.snapshot()

    def done(self) -> bool:
        """Return whether all children have ended."""
        return self._map_call.outcome.state is not None

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all children have ended; False if they have not after `timeout` seconds."""
        return self._ended(timeout)

    def _ended(self, timeout: float | None = None) -> bool:
        refuse_in_body(self)
        return self._map_call.outcome.wait(timeout)

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> list[R]:
        """Wait until all children have ended and return their results in map order.

        A failure is raised as soon as it is known and all before it have ended; the others continue.

        Parameters
        ----------
        timeout
            Seconds to wait at most.
        raise_on_failure
            False: exceptions, and states without one, stand in the places of children that failed.

        Raises
        ------
        TimeoutError
            Some have not ended after `timeout` seconds.
        Exception
            What the first child that failed, in map order, raised; or why the map has no children.
        """
        outcome = self._map_call.outcome
        raises = raise_on_failure and not self._returns_state
        if not (self._ended_or_failed(timeout) if raises else self._ended(timeout)):
            raise TimeoutError(f"{self.name} did not finish within {timeout:g} s")
        outcome.read = True
        if outcome.state is None:
            assert outcome.waiting is not None
            raise not_finished_error(outcome.waiting, self.name)
        if raises:
            values: list[R] = value_of(outcome.state, self.name)
            return values
        return [child.result(raise_on_failure=False) for child in self]

    def _ended_or_failed(self, timeout: float | None) -> bool:
        """Wait as `_ended`, but raise the failure of a child before which, in map order, all have ended well."""
        refuse_in_body(self)
        changed = Latch()
        failures: list[int] = []

        def listener(rows: Sequence[int], are_failed: bool) -> None:
            if failures or are_failed:  # the waiting thread is not woken for each child of a good map
                failures.extend(rows)
                changed.set()

        def tell(outcome: Settled) -> None:
            changed.set()

        end = None if timeout is None else monotonic() + timeout
        outcome, passed = self._map_call.outcome, 0
        self._map_call.listeners.append(listener)
        outcome.then(tell)
        try:
            while True:
                passed = self._raise_first_failure(passed)
                if outcome.state is not None or outcome.waiting is not None:
                    return True
                if not changed.wait(None if end is None else max(0.0, end - monotonic())):
                    return False
                changed.clear()
        finally:
            self._map_call.listeners.remove(listener)
            outcome.forget(tell)

    def _raise_first_failure(self, passed: int) -> int:
        """Raise the failure of the first child that has not ended well; return how many have before one that runs."""
        step_state = self._map_call.step_state
        children = None if step_state is None else step_state.children
        if (
            children is None
            or step_state is None
            or step_state.map_state is None
            or step_state.map_state.paths is not None
        ):
            return 0  # rows of a flattened map do not come in map order
        outcome = self._map_call.outcome
        # Only once the map has ended: it looks at all children, and of an open map there may be more a moment later.
        if passed == 0 and outcome.state is not None and plain_results(children) is not None:
            return len(children)
        while passed < len(children) and (state := children[passed]) is not None:
            if state.is_failed():
                outcome.read = True
                value_of(state, f"{self.name}[{passed}]")
            passed += 1
        return passed

    def cancel(self) -> None:
        """Cancel the children that have not ended."""
        self._map_call.outcome.read = True
        self._run.post(CancelMap(self._map_call))

    def __len__(self) -> int:
        """Wait until the number of children is known and return it; 0 for a map that could not begin."""
        self._wait_for_size()
        return self._size() or 0

    def _size(self) -> int | None:
        """Return the number of children, None if it is not known yet."""
        outcome = self._map_call.outcome
        step_state = outcome.step_state
        if outcome.state is not None:
            return len(outcome.state.map_states or ()) if isinstance(outcome.state, Mapped) else 0
        if (
            step_state is None
            or step_state.children is None
            or step_state.map_state is None
            or not step_state.map_state.closed
        ):
            return None
        return len(step_state.children)

    def _wait_for_size(self) -> None:
        if self._size() is not None:
            return
        refuse_in_body(self)
        known = Latch()
        self._map_call.sized.append(known.set)
        self._map_call.outcome.then(lambda outcome: known.set())
        while self._size() is None:
            known.wait()
            known.clear()
            if self._map_call.outcome.waiting is not None and self._size() is None:
                raise not_finished_error(self._map_call.outcome.waiting, self.name)
        self._map_call.sized.remove(known.set)

    @overload
    def __getitem__(self, index: int) -> TaskFuture[R]: ...

    @overload
    def __getitem__(self, index: slice) -> list[TaskFuture[R]]: ...

    def __getitem__(self, index: int | slice) -> TaskFuture[R] | list[TaskFuture[R]]:
        """Return the future of a child, by its place in map order; it waits until the number of children is known."""
        size = len(self)
        if isinstance(index, slice):
            return [self._child(i) for i in range(size)[index]]
        if not -size <= index < size:
            raise IndexError(f"{self.name} has {size} children, and none at {index}")
        return self._child(index % size)

    def __iter__(self) -> Iterator[TaskFuture[R]]:
        for index in range(len(self)):
            yield self._child(index)

    def _child(self, index: int) -> TaskFuture[R]:
        step_state = self._map_call.step_state
        assert step_state is not None
        order = step_state.map_state.order() if step_state.map_state is not None else None
        row = index if order is None else order[index]
        return self.child_of_row(row, index)

    def child_of_row(self, row: int, index: int | None = None) -> TaskFuture[R]:
        """Return the future of a child by the number it came up with, which is its place save in a flattened map."""
        known = self._children.get(row)
        if known is not None:
            return known
        map_call = self._map_call
        outcome = map_call.child(row, index)
        if not outcome.sources:
            outcome.sources = map_call.sources_of(row)
        map_call.outcome.read = True
        made = TaskFuture[R](self._run, outcome, self.task_name, self._returns_state)
        made._map_future = self
        return self._children.setdefault(row, made)  # of two threads that ask at once, both get the first one

    __eq__ = equal_to
    __hash__ = object.__hash__

    def __add__(self, more: Iterable[Any]) -> list[TaskFuture[Any]]:
        """Return the futures of the children, and those of another map or list."""
        return [*self, *more]

    def __radd__(self, before: Iterable[Any]) -> list[TaskFuture[Any]]:
        return [*before, *self]

    def group_by(self, key: Callable[[Any], Any]) -> TaskFuture[list[tuple[Any, list[R]]]]:
        """Return the future of a list of ``(key, values)``: the results, grouped once all children have ended.

        Parameters
        ----------
        key
            A function of a result, or a task, that returns a hashable key; it is called near each result.
        """
        from prefectish.tasks.call_options import CallOptions
        from prefectish.tasks.grouping import groups_of
        from prefectish.tasks.task import Operation, key_task

        keys = self._run.map(key_task(key), (self,), {}, CallOptions())
        group = Operation(groups_of, "group_by")
        future: TaskFuture[list[tuple[Any, list[R]]]] = self._run.submit(group, (keys, self), {}, CallOptions())
        return future

    def listen(self, tell: Callable[[int], None]) -> Callable[[], None]:
        """Tell of each child as it ends, those that have ended first; return what ends that.

        Parameters
        ----------
        tell
            Called with the row of a child, maybe twice, from the thread that drives the run.
        """

        def listener(rows: Sequence[int], are_failed: bool) -> None:
            for row in rows:
                tell(row)

        self._map_call.listeners.append(listener)
        step_state = self._map_call.step_state
        for row in range(len(step_state.children or ()) if step_state is not None else 0):
            if step_state is not None and step_state.has(row):
                tell(row)
        return lambda: self._map_call.listeners.remove(listener)

    def __await__(self) -> Generator[Any, None, list[R]]:
        """Wait for the end of the map in an event loop, and return its results, or raise as `result` does."""
        refuse_in_body(self)
        yield from _awaited(self._map_call.outcome.then)
        return self.result()

    def __del__(self) -> None:
        self._run.release(ReleaseMap(self._map_call))

    def __reduce__(self) -> Any:
        raise TypeError(f"{self!r} cannot be pickled: pass it as an argument")

    def __repr__(self) -> str:
        state = self._map_call.outcome.state
        return f"<MapFuture: {self.name}, {'running' if state is None else type(state).__name__}>"
