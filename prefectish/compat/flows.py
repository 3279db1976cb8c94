"""`prefect.Flow`: a flow with the arguments and the sets that it had there."""

from __future__ import annotations

import builtins
import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import cloudpickle

from prefectish import flows
from prefectish.compat import caches
from prefectish.compat.configuration import __version__, config
from prefectish.compat.context import of_run
from prefectish.compat.parameters import described_parameter
from prefectish.compat.registering import Registered
from prefectish.compat.run_history import history_in_context
from prefectish.compat.schedules import schedule_as_json
from prefectish.compat.task_changes import context_in_names, more_handlers, task_contexts_in
from prefectish.compat.tasks import described, place_of
from prefectish.edges import Edge
from prefectish.engine.context import get_logger
from prefectish.engine.state import Failed, State
from prefectish.errors import ExecutorFailed, FlowDefinitionError, ParameterError
from prefectish.optional_deps import load
from prefectish.parameters import Parameter
from prefectish.safe_repr import printable
from prefectish.tasks.collections import as_task
from prefectish.tasks.task import Task

#: Key of a context under which the identifier of a run comes from :meth:`Flow.run` to its options.
_RUN_ID = "prefect_flow_run_id"
#: A name in a picture that needs no quotes.
_PLAIN = re.compile(r'="([A-Za-z_][A-Za-z0-9_]*)"')
_DEFAULT_EXECUTOR = "prefect.executors.LocalExecutor"


