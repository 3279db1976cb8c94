"""Resources: set up before the tasks of a `with` block and cleaned up after them, even if they fail."""

from __future__ import annotations

from collections.abc import Callable, KeysView, Mapping
from typing import TYPE_CHECKING, Any, Protocol, overload

from prefectish.control_flow.blocks import Block, active_flow, leaves, roots
from prefectish.edges import Edge
from prefectish.engine.signals import SKIP
from prefectish.errors import FlowDefinitionError
from prefectish.tasks.task import FunctionTask, Task
from prefectish.triggers import Upstream

if TYPE_CHECKING:
    from prefectish.tasks.recording import RecordingFlow

NOT_SET_UP = "The resource was not set up, so there is nothing to clean up."


def was_set_up(upstream: Upstream) -> bool:
    """Run if manager and resource were created, whether or not the tasks that used them succeeded; else skip."""
    for edge, state in upstream.items():
        if edge.key is not None and (state.is_skipped() or not state.is_successful()):
            raise SKIP(NOT_SET_UP)
    return all(state.is_finished() for state in upstream.values())


class ResourceInit(FunctionTask):
    """Task that creates the manager of a resource: its body is the user's class."""

    auto_generated = True


class ResourceSetup(Task):
    """Task that sets up a resource and returns it."""

    auto_generated = True
    runs_again = True

    def run(self, manager: Any) -> Any:
        """Return what the manager's `setup` returns."""
        return manager.setup()


class ResourceCleanup(Task):
    """Task that cleans up a resource."""

    auto_generated = True
    runs_again = True

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, **{"trigger": was_set_up, "skip_on_upstream_skip": False, **options})

    def run(self, manager: Any, resource: Any) -> None:
        """Call the manager's `cleanup` with the resource."""
        manager.cleanup(resource)


class Manager(Protocol):
    """Interface of a resource manager; `setup`, which takes no arguments, is optional."""

    def cleanup(self, resource: Any, /) -> Any:
        """Clean up what `setup` returned, or None without a `setup`."""


