"""Where and how a deployed flow runs: on this machine, in a container, or by a command such as that of a queue."""

from typing import TYPE_CHECKING

from prefectish.environments.base import Environment, EnvironmentFailed, Launch
from prefectish.environments.command import CommandEnvironment
from prefectish.environments.container import ContainerEnvironment
from prefectish.environments.local import LocalEnvironment
from prefectish.missing_names import lead_out

__all__ = [
    "CommandEnvironment",
    "ContainerEnvironment",
    "Environment",
    "EnvironmentFailed",
    "Launch",
    "LocalEnvironment",
]

if not TYPE_CHECKING:
    __getattr__ = lead_out(__name__)
