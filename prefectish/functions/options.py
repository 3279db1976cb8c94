"""What a flow function is told about how it runs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple, TypedDict


class RunOptions(NamedTuple):
    """How a flow function runs.

    Attributes
    ----------
    executor
        None for the configured one, or local threads.
    max_concurrency
        Calls and children of one task that run at the same time, at most.
    retries, retry_delay
        Runs after one that failed, and the seconds before each: a number, a list, or a function.
    timeout
        Seconds the run may take.
    history, progress
        As for ``Flow.run``.
    resumption
        A recorded run to go on with.
    """

    executor: Any = None
    max_concurrency: int | None = None
    retries: int = 0
    retry_delay: Any = 0
    timeout: float | None = None
    history: Any = None
    progress: bool | None = None
    resumption: Any = None


class FlowOptions(TypedDict, total=False):
    """Options of :func:`flow`."""

    name: str | None
    executor: Any
    task_runner: Any
    task_runner_max_concurrency: int | None
    retries: int
    retry_delay_seconds: Any
    timeout: float | timedelta | None
    timeout_seconds: float | None
    validate_parameters: bool
    state_handlers: list[Callable[..., Any]] | None
    on_failure: Callable[..., Any] | None
    result: Any
    history: Any
    progress: bool | None
