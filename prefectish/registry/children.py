"""Runs that a task of another run asks for."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from prefectish.engine.context import current, get_logger
from prefectish.history.child_runs import event_of, place_of
from prefectish.history.store import patiently
from prefectish.registry import queue
from prefectish.registry.agent import STANDS_STILL_AFTER, agents
from prefectish.registry.attached import AttachedRun
from prefectish.registry.deployment import Deployment, find


def begin(path: str, store: str | None, parameters: Mapping[str, Any]) -> AttachedRun:
    """Ask for a run of a deployed flow; of one place in a parent run there is one, however often it is asked for.

    In a later part of the parent, one that went wrong is asked for anew.
    """
    facts = current()
    parent = facts.get("flow_run_id")
    place = place_of(str(facts.get("task_slug")), facts.get("map_index"), facts.get("task_run_count", 1))
    deployment = patiently(lambda: find(path, store))
    run = _asked(deployment, parameters, parent, place)
    part = facts.get("flow_run_part")
    if part and run.state.is_finished() and not run.state.is_successful():
        run = _asked(deployment, parameters, parent, f"{place} part {part}")
    _warn_without_agent(deployment.labels, store, run.id, path)
    return run


def _asked(deployment: Deployment, parameters: Mapping[str, Any], parent: str | None, place: str) -> AttachedRun:
    event = None if parent is None else event_of(parent, place)

    def ask() -> str:
        with deployment._store.writing() as connection:
            return queue.ask_for(
                connection, deployment, parameters, begun_by="parent", due=time.time(), event=event, parent=parent
            )

    return AttachedRun(deployment._store, patiently(ask))


def _warn_without_agent(labels: tuple[str, ...], store: str | None, run_id: str, path: str) -> None:
    now = time.time()
    alive = [a for a in agents(store) if a.stopped is None and now - a.seen.timestamp() < STANDS_STILL_AFTER]
    if not any(set(labels) <= set(agent.labels) for agent in alive):
        wanted = f" with the labels {', '.join(labels)}" if labels else ""
        get_logger("registry").warning("run %s of %s waits: no agent%s is at work", run_id, path, wanted)
