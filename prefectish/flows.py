"""A flow: a network of tasks that calls record, run as one.

A flow only records. What a run makes of it is the engine's.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from importlib import import_module
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self

from prefectish.config import default_executor, switch
from prefectish.deployable import Deployable
from prefectish.edges import Edge, allow_failure, flattened_once, unwrap
from prefectish.engine.context import Overlay, context, current
from prefectish.engine.driver.options import RunOptions, check_reserved
from prefectish.engine.state import Scheduled, State
from prefectish.errors import FlowDefinitionError
from prefectish.flow_source import note_run
from prefectish.flow_version import version_of
from prefectish.parameters import settle_run
from prefectish.safe_repr import printable
from prefectish.task_graph import TaskGraph, check_results, task_list
from prefectish.tasks.collections import Constant, Flattened, as_task, collected, holds_tasks
from prefectish.tasks.hooks import hook_handlers
from prefectish.tasks.mapping import check_constant, check_mappable
from prefectish.tasks.options import function, handler_list, seconds, store
from prefectish.tasks.task import Task

if TYPE_CHECKING:
    from prefectish.engine.driver.handle import RunHandle
    from prefectish.registry import AttachedRun
    from prefectish.schedules import Schedule
    from prefectish.schedules.clocks import ClockEvent
    from prefectish.tasks.recording import RecordingFlow

NO_DEFAULTS: Mapping[str, Any] = {}


class Flow(TaskGraph, Deployable):
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
        If a handler is not callable.
    """

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
    ) -> None:
        if callable(name):
            called = getattr(name, "__name__", name)
            raise TypeError(
                f"the name of a flow must be a string, got the function {called}; to make a flow of a function write "
                f"@flow (from prefectish import flow), or give a name and call tasks in `with Flow({called!r}) as f:`"
            )
        if not name:
            raise FlowDefinitionError(f"a flow needs a name, got {name!r}")
        super().__init__(validate)
        self._unused: dict[Task, None] = {}
        self._open: list[Overlay] = []
        self._around: Flow | None = None
        self.name = name
        self.made_in: str | None = sys._getframe(1).f_globals.get("__name__")
        if schedule is not None and not hasattr(schedule, "next"):
            raise TypeError(f"schedule must be a Schedule, got {schedule!r}; see prefectish.schedules")
        self.schedule = schedule
        self.executor = executor
        self.result = None if result is None else store("result", result)
        self.timeout = None if timeout is None else seconds("timeout", timeout)
        self.state_handlers = handler_list("state_handlers", state_handlers)
        self.state_handlers += hook_handlers(None, on_failure)
        if terminal_state_handler is not None:
            function("terminal_state_handler", terminal_state_handler)
        self.terminal_state_handler = terminal_state_handler
        for task in tasks or ():
            self.add_task(task)
        for edge in edges or ():
            self.insert(edge)
        self.set_reference_tasks(reference_tasks or ())

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse to be called: a flow is run, and no decorator."""
        raise TypeError(
            f"{self!r} cannot be called: run it with .run(), call tasks inside of `with Flow({self.name!r}) as f:`, "
            f"or, to decorate a function, write @flow (from prefectish import flow)"
        )

    def __repr__(self) -> str:
        return f"<Flow: name={printable(self.name)}>"

    def _repr_html_(self) -> str:
        html: str = import_module("prefectish.display.reprs").of_flow(self)
        return html

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

    def __enter__(self) -> Self:
        overlay = context(flow=self)
        overlay.__enter__()
        self._open.append(overlay)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._open.pop().__exit__()
        if kind is None:
            check_results(self, maps_only=True)
        unused, self._unused = [task for task in self._unused if not task.auto_generated], {}
        if kind is None and unused:
            names = ", ".join(map(repr, unused))
            warnings.warn(
                f"tasks were created but not added to {self!r}: {names}; call them, or use flow.add_task", stacklevel=2
            )

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

    def inner(self, name: str) -> Flow:
        """Return an empty flow in which a part of this one is built: calls in it may use the tasks of this one."""
        new = Flow(name)
        new._around = self
        return new

    def note_created(self, task: Task) -> None:
        """Remember a task that was made in the flow's block, to warn if it never comes into the flow."""
        self._unused[task] = None

    def note_used(self, task: Task) -> None:
        """Forget a task that was added, or copied."""
        self._unused.pop(task, None)
        if self._around is not None:
            self._around.note_used(task)

    def add_task(self, task: Task) -> Task:
        """Add a task, if it is not there yet, and return it.

        Raises
        ------
        TypeError
            If it is not a task.
        FlowDefinitionError
            If another task has its explicit slug.
        """
        if task in self.slugs:
            return task
        super().add_task(task)
        self._unused.pop(task, None)
        block = current().get("block")
        if block is not None and (self._around is None or task not in self._around):
            block.note(task, self)
        return task

    def add_edge(
        self,
        upstream_task: Any,
        downstream_task: Task,
        key: str | None = None,
        mapped: bool = False,
        flattened: bool = False,
        validate: bool | None = None,
    ) -> Edge:
        """Add an edge, and the tasks at its ends if need be.

        Parameters
        ----------
        upstream_task
            A task, or a value that becomes one.
        downstream_task
            The task that waits.
        key, mapped, flattened
            As for :class:`prefectish.edges.Edge`.
        validate
            Whether to check the flow now; default: what the flow was made with.

        Raises
        ------
        FlowDefinitionError
            If it joins a task with itself, leads into a parameter, or validation finds a fault.
        """
        upstream = self.add_task(as_task(upstream_task, self))
        return self.insert(Edge(upstream, self.add_task(downstream_task), key, mapped, flattened), validate)

    def chain(self, *tasks: Any, validate: bool | None = None) -> list[Edge]:
        """Let each task wait for the one before it, and return the edges."""
        nodes = [as_task(task, self) for task in tasks]
        return [self.add_edge(first, then, validate=validate) for first, then in pairwise(nodes)]

    def set_dependencies(
        self,
        task: Any,
        upstream_tasks: Iterable[Any] | None = None,
        downstream_tasks: Iterable[Any] | None = None,
        keyword_tasks: Mapping[str, Any] | None = None,
        mapped: bool = False,
        validate: bool | None = None,
    ) -> Task:
        """Say what a task waits for, what waits for it, and where its arguments come from.

        Parameters
        ----------
        task
            Added if need be.
        upstream_tasks, downstream_tasks
            Tasks, or values that become tasks.
        keyword_tasks
            By argument: a task whose result it is, or a value; values that are not mapped are kept in `constants`.
        mapped
            Whether edges into the task map, where no wrapper says otherwise.
        validate
            As for :meth:`add_edge`.

        Returns
        -------
        Task
            The task itself.

        Raises
        ------
        FlowDefinitionError
            As for :meth:`add_edge`; and if a task is the result of a call in another flow.
        TypeError
            If a constant is to be mapped over and cannot be.
        """
        task_here = self._admit(task)
        for name, value in (keyword_tasks or {}).items():
            self._feed(task_here, name, value, mapped, validate)
        for value in task_list("upstream_tasks", upstream_tasks):
            self._feed(task_here, None, value, mapped, validate)
        for value in task_list("downstream_tasks", downstream_tasks):
            self._feed(self._admit(value), None, task_here, mapped, validate)
        return task_here

    def _admit(self, value: Any) -> Task:
        """Add what stands for a value; the result of a call in another flow has no inputs here, so it is refused."""
        if not isinstance(value, Task):
            return self.add_task(as_task(value, self))
        home = value._home
        if home is not None and value not in self.slugs and not self._has_room_for(home.flow()):
            raise FlowDefinitionError(
                f"task {home.slug} belongs to flow {home.flow_name}: its inputs are not known in {self!r}; call it "
                f"again here, or pass its result as a Parameter"
            )
        return self.add_task(value)

    def _has_room_for(self, home: RecordingFlow | None) -> bool:
        """Whether tasks of a flow may be used here: its own, and those of the flow that it is a part of."""
        return home is not None and (home is self or home is self._around)

    def _feed(self, task: Task, key: str | None, value: Any, mapped: bool, validate: bool | None) -> None:
        """Add the edge, or keep the constant, that gives a value to a task."""
        value = flattened_once(value, lambda inner: Flattened().bind(inner, mapped=mapped, flow=self))
        value, wish, flattened, failure_allowed = unwrap(value)
        maps = mapped if wish is None else wish
        if not isinstance(value, Task):
            argument = "upstream_tasks" if key is None else f"argument {key!r}"
            inside = holds_tasks(value)
            plain = not maps and not flattened
            check = check_mappable if maps else check_constant
            check(value, task.name, argument)
            if plain and not inside and key is not None:
                self.constants.setdefault(task, {})[key] = value
                return
            if plain and inside and key is None and not isinstance(value, dict):
                # To wait for a list is to wait for its members; the list itself is not needed.
                for member in value:
                    self._feed(task, None, allow_failure(member) if failure_allowed else member, mapped, validate)
                return
            value = collected(value, self, maps and not flattened, failure_allowed) if inside else Constant(value)
        self.insert(Edge(self._admit(value), task, key, maps, flattened, failure_allowed), validate)

    def copy(self) -> Self:
        """Return a flow of the same tasks that can be changed by itself."""
        new = object.__new__(type(self))
        new.__dict__.update(self.__getstate__())
        new.detach()
        new.state_handlers = list(self.state_handlers)
        return new

    __copy__ = copy

    def replace(self, old: Task, new: Any, validate: bool | None = None) -> None:
        """Put a task, or a value, in the place of a task.

        Parameters
        ----------
        old
            A task of the flow.
        new
            A task takes over edges, slug, constants and reference; a value becomes a constant of the tasks downstream.
        validate
            As for :meth:`add_edge`.

        Raises
        ------
        FlowDefinitionError
            If `old` is not in the flow, or the new edges make no sense.
        """
        self.own(old)
        if isinstance(new, Task) or holds_tasks(new):
            put = as_task(new, self)
            self.swap(old, put, keeps=lambda edge: True)
        else:
            put = Constant(new)
            self.swap_constant(old, put)
        chosen = [put if task is old else task for task in self._references]
        self._references = dict.fromkeys(task for task in chosen if task in self.slugs)
        if validate if validate is not None else self._validates:
            self.validate()

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
            `check_inputs`, which is False, and True under a :class:`prefectish.testing.VirtualClock`.

        Raises
        ------
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
            story=story, refresh_cache=refresh_cache, check_inputs=check_inputs,
        )  # fmt: skip
        names = (parameter.name for parameter in self.parameters())
        check_reserved(names, story=story, refresh_cache=refresh_cache, check_inputs=check_inputs)
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
            A run that is detached has no history, or an executor with ``client=``.
        """
        names = (parameter.name for parameter in self.parameters())
        check_reserved(names, story=story, refresh_cache=refresh_cache, check_inputs=check_inputs)
        values = self._settled(parameters, parameter_values, context)
        if detach:
            return self._detached(
                detach, values, history, executor=executor, context=context, task_states=task_states,
                flow_run_name=flow_run_name, keep_results=keep_results, timeout=timeout, story=story,
                refresh_cache=refresh_cache, check_inputs=check_inputs,
            )  # fmt: skip
        from contextvars import copy_context

        from prefectish.engine.driver.handle import RunHandle
        from prefectish.engine.driver.run import approved, run_flow

        options = self._options(
            executor=executor, context=context, task_states=task_states, flow_run_name=flow_run_name,
            keep_results=keep_results, timeout=timeout, history=history, progress=progress, story=story,
            refresh_cache=refresh_cache, check_inputs=check_inputs,
            background=True,
        )  # fmt: skip
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
        parameters, executor, context, keep_results, timeout, progress, story, **parameter_values
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
        check_reserved((parameter.name for parameter in self.parameters()), story=story)
        values = self._settled(parameters, parameter_values, context)
        from prefectish.engine.driver.run import resumption, run_flow

        options = self._options(
            executor=executor, context=context, keep_results=keep_results, timeout=timeout, progress=progress,
            story=story,
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
