"""Deployments, agents and runs of other processes: all by the database of the history, without a server.

``prefectish.deployments(...)`` is a function; its package is this one.
"""

from prefectish.registry.attached import AttachedRun, attach
from prefectish.registry.deploy import deploy
from prefectish.registry.deployments import Deployment, deployments, find
from prefectish.registry.serve import serve

__all__ = ["AttachedRun", "Deployment", "attach", "deploy", "deployments", "find", "serve"]
