"""``@flow``: a function that, when it is called, runs as a flow."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from importlib import import_module
from types import MethodType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypedDict, Unpack, overload

from prefectish.config import switch
from prefectish.deployable import Deployable
from prefectish.engine.capture import Value, capture
from prefectish.engine.driver.options import RunOptions, check_reserved
from prefectish.engine.driver.run import approved, resumption
from prefectish.engine.state import Scheduled, State
from prefectish.errors import FlowDefinitionError
from prefectish.fingerprint import fingerprint
from prefectish.flow_source import note_run
from prefectish.functions.flow_attempts import FlowAttempt, captured, resolved
from prefectish.functions.given_states import GivenStates
from prefectish.functions.option_checks import check_run_name, check_texts, one_executor, switched, whole
from prefectish.functions.signature import BoundSignature
from prefectish.missing_names import LeadsOut
from prefectish.tasks import retries as retries_of_flows
from prefectish.tasks import spellings
from prefectish.tasks.hooks import Hooked, hook_handlers
from prefectish.tasks.methods import plain_function
from prefectish.tasks.options import handler_list, near_option, store
from prefectish.tasks.options import seconds as seconds_of

if TYPE_CHECKING:
    from typing_extensions import ParamSpec, TypeVar

    from prefectish.engine.driver.control import RunControl
    from prefectish.functions.background import FunctionHandle
    from prefectish.functions.given_states import StatesByTask
    from prefectish.registry import AttachedRun
    from prefectish.schedules import Schedule
    from prefectish.schedules.clocks import ClockEvent

    P = ParamSpec("P", default=...)
    R = TypeVar("R", default=Any)
else:
    from typing import ParamSpec, TypeVar

    P, R = ParamSpec("P"), TypeVar("R")


class FlowFunction(LeadsOut, Hooked, Deployable, Generic[P, R]):
    """A function that runs as a flow when it is called; made by :func:`flow`.

    Attributes
    ----------
    name
        Of the flow.
    state_handlers
        Called in order at each change of the flow's state with (flow, old state, new state).
    result
        Where results are kept; None for nowhere.
    run_name
        Name of its runs: a template with arguments in braces, or a function.
    log_prints
        Whether what the function and its tasks print is logged.
    description
        What it is for.
    schedule
        When `run` runs it; None for once, at once.
    """

    _kind = "flow"
    method: type | None = None  # what a classmethod or staticmethod says that it receives

    def __init__(
        self,
        function: Callable[P, R],
        name: str | None,
        options: RunOptions,
        state_handlers: list[Callable[..., Any]],
        result: Any,
        validate_parameters: bool,
        *,
        run_name: str | Callable[..., str] | None = None,
        log_prints: bool = False,
        description: str | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        functools.update_wrapper(self, function)
        doc = getattr(function, "__doc__", None)  # `getdoc` would look for that of a method in its class, and so here
        self.description = inspect.cleandoc(doc) if description is None and doc else description
        self.schedule = schedule
        self.run_name = run_name
        self.log_prints = log_prints
        self.function = function
        self.body: Callable[..., Any] = function
        self.name = name or function.__name__
        self.options = options
        self.state_handlers = state_handlers
        self.terminal_state_handler: Callable[..., Any] | None = None
        self.result = result
        self.signature = BoundSignature(function, self.name, validate_parameters)
        self.made_in: str | None = getattr(function, "__module__", None)
        self.is_async = inspect.iscoroutinefunction(function)
        self.is_generator = inspect.isgeneratorfunction(function)

    @property
    def fn(self) -> Callable[P, R]:
        """The function, which runs without a flow."""
        return self.function

    @property
    def version(self) -> str:
        """Return the hash of the function's code."""
        return fingerprint(self.function)

    def with_options(
        self, *, name: str | None = None, executor: Any = None, task_runner: Any = None, **options: Any
    ) -> FlowFunction[P, R]:
        """Return the flow with other options, named as in :func:`flow`."""
        chosen = executor if executor is not None else task_runner
        given = {"name": name or self.name, "executor": self.options.executor if chosen is None else chosen}
        new: FlowFunction[P, R] = flow(self.function, **{**self._own(), **given, **options})
        new.method = self.method
        return new

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the flow and return what the function returned.

        Parameters
        ----------
        *args, **kwargs
            Arguments of the function; ``return_state=True`` gives the state of the flow instead of its value. Futures
            of the flow function around it are waited for.

        Raises
        ------
        ParameterError
            An argument is unknown, missing, or not of its type.
        Exception
            What the function raised.
        """
        return_state = bool(kwargs.pop("return_state", False))
        bound = self.signature.bind(resolved(args), resolved(kwargs))
        answer: R = self._called(bound, self.options, return_state, len(args))
        return answer

    def run(
        self, parameters: Mapping[str, Any] | None = None, *, executor: Any = None, run_on_schedule: bool | None = None,
        context: Mapping[str, Any] | None = None, task_states: StatesByTask | None = None,
        flow_run_name: str | None = None, history: Any = None,
        progress: bool | None = None, timeout: float | timedelta | None = None, story: bool | None = None,
        refresh_cache: bool | None = None, check_inputs: bool | None = None, page: bool | None = None,
        keep_results: Any = None, on_pause: str | None = None, **parameter_values: Any,
    ) -> State:  # fmt: skip
        """Run the flow and return its state, whose result is what the function returned.

        A flow with a schedule runs at each event of it, as :meth:`prefectish.Flow.run` says; a call of the flow runs it
        once, at once.

        Parameters
        ----------
        parameters, **parameter_values
            Arguments of the function. An event of a schedule may bring values for the others.
        executor, run_on_schedule, context, flow_run_name, history, progress, timeout
            As for :meth:`prefectish.Flow.run`.
        task_states
            States from which calls and maps begin, by task: a finished one stands for the run of the task, a `Mapped`
            has those of a map's children. A state is for each call and map of its task; a list has one for each, in the
            order of the calls, and None for one that runs.
        story, refresh_cache, check_inputs, page
            As for :meth:`prefectish.Flow.run`.
        keep_results
            Large results that can be read after the run, in the states of its handle, without a future of them: True
            for all, a task, or several. Default: none.
        on_pause
            "prompt" to ask on the terminal about paused tasks once nothing else runs; who is refused stays paused.

        Raises
        ------
        ParameterError
            An argument is unknown, missing, or not of its type.
        FlowDefinitionError
            The schedule has no event left.
        RuntimeError
            It is async, and this is called in an event loop.
        """
        options = self._run_options(
            executor=executor, context=context, flow_run_name=flow_run_name, history=history, progress=progress,
            timeout=timeout, story=story, refresh_cache=refresh_cache, check_inputs=check_inputs, page=page,
            keep_results=keep_results, on_pause=on_pause, task_states=task_states,
        )  # fmt: skip
        given = {**(parameters or {}), **parameter_values}
        if self.schedule is not None:
            repeats = switch("run_on_schedule", default=True) if run_on_schedule is None else run_on_schedule
            if repeats:
                return self._repeat(self.schedule, given, options)
        return self._state(self.signature.bind((), given), options)

    def _run_options(self, **given: Any) -> RunOptions:
        """Return the options of a run: those that are given, else the flow's; a parameter may have the name of one."""
        of_parameters = {name: value for name, value in given.items() if name not in ("executor", "history")}
        check_reserved(self.signature.signature.parameters, **of_parameters)
        GivenStates(given.get("task_states"))  # what is wrong with them is said before anything runs
        return self.options.merged(**given)

    def _repeat(self, schedule: Schedule, given: Mapping[str, Any], options: RunOptions) -> State:
        """Run at each event of the schedule; what is not given comes from the event."""
        from prefectish.engine import clock
        from prefectish.schedules.repeat import repeat

        for source in schedule.clocks:
            self.signature.bind((), {**source.parameter_defaults, **given})

        def run(event: ClockEvent) -> State:
            nonlocal options
            arguments = self.signature.bind((), {**event.parameter_defaults, **given})
            now = options._replace(state=Scheduled(start_time=event.start_time))
            options = options._replace(task_states=None)  # they are of the first run
            return self._state(arguments, now)

        return repeat(schedule, run, self.name, clock.current)

    def start(
        self, parameters: Mapping[str, Any] | None = None, *, executor: Any = None,
        context: Mapping[str, Any] | None = None, task_states: StatesByTask | None = None,
        flow_run_name: str | None = None, history: Any = None,
        progress: bool | None = None, timeout: float | timedelta | None = None, story: bool | None = None,
        refresh_cache: bool | None = None, check_inputs: bool | None = None, page: bool | None = None,
        keep_results: Any = None,
        detach: bool | str = False, **parameter_values: Any,
    ) -> FunctionHandle | AttachedRun:  # fmt: skip
        """Start the flow in a thread of its own, once and at once, and return a handle on the run.

        Its `cancel`, `pause`, `set_limit`, `retry`, `counts` and `snapshot` mean the tasks that the function has called
        so far.

        Parameters
        ----------
        parameters, executor, context, task_states, flow_run_name, history, timeout, keep_results, **parameter_values
            As in :meth:`run`, like those that are not named here.
        progress
            As in :meth:`run`; by default not in a terminal, where the user may type meanwhile.
        detach
            As for :meth:`prefectish.Flow.start`.

        Raises
        ------
        ParameterError
            As :meth:`run`. What goes wrong later is raised by the handle's `wait`.
        TypeError
            A run that is detached has no history, a page, or an executor with ``client=``.
        """
        if detach:
            given = {**(parameters or {}), **parameter_values}
            self.signature.bind((), given)
            return self._detached(
                detach, given, history if history is not None else self.options.history, executor=executor,
                context=context, flow_run_name=flow_run_name, timeout=timeout, story=story,
                refresh_cache=refresh_cache, check_inputs=check_inputs, page=page, keep_results=keep_results,
                task_states=task_states,
            )  # fmt: skip
        options = self._run_options(
            executor=executor, context=context, flow_run_name=flow_run_name, history=history, progress=progress,
            timeout=timeout, story=story, refresh_cache=refresh_cache, check_inputs=check_inputs, page=page,
            keep_results=keep_results, task_states=task_states, background=True,
        )  # fmt: skip
        return self._in_background(self.signature.bind((), {**(parameters or {}), **parameter_values}), options)

    def _in_background(self, arguments: dict[str, Any], options: RunOptions) -> FunctionHandle:
        """Start a run in a thread of its own."""
        from contextvars import copy_context

        from prefectish.functions.background import FunctionHandle

        scope = copy_context()

        def drive(options: RunOptions, *, control: RunControl | None = None) -> State:
            return scope.run(self._state, arguments, options, control)

        return FunctionHandle(self, partial(drive, options), partial(approved, drive, options._replace(retries=0)))

    def resume(
        self, run_id: str, parameters: Mapping[str, Any] | None = None, *, retry_failed: bool = False,
        where: Any = None, force: bool = False, executor: Any = None, context: Mapping[str, Any] | None = None,
        history: Any = None, progress: bool | None = None, timeout: float | timedelta | None = None,
        story: bool | None = None, page: bool | None = None, **parameter_values: Any,
    ) -> State:  # fmt: skip
        """Continue a recorded run: the function runs again, and calls that have ended return their recorded results.

        A call is known by its task and its arguments, wherever in the function it stands. One whose result was not
        stored, and is not None, runs again: give the flow a ``result=`` store.

        Parameters
        ----------
        run_id
            Its identifier, ``state.context["flow_run_id"]``.
        parameters, **parameter_values
            Arguments of the function; they are not recorded.
        retry_failed
            Run again what failed, also with corrected code; otherwise failures stand.
        where
            Run again only some of what failed, as for :meth:`prefectish.Flow.resume`.
        force
            Accept that tasks changed: they run again, and what follows them.
        executor, context, history, progress, timeout, story, page
            As for :meth:`run`.

        Raises
        ------
        KeyError
            No such run is recorded.
        ResumeMismatch
            It is a run of another flow, or ``task load-1 changed``.
        RunLocked
            Another process drives the run.
        """
        options = self._run_options(
            executor=executor, context=context, history=history, progress=progress, timeout=timeout, story=story,
            retries=0, page=page,
        )  # fmt: skip
        arguments = self.signature.bind((), {**(parameters or {}), **parameter_values})
        recorded = resumption(run_id, options.history, retry_failed, force, where)
        return self._state(arguments, options.merged(resumption=recorded))

    def visualize(
        self, run: Any = None, format: Literal["mermaid", "dot"] = "mermaid",
        filename: str | os.PathLike[str] | None = None,
    ) -> str:  # fmt: skip
        """Draw what a run of the flow called, and return the text of the picture.

        Parameters
        ----------
        run
            A run: its state, its handle, or its identifier, of a recorded one also that of :mod:`prefectish.history`.
            Default: the last run in this process.
        format, filename
            As for :meth:`prefectish.Flow.visualize`.

        Raises
        ------
        ValueError
            There is no such run: what a flow function calls is known once it runs.
        """
        from prefectish.functions import last_runs
        from prefectish.visualize import draw_states

        context = getattr(run, "context", None) or {}
        run_id = context.get("flow_run_id") or getattr(run, "id", run)
        states = last_runs.of_flow(self.name) if run is None else last_runs.of_run(run_id)
        if states is None and run is not None:
            states = import_module("prefectish.history.outline").task_states(str(run_id))
        if states is None:
            which = f"of run {run_id!r}" if run is not None else "yet"
            raise ValueError(
                f"nothing is known {which} of what {self.name} calls: run it in this process, or pass a recorded run"
            )
        return draw_states(states, format, filename)

    def _state(self, arguments: dict[str, Any], options: RunOptions, control: RunControl | None = None) -> State:
        """Run the flow and return its state; an async one in an event loop of its own."""
        state: State
        if not self.is_async:
            state = self._called(arguments, options, True, control=control)
            return state
        import asyncio

        if asyncio._get_running_loop() is not None:
            raise RuntimeError(
                f"{self.name} is async, and an event loop runs in this thread: await {self.name}(..., "
                f"return_state=True), or call {self.name}.start(...)"
            )
        ended: State = asyncio.run(self._awaited(arguments, self._named(options, arguments), True, 0, control))
        return ended

    def _named(self, options: RunOptions, arguments: Mapping[str, Any]) -> RunOptions:
        if self.run_name is None or options.flow_run_name is not None:
            return options
        return options.merged(flow_run_name=_run_name(self.run_name, arguments))

    def _called(
        self,
        arguments: dict[str, Any],
        options: RunOptions,
        return_state: bool,
        count: int = 0,
        control: RunControl | None = None,
    ) -> Any:
        options = self._named(options, arguments)
        if self.is_async:
            return self._awaited(arguments, options, return_state, count, control)
        note_run(self)
        args, named = self.signature.as_given(arguments, count)
        attempt = 0
        while True:
            attempt += 1
            attempted = FlowAttempt(self, arguments, options, attempt, control)
            with attempted:
                if attempted.begins:
                    attempted.outcome = capture(self.body, *args, **named)
                    if self.is_generator and isinstance(attempted.outcome, Value):  # it runs as its items are taken
                        attempted.outcome = capture(list, attempted.outcome.value)
            if not attempted.should_retry():
                return attempted.answer(return_state)
            attempted.clock.sleep(attempted.delay())

    async def _awaited(
        self,
        arguments: dict[str, Any],
        options: RunOptions,
        return_state: bool,
        count: int,
        control: RunControl | None,
    ) -> Any:
        import asyncio

        note_run(self)
        args, named = self.signature.as_given(arguments, count)
        attempt = 0
        while True:
            attempt += 1
            attempted = FlowAttempt(self, arguments, options, attempt, control)
            with attempted:
                if attempted.begins:
                    attempted.outcome = await captured(self.body(*args, **named))
                    await asyncio.to_thread(attempted.wait_for_work)
            if not attempted.should_retry():
                return attempted.answer(return_state)
            await asyncio.sleep(attempted.delay())

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        of = owner if self.method is classmethod else instance
        if of is None or self.method is staticmethod:
            return self
        return flow(MethodType(self.function, of), **self._own())

    def _own(self) -> dict[str, Any]:
        o = self.options
        return {
            "name": self.name, "executor": o.executor, "task_runner_max_concurrency": o.max_concurrency,
            "retries": o.retries, "retry_delay_seconds": o.retry_delay, "timeout": o.timeout, "history": o.history,
            "progress": o.progress, "state_handlers": self.state_handlers, "result": self.result,
            "validate_parameters": self.signature.validates, "flow_run_name": self.run_name,
            "log_prints": self.log_prints, "description": self.description, "schedule": self.schedule,
        }  # fmt: skip

    def __repr__(self) -> str:
        return f"<Flow: name={self.name}>"