class ResourceManager:
    """A resource class for use in flows; see :func:`resource_manager`."""

    def __init__(
        self,
        resource_class: type[Manager],
        name: str | None = None,
        init_task_kwargs: Mapping[str, Any] | None = None,
        setup_task_kwargs: Mapping[str, Any] | None = None,
        cleanup_task_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(resource_class, type):
            raise TypeError(f"resource_manager must be used on a class, got {resource_class!r}")
        if not callable(getattr(resource_class, "cleanup", None)):
            raise TypeError(f"resource_manager: {resource_class.__name__} has no method cleanup(self, resource)")
        self.resource_class = resource_class
        self.name = name or resource_class.__name__
        self.init_task_kwargs = dict(init_task_kwargs or {})
        self.setup_task_kwargs = dict(setup_task_kwargs or {})
        self.cleanup_task_kwargs = dict(cleanup_task_kwargs or {})
        self.__doc__ = resource_class.__doc__

    def __call__(self, /, *args: Any, flow: RecordingFlow | None = None, **kwargs: Any) -> ResourceBlock:
        """Return a block for a `with` statement; the arguments (values or tasks) are those of the class."""
        return ResourceBlock(self, args, kwargs, flow)

    def make_init(self) -> ResourceInit:
        """Return a task that creates the manager."""
        return ResourceInit(self.resource_class, **{"name": self.name, **self.init_task_kwargs})

    def make_setup(self) -> ResourceSetup | None:
        """Return a task that sets up the resource; None if the class has no `setup`."""
        if not callable(getattr(self.resource_class, "setup", None)):
            return None
        return ResourceSetup(**{"name": f"{self.name}.setup", **self.setup_task_kwargs})

    def make_cleanup(self) -> ResourceCleanup:
        """Return a task that cleans up the resource."""
        return ResourceCleanup(**{"name": f"{self.name}.cleanup", **self.cleanup_task_kwargs})

    def __repr__(self) -> str:
        return f"<ResourceManager: {self.name}>"


class ResourceBlock(Block):
    """The tasks that use one resource.

    Attributes
    ----------
    init_task, setup_task, cleanup_task
        The tasks that create the manager, and set up and clean up the resource; None before they are added.
    """

    def __init__(
        self, manager: ResourceManager, args: tuple[Any, ...], kwargs: Mapping[str, Any], flow: RecordingFlow | None
    ) -> None:
        super().__init__()
        self.manager = manager
        self._args = args
        self._kwargs = kwargs
        self._wanted_flow = flow
        self.init_task: Task | None = None
        self.setup_task: Task | None = None
        self.cleanup_task: Task | None = None

    def __enter__(self) -> Task | None:
        """Add the tasks that create manager and resource; return the task of the resource, if any."""
        if self._overlay is not None:
            raise FlowDefinitionError(f"{self!r} is already open; call {self.manager.name}(...) again")
        flow = active_flow(self._wanted_flow, f"{self.manager.name}(...)")
        self.init_task = self._created(flow)
        setup = self.manager.make_setup()
        self.setup_task = None if setup is None else setup.bind(self.init_task, flow=flow)
        self._open()
        self._flow = flow
        return self.setup_task

    def _created(self, flow: RecordingFlow) -> Task:
        """Return the task that creates the manager, in the flow."""
        return self.manager.make_init().bind(*self._args, flow=flow, **self._kwargs)

    def __repr__(self) -> str:
        return f"{self.manager.name}(...)"

    def _close(self) -> None:
        flow, ready = self._flow, self.init_task if self.setup_task is None else self.setup_task
        assert flow is not None
        assert ready is not None
        inside = {task: None for task in self._tasks if task in flow}
        first, last = roots(flow, inside), leaves(flow, inside)
        cleanup = self.cleanup_task = self.manager.make_cleanup().bind(self.init_task, self.setup_task, flow=flow)
        for task in first:
            if ready not in flow.upstream_tasks(task):
                flow.insert(Edge(ready, task))
        for task in last:
            flow.insert(Edge(task, cleanup))


@overload
def resource_manager(cls: type[Manager], /, **options: Any) -> ResourceManager: ...


@overload
def resource_manager(cls: None = None, /, **options: Any) -> Callable[[type[Manager]], ResourceManager]: ...


def resource_manager(cls: type[Manager] | None = None, /, **options: Any) -> Any:
    """Make a resource manager from a class; can be used as a decorator, with or without options.

    `with Manager(...) as resource:` in a flow adds a task that creates an instance of the class, one that calls its
    `setup()`, whose result is `resource`, and one that calls `cleanup(resource)`. Tasks of the block run after set-up
    and before clean-up. Clean-up also runs if they fail, and is skipped if there is nothing to clean up. The state of
    the flow depends on the tasks of the block, not on creating the instance or cleaning up. For a class without
    `setup` the block gives None, and `cleanup` receives None.

    Between processes the instance and the resource are transferred like any result, so both must be picklable.

    Parameters
    ----------
    cls
        A class with a method `cleanup(self, resource)` and optionally `setup(self)`. None: return a decorator.
    name
        Keyword; default: the name of the class.
    init_task_kwargs, setup_task_kwargs, cleanup_task_kwargs
        Keywords; options of the three tasks, as for :class:`prefectish.Task`.

    Raises
    ------
    TypeError
        If it is not a class, or has no `cleanup`.

    Examples
    --------
    >>> from prefectish import Flow, resource_manager, task
    >>> @resource_manager
    ... class Folder:
    ...     def __init__(self, name):
    ...         self.name = name
    ...     def setup(self):
    ...         return [self.name]
    ...     def cleanup(self, folder):
    ...         folder.clear()
    >>> add = task(lambda folder, file: folder + [file], name="add")
    >>> with Flow("files") as flow:
    ...     with Folder("tmp") as folder:
    ...         filled = add(folder, "a.txt")
    >>> flow.run().result[filled].result
    ['tmp', 'a.txt']
    """
    if cls is None:
        return lambda found: ResourceManager(found, **options)
    return ResourceManager(cls, **options)


def default_references(flow: Any) -> KeysView[Task]:
    """Return the default reference tasks of a flow: the last tasks, clean-up not counted."""
    last = dict.fromkeys(
        task
        for task in flow.tasks
        if not isinstance(task, ResourceInit | ResourceCleanup)
        and all(isinstance(edge.downstream_task, ResourceCleanup) for edge in flow.edges_from(task))
    )
    return last.keys() or flow.terminal_tasks()
