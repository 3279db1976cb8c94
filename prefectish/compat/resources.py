"""`resource_manager` of Prefect 1: a call of the manager adds the task that creates it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefectish.control_flow import resources
from prefectish.control_flow.blocks import active_flow
from prefectish.tasks.recording import RecordingFlow
from prefectish.tasks.task import Task


class ResourceContext(resources.ResourceBlock):
    """The tasks that use one resource; see :class:`prefectish.control_flow.resources.ResourceBlock`."""

    def __init__(
        self,
        manager: resources.ResourceManager,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        flow: RecordingFlow | None,
    ) -> None:
        flow = active_flow(flow, f"{manager.name}(...)")
        super().__init__(manager, args, kwargs, flow)
        self.flow = flow
        self.init_task = super()._created(flow)

    def _created(self, flow: RecordingFlow) -> Task:
        assert self.init_task is not None
        return self.init_task


class ResourceManager(resources.ResourceManager):
    """A resource class for use in flows; see :func:`prefectish.resource_manager`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for kwargs in (self.init_task_kwargs, self.setup_task_kwargs, self.cleanup_task_kwargs):
            kwargs.setdefault("checkpoint", False)  # a resource is made anew

    def __call__(self, /, *args: Any, flow: RecordingFlow | None = None, **kwargs: Any) -> ResourceContext:
        """Add the task that creates the manager, and return the block of a `with` statement."""
        return ResourceContext(self, args, kwargs, flow)


def resource_manager(resource_class: Any = None, **options: Any) -> Any:
    """Make a resource manager from a class; can be used as a decorator, with or without options."""
    if resource_class is None:
        return lambda found: ResourceManager(found, **options)
    return ResourceManager(resource_class, **options)
