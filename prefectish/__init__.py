"""A workflow engine for mapped workloads on Dask."""

from prefectish import triggers
from prefectish.edges import allow_failure, flatten, mapped, unmapped
from prefectish.engine.context import context, get_logger, raise_on_exception
from prefectish.engine.pause import pause_task
from prefectish.flows import Flow
from prefectish.parameters import Parameter
from prefectish.tasks import Task, tags, task

__version__ = "0.1.0"

__all__ = [
    "Flow",
    "Parameter",
    "Task",
    "__version__",
    "allow_failure",
    "context",
    "flatten",
    "get_logger",
    "mapped",
    "pause_task",
    "raise_on_exception",
    "tags",
    "task",
    "triggers",
    "unmapped",
]
