"""`prefect.Flow`: a flow with the arguments that it had there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from prefectish import flows
from prefectish.edges import Edge
from prefectish.tasks.task import Task


class Flow(flows.Flow):
    """A flow as in Prefect 1; see :class:`prefectish.Flow`."""

    environment: Any = None
    run_config: Any = None
    storage: Any = None

    def __init__(
        self,
        name: str,
        schedule: Any = None,
        executor: Any = None,
        environment: Any = None,
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
    ) -> None:
        super().__init__(
            name, schedule=schedule, executor=executor, tasks=tasks, edges=edges, reference_tasks=reference_tasks,
            state_handlers=state_handlers, on_failure=on_failure, validate=bool(validate), result=result,
            terminal_state_handler=terminal_state_handler,
        )  # fmt: skip
        self.environment = environment
        self.run_config = run_config
        self.storage = storage
