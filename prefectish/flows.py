"""A flow: a network of tasks that calls record, run as one.

A flow only records. What a run makes of it is the engine's.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Never, NoReturn, Self

from prefectish.config import default_executor, switch
from prefectish.deployable import Deployable
from prefectish.edges import Edge
from prefectish.engine.context import current
from prefectish.engine.driver.options import RunOptions, check_reserved
from prefectish.engine.state import Scheduled, State
from prefectish.errors import FlowDefinitionError
from prefectish.flow_graph import FlowGraph
from prefectish.flow_source import note_run
from prefectish.flow_version import version_of
from prefectish.missing_names import NotOfFlows, lead_out, option_of_flows
from prefectish.parameters import settle_run
from prefectish.safe_repr import as_html
from prefectish.task_graph import check_results
from prefectish.tasks.hooks import Hooked, hook_handlers
from prefectish.tasks.options import function, handler_list, near_option, seconds, store
from prefectish.tasks.task import Task

if TYPE_CHECKING:
    from prefectish.engine.driver.handle import RunHandle
    from prefectish.registry import AttachedRun
    from prefectish.schedules import Schedule
    from prefectish.schedules.clocks import ClockEvent

#: Options of a flow, to say which one was probably meant.
_OPTIONS = (
    "edges", "executor", "on_failure", "reference_tasks", "result", "schedule", "state_handlers", "tasks",
    "terminal_state_handler", "timeout", "validate",
)  # fmt: skip
NO_DEFAULTS: Mapping[str, Any] = {}


class Flow(Hooked, FlowGraph, Deployable):
    """A graph of tasks that is run as one.

    Parameters
    ----------
    name
        Name in displays, logs and the history; must not be empty.
    tasks, edges
        Tasks and edges to begin with; others are added in a ``with`` block, or by :meth:`add_task` and `add_edge`.
    reference_tasks
        The tasks whose states decide the flow's; default: the terminal tasks.
    state_handlers
        Called in order at each change of the flow's state with (flow, old state, new state).
    on_failure
        Called with (flow, state) when it failed.
    terminal_state_handler
        Called with (flow, state, states of the reference tasks); may return another final state.
    schedule
        A :class:`~prefectish.schedules.Schedule`: :meth:`run` waits for each of its events and runs the flow then.
    executor
        The executor of :meth:`run` where none is passed.
    result
        Where tasks keep their results, `LocalResult(...)` or `FSResult(...)`; a task may have a place of its own.
    timeout
        Longest time of a run, in seconds or as a timedelta.
    validate
        Whether each new edge is checked at once; otherwise ordering and running find cycles.

    Raises
    ------
    FlowDefinitionError
        If the name is empty, or as :meth:`validate`.
    TypeError
        If a handler is not callable, or there is no option of a name.
    """

    if not TYPE_CHECKING:
        environment = NotOfFlows()
        run_agent = NotOfFlows()
        run_config = NotOfFlows()
        save = NotOfFlows()
        serialize = NotOfFlows()
        serialized_hash = NotOfFlows()
        storage = NotOfFlows()

    def __init__(
        self,
        name: str,
        *,
        tasks: Iterable[Task] | None = None,
        edges: Iterable[Edge] | None = None,
        reference_tasks: Iterable[Task] | None = None,
        state_handlers: Sequence[Callable[..., Any]] | None = None,
        on_failure: Callable[..., Any] | None = None,
        terminal_state_handler: Callable[..., Any] | None = None,
        schedule: Schedule | None = None,
        executor: Any = None,
        result: Any = None,
        timeout: float | timedelta | None = None,
        validate: bool = False,
        **unknown: Never,
    ) -> None:
        if unknown:
            option = min(unknown)
            raise TypeError(
                f"a flow has no option {option!r}{option_of_flows(option) or near_option(option, _OPTIONS)}"
            )
        if callable(name):
            called = getattr(name, "__name__", name)
            raise TypeError(
                f"the name of a flow must be a string, got the function {called}; to make a flow of a function write "
                f"@flow (from prefectish import flow), or give a name and call tasks in `with Flow({called!r}) as f:`"
            )
        if name and not isinstance(name, str):
            raise TypeError(f"the name of a flow must be a string, got {name!r}")
        if not name:
            raise FlowDefinitionError(f"a flow needs a name, got {name!r}")
        super().__init__(name, validate)
        self.made_in: str | None = sys._getframe(1).f_globals.get("__name__")
        if schedule is not None and not hasattr(schedule, "next"):
            raise TypeError(f"schedule must be a Schedule, got {schedule!r}; see prefectish.schedules")
        self.schedule = schedule
        self.executor = executor
        self.result = None if result is None else store("result", result)
        self.timeout = None if timeout is None else seconds("timeout", timeout)
        handlers = handler_list("state_handlers", state_handlers)
        self.state_handlers = [*handlers, *hook_handlers(None, on_failure)]
        if terminal_state_handler is not None:
            function("terminal_state_handler", terminal_state_handler)
        self.terminal_state_handler = terminal_state_handler
        for task in _several("tasks", tasks):
            self.add_task(task)
        for edge in _several("edges", edges):
            self.insert(edge)
        self.set_reference_tasks(reference_tasks or ())

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse to be called: a flow is run, and no decorator."""
        raise TypeError(
            f"{self!r} cannot be called: run it with .run(), call tasks inside of `with Flow({self.name!r}) as f:`, "
            f"or, to decorate a function, write @flow (from prefectish import flow)"
        )

    def _repr_html_(self) -> str:
        return as_html("of_flow", self)

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other) or not isinstance(other, Flow):
            return NotImplemented
        return self._identity() == other._identity()

    def _identity(self) -> tuple[object, ...]:
        return self.name, self.tasks, self.edges, self.reference_tasks()

    __hash__ = None  # type: ignore[assignment]  # it changes as it is built

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_unused": {}, "_open": []}

    @property
    def version(self) -> str:
        """A hash of the flow's tasks, edges, constants and bodies: 32 hexadecimal digits, the same in every process."""
        return version_of(self)

    def validate(self) -> None:
        """Check the flow as a whole.

        Raises
        ------
        FlowDefinitionError
            ``cycle: a -> b -> a``; if an argument has several sources; or if results would overwrite one another, or
            have names with fields that their tasks have not.
        """
        super().validate()
        check_results(self)
        if any(task.task_run_name is not None for task in self.tasks):
            from prefectish.tasks.naming import check_run_names

            check_run_names(self)

    def copy(self) -> Self:
        """Return a flow of the same tasks that can be changed by itself."""
        new = object.__new__(type(self))
        new.__dict__.update(self.__getstate__())
        new.detach()
        new.state_handlers = list(self.state_handlers)
        return new

    __copy__ = copy

    def run(
        self,
        parameters: Mapping[str, Any] | None = None,
        *,
        executor: Any = None,
        run_on_schedule: bool | None = None,
        context: Mapping[str, Any] | None = None,
        task_states: Mapping[Task, State] | None = None,
        state: State | None = None,
        flow_run_name: str | None = None,
        keep_results: Any = None,
        timeout: float | timedelta | None = None,
        on_pause: str | None = None,
        history: Any = None,
        progress: bool | None = None,
        story: bool | None = None,
        refresh_cache: bool | None = None,
        check_inputs: bool | None = None,
        page: bool | None = None,
        **parameter_values: Any,
    ) -> State:
        """Run the flow and return its state, whose result maps each task to its state.

        A flow with a schedule runs at each event of it, until there are none, and the state of the last run is
        returned. A run that fails, or cannot even begin, does not stop the schedule.

        Parameters
        ----------
        parameters, **parameter_values
            Values of parameters by name. An event of a schedule may bring values for the others.
        executor
            Default: the flow's, else the configured one, else this process.
        run_on_schedule
            False to run once, at once, whatever the schedule says. Default: the setting `run_on_schedule`, else True.
        context
            Values that bodies find in `prefectish.context`.
        task_states
            States from a former run: finished tasks are not run again. On a schedule, of the first run.
        state
            The state to begin with; a finished one is returned as it is, and no schedule is waited for with another.
        flow_run_name
            A name for this run.
        keep_results
            Which large results can be read after the run: None for those of terminal and reference tasks, True for
            all, False for none, or a task, or several. Small ones always can.
        timeout
            Longest time of the run, in seconds; then open tasks are TimedOut, and those not started Cancelled.
            Default: the flow's.
        history
            Where the run is recorded: None for the history in the home folder, False for nowhere, a path or a database
            URL.
        on_pause
            "prompt" to ask on the terminal about paused tasks; else the run ends, unfinished, when only they are left.
        progress
            Whether the run is shown while it runs: live in a notebook or a terminal, else as a line now and then.
            Default: the setting `progress`, else True in a notebook or a terminal, and False elsewhere and in a task.
        story
            Whether to keep a log of what happens to each child, for ``state.story("load[17]")``. Default: True under
            ``PREFECTISH_VALIDATE=1``, else False.
        refresh_cache
            Whether tasks compute their results anew and replace what is cached. Default: the setting `refresh_cache`,
            which is False.
        check_inputs
            Whether a body that changes its arguments fails, by hashes of them before and after. Default: the setting
            `check_inputs`, else True in a program that has imported :mod:`prefectish.testing`, and False in others.
        page
            True to show the run in a browser, while this process lives: a process of its own serves the page, and its
            link is logged. Needs a history.

        Raises
        ------
        TypeError
            A page of a run without a history.
        ParameterError
            ``missing: x; unknown: y``.
        FlowDefinitionError
            As :meth:`validate`; or if the schedule has no event left.
        RuntimeError
            Inside a flow's `with` block.
        """
        options = self._options(
            executor=executor, context=context, task_states=task_states, state=state, flow_run_name=flow_run_name,
            keep_results=keep_results, timeout=timeout, on_pause=on_pause, history=history, progress=progress,
            story=story, refresh_cache=refresh_cache, check_inputs=check_inputs, page=page,
        )  # fmt: skip
        names = (parameter.name for parameter in self.parameters())
        check_reserved(names, story=story, refresh_cache=refresh_cache, check_inputs=check_inputs, page=page)
        settled = partial(self._settled, parameters, parameter_values, context)
        if self.schedule is not None and state is None:
            repeats = switch("run_on_schedule", default=True) if run_on_schedule is None else run_on_schedule
            if repeats:
                return self._repeat(self.schedule, settled, options)
        values = settled()
        if state is not None and state.is_finished():
            return state
        from prefectish.engine.driver.run import run_flow

        return run_flow(self, values, options)

    def _options(self, **given: Any) -> RunOptions:
        """Return the options of a run: those that are given, else the flow's, else the configured executor."""
        options = RunOptions(executor=self.executor, timeout=self.timeout).merged(**given)
        return options if options.executor is not None else options.merged(executor=default_executor())

    def _repeat(
        self, schedule: Schedule, settled: Callable[[Mapping[str, Any]], dict[str, Any]], options: RunOptions
    ) -> State:
        """Run at each event of the schedule; `settled` gives parameters their values by the defaults of an event."""
        from prefectish.engine import clock
        from prefectish.engine.driver.run import run_flow
        from prefectish.schedules.repeat import repeat

        for source in schedule.clocks:
            settled(source.parameter_defaults)

        def run(event: ClockEvent) -> State:
            nonlocal options
            values = settled(event.parameter_defaults)
            now = options._replace(state=Scheduled(start_time=event.start_time))
            options = options._replace(task_states=None)  # they are of the first run
            return run_flow(self, values, now)

        return repeat(schedule, run, self.name, clock.current)

    def start(
        self,
        parameters: Mapping[str, Any] | None = None,
        *,
        executor: Any = None,
        context: Mapping[str, Any] | None = None,
        task_states: Mapping[Task, State] | None = None,
        flow_run_name: str | None = None,
        keep_results: Any = None,
        timeout: float | timedelta | None = None,
        history: Any = None,
        progress: bool | None = None,
        story: bool | None = None,
        refresh_cache: bool | None = None,
        check_inputs: bool | None = None,
        page: bool | None = None,
        detach: bool | str = False,
        **parameter_values: Any,
    ) -> RunHandle | AttachedRun:
        """Start the flow in a thread of its own, once and at once, and return a handle on the run.

        Parameters
        ----------
        parameters, executor, context, task_states, flow_run_name, keep_results, timeout, history, **parameter_values
            As in :meth:`run`, like those that are not named here.
        progress
            As in :meth:`run`; by default not in a terminal, where the user may type meanwhile.
        detach
            True to hand the run to a process of its own, which does not end with this one; the name of a project to
            have an agent run it. :func:`prefectish.attach` gives a handle on it in any process.

        Raises
        ------
        ParameterError, FlowDefinitionError, RuntimeError
            As :meth:`run`. What goes wrong later is raised by the handle's `wait`.
        TypeError
            A run that is detached has no history, a page, or an executor with ``client=``.
        """
        names = (parameter.name for parameter in self.parameters())
        check_reserved(names, story=story, refresh_cache=refresh_cache, check_inputs=check_inputs, page=page)
        values = self._settled(parameters, parameter_values, context)
        if detach:
            # an agent's run gets what was given, as JSON, and settles it
            sent = values if detach is True else {**(parameters or {}), **parameter_values}
            return self._detached(
                detach, sent, history, executor=executor, context=context, task_states=task_states,
                flow_run_name=flow_run_name, keep_results=keep_results, timeout=timeout, story=story,
                refresh_cache=refresh_cache, check_inputs=check_inputs, page=page,
            )  # fmt: skip
        options = self._options(
            executor=executor, context=context, task_states=task_states, flow_run_name=flow_run_name,
            keep_results=keep_results, timeout=timeout, history=history, progress=progress, story=story,
            refresh_cache=refresh_cache, check_inputs=check_inputs, page=page,
            background=True,
        )  # fmt: skip
        return self._in_background(values, options)

    def _in_background(self, values: dict[str, Any], options: RunOptions) -> RunHandle:
        """Start a run in a thread of its own."""
        from contextvars import copy_context

        from prefectish.engine.driver.handle import RunHandle
        from prefectish.engine.driver.run import approved, run_flow

        drive = partial(copy_context().run, run_flow, self, values)
        return RunHandle(self, partial(drive, options), partial(approved, drive, options))

    def resume(
        self,
        run_id: str,
        *,
        retry_failed: bool = False,
        where: Any = None,
        force: bool = False,
        history: Any = None,
        parameters: Mapping[str, Any] | None = None,
        executor: Any = None,
        context: Mapping[str, Any] | None = None,
        keep_results: Any = None,
        timeout: float | timedelta | None = None,
        progress: bool | None = None,
        story: bool | None = None,
        page: bool | None = None,
        **parameter_values: Any,
    ) -> State:
        """Continue a recorded run: run what is not finished, what is new in a list, and what follows from it.

        Parameters
        ----------
        run_id
            Its identifier, ``state.context["flow_run_id"]``, or the beginning of it.
        retry_failed
            Run failed children again, also with corrected code; otherwise their failures stand.
        where
            Run only some of the failed children again, of all tasks: an exception type or several, the name of
            one, a function of the failed state, or a group of ``history.run(id).failures()``; others' failures stand.
        force
            Accept that tasks changed: they run again, and what follows them.
        history
            Where the run is recorded, as in :meth:`run`.
        parameters, executor, context, keep_results, timeout, progress, story, page, **parameter_values
            As in :meth:`run`; parameters are not recorded.

        Raises
        ------
        KeyError
            If no such run is recorded.
        ResumeMismatch
            ``task load-1 changed``.
        RunLocked
            If another process drives the run.
        """
        check_reserved((parameter.name for parameter in self.parameters()), story=story, page=page)
        values = self._settled(parameters, parameter_values, context)
        from prefectish.engine.driver.run import resumption, run_flow

        options = self._options(
            executor=executor, context=context, keep_results=keep_results, timeout=timeout, progress=progress,
            story=story, page=page,
        )  # fmt: skip
        recorded = resumption(run_id, history, retry_failed, force, where)  # the run is held from here on
        return run_flow(self, values, options.merged(resumption=recorded))

    def _settled(
        self,
        parameters: Mapping[str, Any] | None,
        more: Mapping[str, Any],
        context: Mapping[str, Any] | None,
        defaults: Mapping[str, Any] = NO_DEFAULTS,
    ) -> dict[str, Any]:
        """Check that the flow can run, and settle its parameters; `defaults` are those of an event of the schedule."""
        active = current().get("flow")
        if active is not None:
            raise RuntimeError(f"{self!r} cannot run inside the block of {active!r}, which is still being built")
        self.validate()
        note_run(self)
        return settle_run(self.parameters(), parameters, more, context, defaults)

    def visualize(
        self,
        state: State | None = None,
        format: Literal["mermaid", "dot"] = "mermaid",
        filename: str | os.PathLike[str] | None = None,
    ) -> str:
        """Draw the flow and return the text of the picture.

        Mapped tasks are boxes with a map mark, others are rounded; mapped edges are dashed.

        Parameters
        ----------
        state
            What a run returned: its tasks have the colours of their states; a map of up to 20 children is drawn child
            by child, a larger one has the number of children in each state.
        format
            The language of the text that is returned; code hosts and notebooks show Mermaid as a picture.
        filename
            A file to write, by its ending: a text (.mmd, .dot), or a picture (.png, .svg, .pdf), which needs Graphviz
            and its Python package.

        Raises
        ------
        FlowDefinitionError
            If the flow has a cycle.
        ValueError
            If the format, or the ending of the file, is unknown.
        ImportError, RuntimeError
            If Graphviz is needed and not there.
        """
        from prefectish.visualize import draw

        return draw(self, self.name, state, format, filename)


def _several(name: str, given: Any) -> Any:
    """Return what was given for an argument that takes several tasks or edges."""
    if given is not None and (isinstance(given, str | Task) or not hasattr(given, "__iter__")):
        raise TypeError(f"{name} of a flow must be a list, got {given!r}")
    return () if given is None else given


if not TYPE_CHECKING:
    __getattr__ = lead_out(__name__)
