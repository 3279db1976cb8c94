"""Lists of runs."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from sqlalchemy import ColumnElement, and_, func, literal, or_, select

from prefectish.engine.task_counts import ORDER, TaskCounts
from prefectish.history import schema
from prefectish.history.queries import RunRow
from prefectish.history.registry_tables import deployments as deployed
from prefectish.ui.queries.tasks import step_rows, task_rows
from prefectish.ui.records import Count, FlowTrend, Paging, RunFilter, RunsPage, RunSummary
from prefectish.ui.source import NotFound, Source

_r = schema.runs.c
#: Runs on a page, and in the trend of a flow.
PAGE_SIZE, TREND = 50, 30
#: Characters of the identifier of a run, at most; see :data:`prefectish.history.schema.runs`.
MAX_ID = 80
#: A run is slow from this many times the median of its flow on.
SLOW = 1.5
#: States that runs can be filtered by.
RUN_STATES = ("Running", "Success", "Failed", "Cancelled", "Unfinished")


def runs_page(source: Source, wanted: RunFilter, page: int = 1, size: int = PAGE_SIZE) -> RunsPage:
    """Return a page of runs, the newest first."""
    where = _condition(wanted)
    with source.store.reading() as connection:
        total = connection.execute(select(func.count()).select_from(schema.runs).where(where)).scalar_one()
        query = select(schema.runs).where(where).order_by(_r.number.desc())
        rows = connection.execute(query.limit(size).offset((max(page, 1) - 1) * size)).all()
        flows = connection.execute(select(_r.flow_name).distinct().order_by(_r.flow_name)).scalars().all()
        projects = connection.execute(select(deployed.c.project).distinct().order_by(deployed.c.project)).scalars()
        found = list(projects)
    trends = [trend(source, flow) for flow in dict.fromkeys(row.flow_name for row in rows)]
    usual = {each.flow: each.median for each in trends}
    return RunsPage(
        runs=[summary(source, RunRow(source.store, row), usual.get(row.flow_name)) for row in rows],
        paging=paging(page, size, total),
        filter=wanted,
        trends=trends,
        flows=list(flows),
        projects=found,
        states=list(RUN_STATES),
    )


def paging(page: int, size: int, total: int) -> Paging:
    """Return where a page of a list is."""
    return Paging(page=max(page, 1), pages=max(1, -(-total // size)), size=size, total=total)


def _condition(wanted: RunFilter) -> ColumnElement[bool]:
    found: list[ColumnElement[bool]] = [literal(True)]
    if wanted.flow is not None:
        found.append(_r.flow_name == wanted.flow)
    if wanted.project is not None:
        found.append(_r.deployment.startswith(f"{wanted.project}/", autoescape=True))
    if wanted.state is not None:
        found.append(_in_state(wanted.state))
    if wanted.since is not None:
        found.append(_r.started >= wanted.since.timestamp())
    if wanted.until is not None:
        found.append(_r.started < wanted.until.timestamp())
    if wanted.text is not None:
        named = _r.name.contains(wanted.text, autoescape=True) | _r.message.contains(wanted.text, autoescape=True)
        found.append(or_(_r.id.startswith(wanted.text, autoescape=True), named))
    return and_(*found)


def _in_state(state: str) -> ColumnElement[bool]:
    """Return the condition for runs in a state; "Unfinished" ones ended while something was paused, or waited."""
    if state == "Failed":
        return _r.state.in_(schema.FAILED_CODES)
    if state in ("Running", "Unfinished"):
        over = _r.ended.is_(None) if state == "Running" else _r.ended.is_not(None)
        return over & (_r.state == schema.CODES["Running"])
    if state not in schema.CODES:
        raise NotFound(f"there is no state {state!r}; states of runs are {', '.join(RUN_STATES)}")
    return _r.state == schema.CODES[state]


def trend(source: Source, flow: str) -> FlowTrend:
    """Return the durations of the last successful runs of a flow."""
    query = (
        select(_r.id, (_r.ended - _r.started).label("seconds"))
        .where(_r.flow_name == flow, _r.state == schema.CODES["Success"], _r.ended.is_not(None))
        .order_by(_r.number.desc())
        .limit(TREND)
    )
    with source.store.reading() as connection:
        rows = connection.execute(query).all()[::-1]
    seconds = [max(0.0, float(row.seconds)) for row in rows]
    return FlowTrend(
        flow=flow, runs=[row.id for row in rows], seconds=seconds, median=median(seconds) if seconds else None
    )


def row_of(source: Source, run_id: str) -> RunRow:
    """Return a run by its identifier, or the beginning of it; NotFound."""
    if len(run_id) > MAX_ID:
        raise NotFound(f"there is no run with an identifier of {len(run_id):,} characters")
    query = select(schema.runs).where(_r.id.startswith(run_id, autoescape=True)).limit(2)
    with source.store.reading() as connection:
        exact = connection.execute(select(schema.runs).where(_r.id == run_id)).first()
        rows: Sequence[Any] = [exact] if exact is not None else connection.execute(query).all()
    if len(rows) != 1 or not run_id:
        raise NotFound(f"{'several runs begin with' if rows else 'there is no run'} {run_id!r} in this history")
    return RunRow(source.store, rows[0])


def summary(source: Source, run: RunRow, usual: float | None = None) -> RunSummary:
    """Return a run for a list; `usual` is the median of its flow."""
    counts = counts_of(source, run)
    kinds = {**counts.items}
    for kind, number in counts.tasks.items():
        kinds[kind] = kinds.get(kind, 0) + number
    is_live = run.ended is None and not run.is_lost
    factor = run.duration / usual if usual else None
    return RunSummary(
        id=run.id,
        name=run.name,
        flow=run.flow_name,
        project=None if run.deployment is None else run.deployment.partition("/")[0],
        deployment=run.deployment,
        deployment_version=run.deployment_version,
        state=shown_state(run),
        message=run.message,
        is_live=is_live,
        is_success=run.state == "Success",
        is_mixed=run.state == "Success" and not counts.is_clean,
        started=run.started,
        ended=run.ended,
        seconds=run.duration,
        counts=[Count(state=kind, number=kinds[kind]) for kind in ("succeeded", *ORDER) if kinds.get(kind)],
        counted=counts.text(),
        trigger=run.trigger,
        slow_factor=factor if factor is not None and factor >= SLOW else None,
    )


def counts_of(source: Source, run: RunRow) -> TaskCounts:
    """Return how many items and tasks succeeded, failed, or did not run: as recorded, else as far as they were read."""
    if run._counts is not None:
        return run.counts()
    tasks, _ = task_rows(source, run, step_rows(source, run))
    return TaskCounts.of_names(
        (task.is_map, {count.state: count.number for count in task.counts}, 0) for task in tasks
    )  # fmt: skip


def shown_state(run: RunRow) -> str:
    """Return the state of a run; "Lost" if its driver is gone, "Unfinished" if it ended while others were to come."""
    if run.is_lost:
        return "Lost"
    return "Unfinished" if run.state == "Running" and run.ended is not None else run.state
