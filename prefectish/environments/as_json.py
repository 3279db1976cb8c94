"""Environments as JSON, for the database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefectish.environments.base import Environment
from prefectish.environments.command import CommandEnvironment
from prefectish.environments.container import ContainerEnvironment
from prefectish.environments.local import LocalEnvironment

KINDS: dict[str, type[Environment]] = {
    cls.kind: cls for cls in (LocalEnvironment, ContainerEnvironment, CommandEnvironment)
}


def to_json(environment: Environment) -> dict[str, Any]:
    """Return an environment as what JSON can hold."""
    return {"kind": environment.kind, **environment.facts()}


def from_json(facts: Mapping[str, Any]) -> Environment:
    """Return the environment that was written down, with the image that was built for it."""
    arguments = {name: value for name, value in facts.items() if name not in ("kind", "image")}
    environment = KINDS[facts["kind"]](**arguments)
    if isinstance(environment, ContainerEnvironment):
        environment.image = facts.get("image")
    return environment
