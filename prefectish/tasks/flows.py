"""A deployed flow as a task: each call, and each child of a map, asks for a run of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from prefectish.engine.signals import FAIL
from prefectish.tasks.task import Task


class RunFlow(Task):
    """Ask for a run of a deployed flow, which an agent begins, and return its identifier.

    The run has a history, limits and states of its own; its failure is that of the task, and it is cancelled with it. A
    call that is lost with its
    worker, or continued by ``flow.resume``, finds the run that it has asked for; a retry asks for another one.

    Parameters
    ----------
    flow
        ``project/name`` of the deployment.
    wait
        Whether the task ends with the run; else it ends when the run is asked for.
    store
        Path or database URL of the history where the flow is deployed; default: the one in the home folder of the
        process that runs the task.
    **options
        As for :class:`prefectish.Task`.

    Examples
    --------
    >>> from prefectish import Flow
    >>> with Flow("all regions") as flow:
    ...     runs = RunFlow("sales/report").map(parameters=[{"region": "eu"}, {"region": "us"}])
    """

    begins_runs = True

    def __init__(
        self, flow: str, *, wait: bool = True, store: str | os.PathLike[str] | None = None, **options: Any
    ) -> None:
        if not isinstance(flow, str) or "/" not in flow:
            raise TypeError(f"flow must be the project/name of a deployment, got {flow!r}")
        super().__init__(**{"name": flow.partition("/")[2], **options})
        self.flow = flow
        self.wait = wait
        self.store = None if store is None else os.fspath(store)

    def run(self, parameters: Mapping[str, Any] | None = None) -> str:
        """Ask for the run, and wait for it.

        Parameters
        ----------
        parameters
            Values of parameters, over those of the deployment; JSON.

        Raises
        ------
        FAIL
            The run failed, or was cancelled; the result is its identifier.
        """
        run = import_module("prefectish.registry.children").begin(self.flow, self.store, parameters or {})
        if self.wait:
            state = run.wait()
            if not state.is_successful():
                raise FAIL(f"run {run.id} of {self.flow} ended {type(state).__name__}: {state.message}", result=run.id)
        run_id: str = run.id
        return run_id
