"""What flows and flow functions have in common that concerns runs of other processes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from prefectish.environments import Environment
    from prefectish.registry import AttachedRun, Deployment


class Deployable:
    """Base class of what can be deployed."""

    def deploy(
        self,
        project_name: str,
        *,
        name: str | None = None,
        environment: Environment | None = None,
        parameters: Mapping[str, Any] | None = None,
        schedule: Any = ...,
        labels: Iterable[str] = (),
        build: bool = True,
        push: bool = False,
        set_schedule_active: bool = True,
        store: str | os.PathLike[str] | None = None,
        hmac_key: bytes | str | None = None,
        overlap: Literal["skip", "queue", "allow", "cancel"] | None = None,
        catch_up: bool | None = None,
        on_lost: Literal["resume", "fail"] | None = None,
        max_resumes: int | None = None,
        timeout: float | timedelta | None = None,
    ) -> Deployment:
        """Register the flow under a project, from where agents run it: on its schedules, and when they are asked to.

        The environment is built, and the flow is loaded in it, before anything is registered. What is the same as the
        version in use does not make a new version; other content does, and archives the version in use.

        Parameters
        ----------
        project_name, name
            What the deployment is called, ``project/name``; the name is the flow's by default.
        environment
            Where and how it runs, one of :mod:`prefectish.environments`; default: this interpreter, in the folder of
            the flow's file.
        parameters
            Values of parameters, as JSON.
        schedule
            A schedule, a list of them, or None; default: the flow's own. Clocks may bring values of parameters.
        labels
            Agents take its runs that have all of these labels.
        build, push
            Whether to build the environment, and to push an image to its registry.
        set_schedule_active
            Whether agents follow its schedules.
        store
            Path or database URL of the history, which agents watch; default: the one in the home folder.
        hmac_key
            Key that signs what is deployed; default: the setting `hmac_key`.
        overlap
            What becomes of a scheduled run while another one is open: "skip" (default) leaves it out, "queue" lets it
            wait, "allow" begins it, "cancel" cancels the other one first.
        catch_up
            Whether all times that were missed are made up for, or, by default, only the last.
        on_lost
            "resume" (default): a run whose driver died is continued from its record. "fail": it fails.
        max_resumes
            How often a run is continued at most, 5 by default; then it fails.
        timeout
            Longest time of a run, in seconds.

        Raises
        ------
        EnvironmentFailed
            The environment cannot be built, or the flow cannot be loaded in it; nothing is registered.
        FlowDefinitionError
            The flow cannot be found again by its file or module, or its schedule has code of its own.
        TypeError, ValueError
            An argument is of another kind.
        """
        deployment: Deployment = import_module("prefectish.registry.deploying").deploy(
            self, project_name, name=name, environment=environment, parameters=parameters, schedule=schedule,
            labels=labels, build=build, push=push, set_schedule_active=set_schedule_active, store=store,
            hmac_key=hmac_key, overlap=overlap, catch_up=catch_up, on_lost=on_lost, max_resumes=max_resumes,
            timeout=timeout,
        )  # fmt: skip
        return deployment

    def register(self, project_name: str, **options: Any) -> Deployment:
        """Register the flow; another name of :meth:`deploy`."""
        return self.deploy(project_name, **options)

    def _detached(
        self, project: bool | str, parameters: Mapping[str, Any], history: Any, **options: Any
    ) -> AttachedRun:
        """Hand a run to another process; see :func:`prefectish.registry.detach.detach`."""
        run: AttachedRun = import_module("prefectish.registry.detach").detach(
            self, parameters, project, history, options
        )
        return run