class OrderedSet(set[Any]):
    """A set whose items come in the order in which they were given; what is added later is not among them."""

    def __init__(self, items: Iterable[Any] = ()) -> None:
        self._order = list(items)
        super().__init__(self._order)

    def __iter__(self) -> Iterator[Any]:
        return (item for item in self._order if item in self)

    def copy(self) -> OrderedSet:
        """Return a copy in the same order."""
        return OrderedSet(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return OrderedSet, (list(self),)


class Constants(dict[Any, dict[str, Any]]):
    """The constants of tasks; none for a task that has none."""

    def __missing__(self, task: Any) -> dict[str, Any]:
        return {}


class Flow(Registered):
    """A flow as in Prefect 1; see :class:`prefectish.Flow`."""

    def __init__(
        self,
        name: str,
        schedule: Any = None,
        executor: Any = None,
        run_config: Any = None,
        storage: Any = None,
        tasks: Iterable[Task] | None = None,
        edges: Iterable[Edge] | None = None,
        reference_tasks: Iterable[Task] | None = None,
        state_handlers: Sequence[Callable[..., Any]] | None = None,
        on_failure: Callable[..., Any] | None = None,
        validate: bool | None = None,
        result: Any = None,
        terminal_state_handler: Callable[..., Any] | None = None,
        environment: Any = None,
    ) -> None:
        super().__init__(
            name, schedule=schedule, executor=executor, tasks=tasks, edges=edges, reference_tasks=reference_tasks,
            state_handlers=state_handlers, on_failure=on_failure, validate=_eager(validate), result=result,
            terminal_state_handler=terminal_state_handler,
        )  # fmt: skip
        self.constants = Constants(self.constants)
        self.made_in = sys._getframe(1).f_globals.get("__name__")
        self.environment = environment
        self.run_config = run_config
        self.storage = storage

    def __repr__(self) -> str:
        return f'<Flow: name="{printable(self.name)}">'

    def __iter__(self) -> Iterator[Task]:
        return iter(self.sorted_tasks())

    @property
    def logger(self) -> Any:
        """The logger named after the flow."""
        return get_logger(self.name)

    @property
    def tasks(self) -> OrderedSet:  # type: ignore[override]  # a set, as it was
        """The tasks."""
        return OrderedSet(super().tasks)

    @property
    def edges(self) -> OrderedSet:  # type: ignore[override]
        """The edges."""
        return OrderedSet(super().edges)

    def edges_to(self, task: Task) -> OrderedSet:  # type: ignore[override]
        """Return the edges into a task of the flow."""
        return OrderedSet(super().edges_to(task))

    def edges_from(self, task: Task) -> OrderedSet:  # type: ignore[override]
        """Return the edges out of a task of the flow."""
        return OrderedSet(super().edges_from(task))

    def upstream_tasks(self, task: Task) -> OrderedSet:  # type: ignore[override]
        """Return the tasks that a task waits for."""
        return OrderedSet(super().upstream_tasks(task))

    def downstream_tasks(self, task: Task) -> OrderedSet:  # type: ignore[override]
        """Return the tasks that wait for a task."""
        return OrderedSet(super().downstream_tasks(task))

    def root_tasks(self) -> OrderedSet:  # type: ignore[override]
        """Return the tasks without upstream tasks."""
        return OrderedSet(super().root_tasks())

    def terminal_tasks(self) -> OrderedSet:  # type: ignore[override]
        """Return the tasks without downstream tasks."""
        return OrderedSet(super().terminal_tasks())

    def reference_tasks(self) -> OrderedSet:  # type: ignore[override]
        """Return the tasks whose states decide the flow's."""
        return OrderedSet(super().reference_tasks())

    def parameters(self) -> OrderedSet:  # type: ignore[override]
        """Return the parameters of the flow."""
        return OrderedSet(super().parameters())

    def set_reference_tasks(self, tasks: Iterable[Task]) -> None:
        """Choose the tasks whose states decide the flow's; none: the terminal tasks."""
        tasks = list(tasks) if isinstance(tasks, Iterable) and not isinstance(tasks, Task) else tasks
        if isinstance(tasks, list) and any(task not in self for task in tasks):
            raise FlowDefinitionError("reference tasks must be part of the flow.")
        super().set_reference_tasks(tasks)

    def sorted_tasks(self, root_tasks: Iterable[Task] | None = None) -> tuple[Task, ...]:  # type: ignore[override]
        """Return the tasks in topological order."""
        return tuple(super().sorted_tasks(root_tasks or None))

    def all_upstream_edges(self) -> dict[Task, OrderedSet]:
        """Return the edges into each task."""
        return {task: self.edges_to(task) for task in self.tasks}

    def all_downstream_edges(self) -> dict[Task, OrderedSet]:
        """Return the edges out of each task."""
        return {task: self.edges_from(task) for task in self.tasks}

    def insert(self, edge: Edge, validate: bool | None = None) -> Edge:
        """Add an edge and the tasks at its ends."""
        task, checks = edge.downstream_task, self._validates if validate is None else validate
        checks = checks or _eager(validate)
        if isinstance(task, Parameter):
            raise FlowDefinitionError(f"Parameters must be root tasks and can not have upstream dependencies: {task!r}")
        if checks and edge.key is not None:
            keys = {other.key for other in self.edges_to(task) if other != edge} if task in self else set()
            if edge.key in keys:
                raise FlowDefinitionError(
                    f'Argument "{edge.key}" for task {task!r} has already been assigned in this flow'
                )
            inspect.signature(task.run).bind_partial(**dict.fromkeys([*(key for key in keys if key), edge.key]))
        return super().insert(edge, checks)

    def own(self, task: Task) -> Task:
        """Return the task if it is in the flow; a ValueError if not."""
        if task not in self.slugs:
            raise FlowDefinitionError(f"Task {task!r} was not found in {self!r}")
        return task

    def detach(self) -> None:
        """Copy the containers of a shallow copy."""
        super().detach()
        self.constants = Constants(self.constants)

    def serialize(self, build: bool = False) -> dict[str, Any]:
        """Return what the flow is as plain values.

        Raises
        ------
        ValueError
            If it is not valid, or there is no storage to build.
        """
        self.validate()
        if build:
            if self.storage is None:
                raise ValueError(f"{self!r} has no storage to build; set flow.storage, or pass build=False")
            if self.name not in self.storage:
                self.storage.add_flow(self)
            self.storage = self.storage.build()
        slugs = self.slugs
        mapped = {edge.downstream_task for edge in self.edges if edge.mapped}
        return {
            "name": self.name,
            "type": place_of(type(self)),
            "schedule": schedule_as_json(self.schedule),
            **{name: _serialized(getattr(self, name)) for name in ("environment", "run_config", "storage")},
            "parameters": [described_parameter(p) for p in self.parameters() if isinstance(p, Parameter)],
            "tasks": [{**described(task), "slug": slugs[task], "is_mapped": task in mapped} for task in self.tasks],
            "edges": [
                {
                    "upstream_task": {"slug": slugs[e.upstream_task]},
                    "downstream_task": {"slug": slugs[e.downstream_task]},
                    "key": e.key,
                    "mapped": e.mapped,
                    "flattened": e.flattened,
                }
                for e in self.edges
            ],
            "reference_tasks": [{"slug": slugs[task]} for task in self.reference_tasks()],
            "__version__": __version__,
        }

    def serialized_hash(self, build: bool = False) -> str:
        """Return a hash of what the flow is: 64 hexadecimal digits."""
        told = {**self.serialize(build), "code": self.version}
        return sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()

    def diagnostics(self, include_secret_names: bool = False) -> str:
        """Return what there is to tell of the flow and of the installation, as JSON without values."""
        told: str = import_module("prefectish.compat.diagnostics").diagnostic_info(self, include_secret_names)
        return told

    def save(self, fpath: str | None = None) -> str:
        """Write the flow to a file and return its path; default: below the home folder of the settings."""
        path = (
            Path(fpath) if fpath else Path(config.home_dir).expanduser() / "flows" / f"{_file_name(self.name)}.prefect"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cloudpickle.dumps(self))
        return str(path)

    @staticmethod
    def load(fpath: str) -> Any:
        """Return the flow in a file, or of a name that was saved without one."""
        path = Path(fpath)
        if not path.is_absolute() and not path.exists():
            path = Path(config.home_dir).expanduser() / "flows" / f"{_file_name(fpath)}.prefect"
        return cloudpickle.loads(path.read_bytes())

    def run(
        self,
        parameters: Mapping[str, Any] | None = None,
        run_on_schedule: bool | None = None,
        runner_cls: Any = None,
        context: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> State:
        """Run the flow and return its state; see :meth:`prefectish.Flow.run`.

        Raises
        ------
        ValueError
            With `return_tasks`: the state has those of all tasks.
        """
        if "return_tasks" in kwargs:
            raise ValueError(
                "The `return_tasks` keyword cannot be provided to `flow.run()`, as all task states are returned."
            )
        runners = import_module("prefectish.compat.runners")
        if runner_cls is not None and runner_cls.run is not runners.FlowRunner.run:
            asked = self._asked(parameters, kwargs)
            given = {"executor": self.executor, "context": context, **kwargs, "parameters": asked}
            ended: State = runner_cls(flow=self).run(return_tasks=self.tasks, **given)
            return ended
        context = of_run(context)
        if (run_id := kwargs.pop("flow_run_id", None)) is not None:
            context[_RUN_ID] = run_id
        if kwargs.get("on_pause") is None and _can_ask():
            kwargs["on_pause"] = "prompt"
        more = more_handlers(self.tasks, kwargs.pop("task_runner_state_handlers", None))
        named = context_in_names(self, context)
        with more, task_contexts_in(kwargs.pop("task_contexts", None)), caches.of_context(), named:
            return or_failed(
                partial(super().run, parameters, run_on_schedule=run_on_schedule, context=context, **kwargs)
            )

    def _asked(self, parameters: Mapping[str, Any] | None, more: dict[str, Any]) -> dict[str, Any]:
        """Return the values of parameters, those among the keywords included, which are taken from there."""
        names = {parameter.name for parameter in self.parameters()} & more.keys()
        return {**(parameters or {}), **{name: more.pop(name) for name in names}}

    def _options(self, **given: Any) -> Any:
        """Return the options of a run; the settings name the executor of last resort."""
        context = dict(given.get("context") or {})
        run_id = context.pop(_RUN_ID, None)
        options = super()._options(**given)
        options = options._replace(context={**context, **history_in_context(options.history)})
        if run_id is not None:
            options = options._replace(run_id=run_id)
        if options.executor is not None or config.engine.executor.default_class == _DEFAULT_EXECUTOR:
            return options
        return options.merged(
            executor=import_module("prefectish.compat.default_classes").get_default_executor_class()()
        )

    def _admit(self, value: Any) -> Task:
        """Add what stands for a value; a task of another flow is added without its inputs."""
        return self.add_task(as_task(value, self))  # type: ignore[arg-type]  # its sets are those of Prefect 1

    def _settled(
        self,
        parameters: Mapping[str, Any] | None,
        more: Mapping[str, Any],
        context: Mapping[str, Any] | None,
        defaults: Mapping[str, Any] = flows.NO_DEFAULTS,
    ) -> dict[str, Any]:
        try:
            return super()._settled(parameters, more, context, defaults)
        except ParameterError as error:
            words = {
                "missing": "Flow.run did not receive the following required parameters",
                "unknown": "Flow.run received the following unexpected parameters",
            }
            text = str(error)
            for word, phrase in words.items():
                text = text.replace(f"{word}: ", f"{phrase}: ", 1)
            raise ParameterError(text) from None

    def visualize(  # type: ignore[override]
        self, flow_state: State | None = None, filename: str | None = None, format: str | None = None
    ) -> Any:
        """Draw the flow; see :meth:`prefectish.Flow.visualize`.

        Parameters
        ----------
        flow_state
            What a run returned.
        filename
            Where to write the picture, without the ending.
        format
            The ending: "pdf", the default, "png" or "svg".
        """
        if filename is None:
            graphviz = load("graphviz", "graphviz", "Flow.visualize")
            return graphviz.Source(_PLAIN.sub(r"=\1", super().visualize(flow_state, format="dot")))
        stem, ending = os.path.splitext(filename)
        return super().visualize(flow_state, format="dot", filename=f"{stem}.{format or ending.lstrip('.') or 'pdf'}")


def or_failed(run: Callable[[], State]) -> State:
    """Return the state of a run; of one that an executor of the user's own broke off it has the error."""
    try:
        return run()
    except ExecutorFailed as error:
        return Failed(f"Unexpected error: {error.error!r}", error.error)


def _eager(validate: bool | None) -> bool:
    """Return whether edges are checked as they come: as said, else by the settings."""
    return bool(config.flows.eager_edge_validation) if validate is None else validate


def _serialized(part: Any) -> dict[str, Any] | None:
    """Return what a part of a flow is as plain values."""
    if part is None:
        return None
    told: dict[str, Any] = part.serialize() if hasattr(part, "serialize") else {"type": type(part).__name__}
    return told


def _can_ask() -> bool:
    """Whether a person can be asked: at a terminal, or where `input` is another one, as in notebooks."""
    answers = sys.stdin is not None and sys.stdin.isatty()
    return answers or not inspect.isbuiltin(builtins.input)


def _file_name(name: str) -> str:
    return re.sub(r"[\W_]+", "-", name.lower()).strip("-")
