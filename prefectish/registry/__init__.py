"""Deployments, agents and runs of other processes: all by the database of the history, without a server.

``prefectish.deployments(...)`` is a function; its package is this one.
"""

from prefectish.registry.attached import AttachedRun, attach
from prefectish.registry.deploying import deploy
from prefectish.registry.deployment import Deployment, deployments, find
from prefectish.registry.serving import serve

__all__ = ["AttachedRun", "Deployment", "attach", "deploy", "deployments", "find", "serve"]
