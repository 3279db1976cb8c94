"""One run of a flow function, from its first state to its last."""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from prefectish.config import default_executor
from prefectish.engine import clock
from prefectish.engine.capture import Error, Value, capture
from prefectish.engine.context import current, get_logger
from prefectish.engine.driver.control import RunControl
from prefectish.engine.driver.interrupts import ended_by, interruptible
from prefectish.engine.driver.options import RunOptions
from prefectish.engine.driver.run import run_flow
from prefectish.engine.jobs.protocol import waited_for
from prefectish.engine.scheduling.verdict import unfinished
from prefectish.engine.signals import Signal
from prefectish.engine.state import Failed, State, Success
from prefectish.engine.worker.decide import failure_text, finished
from prefectish.errors import TaskRunFailed
from prefectish.functions.arguments import FUNCTION_RUN, holds_futures
from prefectish.functions.function_run import FunctionRun
from prefectish.functions.futures import MapFuture, TaskFuture
from prefectish.functions.given_states import GivenStates
from prefectish.functions.nested_runs import NestedRuns
from prefectish.functions.results import not_finished_error
from prefectish.kinds import is_a
from prefectish.members import rebuilt
from prefectish.tasks import retries
from prefectish.tasks.annotations import log_annotations, options_here

if TYPE_CHECKING:
    from prefectish.functions.decorator import FlowFunction

#: Runs flow functions without an executor of their own or of the configuration.
DEFAULT_EXECUTOR = "prefectish.executors.LocalDaskExecutor"
FUNCTION_RETURNED = "The flow function returned."


class FlowAttempt:
    """One run of a flow function, as a block in which the function is called.

    It is to be called only if the attempt `begins`: a state handler may have ended the run before.
    """

    def __init__(
        self,
        flow: FlowFunction[Any, Any],
        arguments: dict[str, Any],
        options: RunOptions,
        number: int,
        control: RunControl | None = None,
    ) -> None:
        outer = current().get(FUNCTION_RUN)
        if outer is not None and "task_run_id" not in current():
            options = outer.nested_runs.options_of(flow.name, options, outer.control.run_id)
        self.flow = flow
        self.arguments = arguments
        self.options = options
        self.number = number
        self.executor = _executor(options.executor)
        self.clock = clock.current
        self.run = FunctionRun(
            flow.name,
            options.max_concurrency,
            flow.result,
            flow.is_async,
            flow.log_prints,
            control,
            options.keep_results,
            options.on_pause == "prompt",
            GivenStates(options.task_states),
            NestedRuns(options.resumption),
        )
        self.outcome: Value | Error | None = None
        self.state: State | None = None
        self._blocks: Any = None

    @property
    def begins(self) -> bool:
        """Whether the run has begun."""
        return self.run.started

    def __enter__(self) -> None:
        around = options_here()
        if around:
            log_annotations(around)
        with ExitStack() as blocks:
            blocks.enter_context(interruptible())
            blocks.enter_context(waited_for(self.executor))
            self.run.start(self._drive)
            if self.begins:
                blocks.enter_context(self.run.activate())
                if self.flow.log_prints:
                    from prefectish.engine.worker.logs.stdout import logged_prints

                    blocks.enter_context(logged_prints(get_logger(self.flow.name)))
            self._blocks = blocks.pop_all()

    def _drive(self) -> State:
        options = self.options.merged(executor=self.executor)._replace(task_states=None)  # calls take them
        if self.number > 1:
            options = options.merged(context={**(options.context or {}), "flow_run_part": self.number - 1})
        return run_flow(self.flow, self.arguments, options, control=self.run.control, calls=self.run)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: Any) -> None:
        try:
            if error is not None:
                self._interrupted(error)
            elif self.state is None:
                self.wait_for_work()
        except KeyboardInterrupt as stop:
            self._interrupted(stop)
            raise
        finally:
            self._blocks.close()

    def wait_for_work(self) -> None:
        """Wait for all that was submitted; the state of the flow is known then."""
        self.state = self.run.finish(self._final())

    def _final(self) -> State:
        if self.outcome is None:  # a handler kept the function from being called
            return Success(FUNCTION_RETURNED)
        if isinstance(self.outcome, Value):
            result = capture(resolved, self.outcome.value)
            if isinstance(result, Value):
                return _as_state(result.value)
            self.outcome = result
        error = self.outcome.exception
        if isinstance(error, Signal):
            return error.state
        if isinstance(error, TaskRunFailed) and not error.state.is_finished():
            return unfinished()  # it read something that is paused
        return Failed(failure_text(error).replace("of task", "of flow", 1), error)

    def _interrupted(self, stop: BaseException) -> None:
        end = ended_by(stop, self.run.interrupt(stop), self.run.control.run_id)
        if end is not stop:
            raise end from None

    def should_retry(self) -> bool:
        """Whether the flow runs again: it failed, and has retries left."""
        assert self.state is not None
        return self.state.is_failed() and self.number <= self.options.retries

    def delay(self) -> float:
        """Return the seconds until the next attempt."""
        return retries.delay_seconds(
            self.number, delay=self.options.retry_delay, backoff=None, jitter=None, error=None, random=lambda: 0.0
        )

    def answer(self, return_state: bool) -> Any:
        """Return the value of the call, or its state, or raise its error."""
        state = self.state
        assert state is not None
        if return_state:
            return state
        if state.is_successful():
            return state.result
        error = state.result
        if is_a(error, BaseException) and not isinstance(error, Signal):
            raise error
        raise not_finished_error(state, self.flow.name) from (error if is_a(error, BaseException) else None)


async def captured(body: Coroutine[Any, Any, Any]) -> Value | Error:
    """Await a coroutine and return its value or error; Ctrl-C and a cancellation are raised."""
    import asyncio

    try:
        return Value(await body)
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise
    except BaseException as error:
        return Error(error)


def resolved(value: Any) -> Any:
    """Return a value with the results of futures in their places."""
    if not holds_futures(value):
        return value
    return rebuilt(value, lambda member: member.result() if is_a(member, (TaskFuture, MapFuture)) else member)


def _as_state(value: Any) -> State:
    """Return the state of a flow function that returned a value, or a state."""
    several = value if is_a(value, (list, tuple)) else (value,)
    if any(is_a(state, State) and not finished(state) for state in several):
        return unfinished()
    return value if is_a(value, State) else Success(FUNCTION_RETURNED, value)


def _executor(chosen: Any) -> Any:
    """Return the executor of a run: the one that was chosen, the configured one, or local threads."""
    found = chosen if chosen is not None else default_executor()
    if found is not None:
        return found
    import importlib

    module, _, name = DEFAULT_EXECUTOR.rpartition(".")
    return getattr(importlib.import_module(module), name)()
