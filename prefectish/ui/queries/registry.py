"""Deployments, agents, limits across runs, and what waits for an approval."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, func, select

from prefectish.environments.as_json import from_json as environment_of
from prefectish.history import schema
from prefectish.history.children import aware_time
from prefectish.history.holders import Life, life_of, shown
from prefectish.history.queries import RunRow
from prefectish.history.registry_tables import CLAIMED, DRIVEN, WAITING, agents, leases, requested
from prefectish.history.registry_tables import deployments as deployed
from prefectish.history.registry_tables import limits as limits_table
from prefectish.registry.deployment import Deployment
from prefectish.ui.queries.forms import parameter_form
from prefectish.ui.queries.run import waiting_of
from prefectish.ui.queries.runs import summary
from prefectish.ui.queries.schedules import in_words
from prefectish.ui.queries.tasks import step_rows
from prefectish.ui.records import (
    AgentRow,
    AgentsPage,
    ApprovalsPage,
    DeploymentDetail,
    DeploymentsPage,
    DeploymentSummary,
    LimitRow,
    LimitsPage,
    Requested,
    RunSummary,
)
from prefectish.ui.source import NotFound, Source

_d, _q, _g, _r = deployed.c, requested.c, agents.c, schema.runs.c
#: Next times of a schedule, runs of a deployment, and waiting runs that are shown.
NEXT, MAX_RUNS, MAX_WAITING = 5, 20, 100
#: Seconds after which an agent that gives no sign of life is not at work.
STANDS_STILL = 60.0


def deployments_page(source: Source, archived: bool = False) -> DeploymentsPage:
    """Return the deployments, by project and name."""
    query = select(deployed).order_by(_d.project, _d.name, _d.version.desc())
    if not archived:
        query = query.where(_d.archived.is_(None))
    with source.store.reading() as connection:
        rows = connection.execute(query).all()
    at_work = sum(agent.is_at_work for agent in agents_page(source).agents)
    found = [_summary(source, Deployment(source.store, row)) for row in rows]
    return DeploymentsPage(deployments=found, archived=archived, agents_at_work=at_work)


def deployment_of(source: Source, project: str, name: str) -> Deployment:
    """Return a deployment: the version in use, else the last one; NotFound."""
    query = select(deployed).where(_d.project == project, _d.name == name)
    with source.store.reading() as connection:
        row = connection.execute(query.order_by(_d.archived.is_not(None), _d.version.desc()).limit(1)).first()
    if row is None:
        raise NotFound(f"nothing is deployed as {project}/{name}")
    return Deployment(source.store, row)


def deployment_detail(source: Source, project: str, name: str) -> DeploymentDetail:
    """Return a deployment, its versions and its last runs."""
    found = deployment_of(source, project, name)
    query = select(deployed).where(_d.project == project, _d.name == name).order_by(_d.version.desc())
    with source.store.reading() as connection:
        versions = connection.execute(query).all()
    return DeploymentDetail(
        deployment=_summary(source, found),
        versions=[_summary(source, Deployment(source.store, row)) for row in versions],
        runs=_runs(source, found.path, MAX_RUNS),
        waiting=_requested(source, _q.deployment.in_([row.number for row in versions])),
        form=parameter_form(
            found.source["takes"], found.source.get("needs", []), found.source.get("types", {}), found.parameters
        ),
        options=found.options._asdict(),
        environment=repr(environment_of(found._environment)),
        source=str(found.source.get("file") or found.source.get("module") or "pickled"),
    )


def _summary(source: Source, found: Deployment) -> DeploymentSummary:
    with source.store.reading() as connection:
        waits = select(func.count()).where(_q.deployment == found.id, _q.state == WAITING)
        waiting = connection.execute(waits).scalar_one()
    last = _runs(source, found.path, 1)
    return DeploymentSummary(
        id=found.id,
        project=found.project,
        name=found.name,
        version=found.version,
        flow=found.flow_name,
        is_active=found.active,
        archived=found.archived,
        created=found.created,
        created_by=found.created_by,
        labels=list(found.labels),
        schedules=[in_words(each) for each in found.schedules],
        next=found.next(NEXT),
        last=last[0] if last else None,
        waiting=waiting,
    )


def _runs(source: Source, path: str, number: int) -> list[RunSummary]:
    query = select(schema.runs).where(_r.deployment == path).order_by(_r.number.desc()).limit(number)
    with source.store.reading() as connection:
        rows = connection.execute(query).all()
    return [summary(source, RunRow(source.store, row)) for row in rows]


def _requested(source: Source, *where: ColumnElement[bool]) -> list[Requested]:
    query = select(requested).where(_q.state == WAITING, *where).order_by(_q.due, _q.number).limit(MAX_WAITING)
    with source.store.reading() as connection:
        rows = connection.execute(query).all()
    return [requested_record(row) for row in rows]


def requested_record(row: Any) -> Requested:
    """Return a run that was asked for as it is shown."""
    return Requested(
        run=row.run,
        state=row.state,
        due=aware_time(row.due),
        asked=aware_time(row.asked),
        asked_by=row.asked_by,
        begun_by=row.begun_by,
        message=row.message,
    )


def agents_page(source: Source) -> AgentsPage:
    """Return the agents, those at work first, and what waits for one."""
    now = time.time()
    with source.store.reading() as connection:
        rows = connection.execute(select(agents).order_by(_g.seen.desc()).limit(MAX_WAITING)).all()
        held = connection.execute(select(_q.agent, _q.run).where(_q.state.in_((CLAIMED, DRIVEN)))).all()
    found = [_agent(row, now, [run for agent, run in held if agent == row.id]) for row in rows]
    return AgentsPage(agents=sorted(found, key=lambda agent: not agent.is_at_work), waiting=_requested(source))


def _agent(row: Any, now: float, runs: Sequence[str]) -> AgentRow:
    life = life_of(row.process, row.seen)
    alive = row.stopped is None and now - row.seen < STANDS_STILL and life is not Life.DEAD
    return AgentRow(
        id=row.id,
        process=shown(row.process),
        labels=_labels(row.labels),
        limit=row.size,
        started=aware_time(row.started),
        seen=aware_time(row.seen),
        stopped=None if row.stopped is None else aware_time(row.stopped),
        is_at_work=alive,
        runs=list(runs),
    )


def _labels(text: str) -> list[str]:
    from prefectish.history.cells import json_of

    return [str(label) for label in json_of("labels", text, list)]


def limits_page(source: Source) -> LimitsPage:
    """Return the limits across runs, and who holds how much of each."""
    with source.store.reading() as connection:
        rows = connection.execute(select(limits_table).order_by(limits_table.c.name)).all()
        held = connection.execute(select(leases).where(leases.c.size > 0)).all()
    return LimitsPage(
        limits=[
            LimitRow(
                name=row.name,
                size=row.size,
                is_set=bool(row.is_stored),
                held=sum(lease.size for lease in held if lease.name == row.name),
                runs=[lease.run for lease in held if lease.name == row.name],
            )
            for row in rows
        ]
    )


def open_questions(source: Source) -> int:
    """Return how many tasks and items wait for an approval, for the navigation; it is at most a second or so old."""
    return source.soon("open questions", lambda: len(approvals_page(source).waiting), fresh_for=1.0) or 0


def approvals_page(source: Source) -> ApprovalsPage:
    """Return what waits for an approval, in all runs that have not ended, or are unfinished."""
    a = schema.attempts.c
    unfinished = [schema.CODES[name] for name in ("Running", "Paused", "Pending", "Scheduled", "Cancelling")]
    open_runs = select(_r.number).where(_r.ended.is_(None) | _r.state.in_(unfinished))
    paused = select(a.run).where(a.run.in_(open_runs), a.state == schema.CODES["Paused"]).distinct()
    query = select(schema.runs).where(_r.number.in_(paused)).order_by(_r.number.desc()).limit(MAX_WAITING)
    with source.store.reading() as connection:
        rows = connection.execute(query).all()
    found = []
    for row in rows:
        run = RunRow(source.store, row)
        found += waiting_of(source, run, step_rows(source, run), summary(source, run), run.waiting())
    return ApprovalsPage(waiting=found[:MAX_WAITING])
