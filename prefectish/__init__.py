"""A workflow engine for mapped workloads on Dask."""

from prefectish import triggers
from prefectish.control_flow import apply_map, case, ifelse, merge, product, resource_manager, switch
from prefectish.edges import allow_failure, flatten, mapped, unmapped
from prefectish.engine.context import context, get_logger, raise_on_exception
from prefectish.engine.pause import pause_task
from prefectish.flows import Flow
from prefectish.parameters import DateTimeParameter, Parameter
from prefectish.tasks import Task, tags, task
from prefectish.tasks.secrets import EnvVarSecret, Secret

__version__ = "0.1.0"

__all__ = [
    "DateTimeParameter",
    "EnvVarSecret",
    "Flow",
    "Parameter",
    "Secret",
    "Task",
    "__version__",
    "allow_failure",
    "apply_map",
    "case",
    "context",
    "flatten",
    "get_logger",
    "ifelse",
    "mapped",
    "merge",
    "pause_task",
    "product",
    "raise_on_exception",
    "resource_manager",
    "switch",
    "tags",
    "task",
    "triggers",
    "unmapped",
]
