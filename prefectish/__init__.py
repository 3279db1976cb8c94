"""A workflow engine for mapped workloads on Dask."""

from typing import TYPE_CHECKING, Any

from prefectish import missing_names, triggers, user_frames
from prefectish.control_flow import apply_map, case, ifelse, merge, product, reduce, resource_manager, switch
from prefectish.edges import allow_failure, flatten, mapped, unmapped
from prefectish.engine.context import context, get_logger, get_run_logger, raise_on_exception
from prefectish.engine.pause import pause_task
from prefectish.flows import Flow
from prefectish.parameters import DateTimeParameter, Parameter
from prefectish.tasks import DaskTaskRunner, Task, ThreadPoolTaskRunner, exponential_backoff, tags, task
from prefectish.tasks.secrets import EnvVarSecret, Secret

if TYPE_CHECKING:
    from prefectish.functions import as_completed, flow, wait
    from prefectish.registry import attach, deployments, serve

user_frames.install()
missing_names.install()

__version__ = "0.1.0"

__all__ = [
    "DaskTaskRunner",
    "DateTimeParameter",
    "EnvVarSecret",
    "Flow",
    "Parameter",
    "Secret",
    "Task",
    "ThreadPoolTaskRunner",
    "__version__",
    "allow_failure",
    "apply_map",
    "as_completed",
    "attach",
    "case",
    "context",
    "deployments",
    "exponential_backoff",
    "flatten",
    "flow",
    "get_logger",
    "get_run_logger",
    "ifelse",
    "mapped",
    "merge",
    "pause_task",
    "product",
    "raise_on_exception",
    "reduce",
    "resource_manager",
    "serve",
    "switch",
    "tags",
    "task",
    "triggers",
    "unmapped",
    "wait",
]

#: Names whose module is imported when one of them is asked for: most flows need neither.
_LATE = {
    "as_completed": "prefectish.functions",
    "attach": "prefectish.registry",
    "deployments": "prefectish.registry",
    "flow": "prefectish.functions",
    "serve": "prefectish.registry",
    "wait": "prefectish.functions",
}


#: Where names are that are looked for here.
_ELSEWHERE = {
    **dict.fromkeys(("DaskExecutor", "LocalDaskExecutor", "LocalExecutor"), "prefectish.executors"),
    **dict.fromkeys(("LocalResult", "FSResult", "JSONSerializer", "PickleSerializer"), "prefectish.results"),
    **dict.fromkeys(("Schedule", "CronSchedule", "IntervalSchedule"), "prefectish.schedules"),
    **dict.fromkeys(("FAIL", "LOOP", "PAUSE", "RETRY", "SKIP", "SUCCESS", "ENDRUN"), "prefectish.engine.signals"),
    **dict.fromkeys(("Cached", "Crashed", "Failed", "Mapped", "Skipped", "Success"), "prefectish.engine.state"),
    "signals": "prefectish.engine",
    **{f"{name}Task": f"prefectish.tasks.{name.lower()}" for name in ("HTTP", "SQL", "Shell", "Slack")},
    **dict.fromkeys(("assert_states", "VirtualClock"), "prefectish.testing"),
}


def __getattr__(name: str) -> Any:
    if name in _ELSEWHERE:
        raise ImportError(
            f"{name} is in {_ELSEWHERE[name]}: write `from {_ELSEWHERE[name]} import {name}`", name=__name__
        )
    if name not in _LATE:
        missing_names.lead_out(__name__)(name)
    from importlib import import_module

    return globals().setdefault(name, getattr(import_module(_LATE[name]), name))


def __dir__() -> list[str]:
    return sorted(__all__)