class FlowOptions(TypedDict, total=False):
    """Options of :func:`flow`, for type checkers."""

    name: str | None
    executor: Any
    task_runner: Any
    task_runner_max_concurrency: int | None
    retries: int | None
    retry_delay_seconds: Any
    timeout: float | timedelta | None
    timeout_seconds: float | None
    validate_parameters: bool | None
    state_handlers: Iterable[Callable[..., Any]] | None
    on_failure: Callable[..., Any] | Sequence[Callable[..., Any]] | None
    on_completion: Callable[..., Any] | Sequence[Callable[..., Any]] | None
    flow_run_name: str | Callable[..., str] | None
    log_prints: bool | None
    description: str | None
    result: Any
    history: Any
    progress: bool | None
    schedule: Schedule | None


@overload
def flow(function: Callable[P, R], /, **options: Unpack[FlowOptions]) -> FlowFunction[P, R]: ...


@overload
def flow(**options: Unpack[FlowOptions]) -> Callable[[Callable[P, R]], FlowFunction[P, R]]: ...


def flow(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    executor: Any = None,
    task_runner: Any = None,
    task_runner_max_concurrency: int | None = None,
    retries: int | None = 0,
    retry_delay_seconds: Any = 0,
    timeout: float | timedelta | None = None,
    timeout_seconds: float | None = None,
    validate_parameters: bool | None = True,
    state_handlers: Iterable[Callable[..., Any]] | None = None,
    on_failure: Callable[..., Any] | Sequence[Callable[..., Any]] | None = None,
    on_completion: Callable[..., Any] | Sequence[Callable[..., Any]] | None = None,
    flow_run_name: str | Callable[..., str] | None = None,
    log_prints: bool | None = False,
    description: str | None = None,
    result: Any = None,
    history: Any = None,
    progress: bool | None = None,
    schedule: Schedule | None = None,
    **unknown: Any,
) -> Any:
    """Make a flow of a function; as a decorator, with options or without.

    Calling the flow runs the function. Tasks that it calls run and give their results; ``task.submit(...)`` and
    ``task.map(...)`` give futures at once. The flow ends when the function has returned and all that it submitted has
    ended.

    Parameters
    ----------
    function
        The function, maybe a coroutine function. None: return a decorator.
    name
        Default: the function's.
    executor, task_runner
        What runs the tasks, under either name; default: the configured executor, else threads of this machine.
    task_runner_max_concurrency
        Calls and children of *one* task that run at the same time, at most; other tasks are not kept waiting.
    retries, retry_delay_seconds
        Runs after one that failed, and the seconds before each: a number, a list with one for each, or a function of
        the attempt.
    timeout, timeout_seconds
        Seconds the run may take; then what runs is TimedOut, and nothing more starts.
    validate_parameters
        Whether arguments are checked against, and turned into, the types of their annotations.
    state_handlers
        Called in order at each change of the flow's state with (flow, old state, new state).
    on_failure, on_completion
        A function, or a list of them, called with the flow and the state in which it failed, or ended well; functions
        of three arguments are called with the flow, facts of the run (`id`, `name`, `parameters`, ...), and the state.
    flow_run_name
        Name of a run: a template such as ``"load {day}"``, filled with the arguments, or a function without arguments.
    log_prints
        Whether what the function and its tasks print is logged.
    description
        What it is for; default: the docstring.
    result
        Where results are kept, as for :class:`prefectish.Flow`.
    history, progress
        As for :meth:`prefectish.Flow.run`.
    schedule
        A :class:`~prefectish.schedules.Schedule`: `run` waits for each of its events, and runs the flow then.

    Raises
    ------
    FlowDefinitionError
        An option is impossible, or it is a task, or no function.

    Examples
    --------
    >>> from prefectish import flow, task
    >>> @task
    ... def double(x):
    ...     return 2 * x
    >>> @flow
    ... def doubles(n: int):
    ...     return double.map(range(n)).result()
    >>> doubles(3)
    [0, 2, 4]
    """
    if unknown:
        name = min(unknown)
        raise TypeError(f"a flow has no option {name!r}{_hint(name)}")
    if function is None:
        options = {key: value for key, value in locals().items() if key not in ("function", "unknown")}
        return functools.partial(flow, **options)
    plain, method = plain_function(function)
    if not callable(plain) or isinstance(plain, type) or hasattr(plain, "state_handlers"):
        raise FlowDefinitionError(f"@flow needs a function, got {function!r}")
    if inspect.isasyncgenfunction(plain):
        raise FlowDefinitionError(f"{function!r} is an async generator, which cannot be a flow: return a list")
    if schedule is not None and not hasattr(schedule, "next"):
        raise TypeError(f"schedule must be a Schedule, got {schedule!r}; see prefectish.schedules")
    limit = timeout if timeout is not None else timeout_seconds
    most = task_runner_max_concurrency
    delay = 0 if retry_delay_seconds is None else retry_delay_seconds
    run_options = RunOptions(
        executor=one_executor(executor, task_runner),
        timeout=None if limit is None else seconds_of("timeout", limit),
        history=history,
        progress=progress,
        retries=whole("retries", 0 if retries is None else retries, 0),
        retry_delay=delay,
        max_concurrency=None if most is None else whole("task_runner_max_concurrency", most, 1),
    )
    check_texts(name=name, description=description)
    validates = switched("validate_parameters", validate_parameters, True)
    retries_of_flows.check_delay("retry_delay_seconds", delay)
    result = None if result is None else store("result", result)
    handlers = [*handler_list("state_handlers", state_handlers), *hook_handlers(on_completion, on_failure)]
    more: dict[str, Any] = {
        "run_name": flow_run_name,
        "log_prints": switched("log_prints", log_prints, False),
        "description": description,
        "schedule": schedule,
    }
    made = FlowFunction(plain, name, run_options, handlers, result, validates, **more)
    made.method = method
    check_run_name(flow_run_name, made.signature)
    return made


def _hint(name: str) -> str:
    if name == "persist_result":
        return "; write result=LocalResult(...), or FSResult(...), to store results"
    return spellings.hint(name) or near_option(name, FlowOptions.__annotations__)


def _run_name(run_name: str | Callable[..., str], arguments: Mapping[str, Any]) -> str:
    return str(run_name()) if callable(run_name) else run_name.format(**arguments)
