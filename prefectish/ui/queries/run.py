"""A run: its tasks, why some failed, what waits, what was asked of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select

from prefectish.display.recorded import commands
from prefectish.environments.as_json import from_json as environment_of
from prefectish.history import schema
from prefectish.history.children import CONSEQUENCE_TYPE, aware_time, shown_type
from prefectish.history.outline import arrows
from prefectish.history.queries import RunRow
from prefectish.history.registry_tables import deployments as deployed
from prefectish.history.registry_tables import requested
from prefectish.history.run_requests import PostedRequest
from prefectish.registry import queue
from prefectish.ui.queries.forms import answer_form
from prefectish.ui.queries.runs import row_of, summary, trend
from prefectish.ui.queries.tasks import edges, item_ref, step_rows, task_rows
from prefectish.ui.records import Ask, Cause, ItemRef, Notice, RunDetail, RunSummary, Waiting
from prefectish.ui.source import Source

_d = deployed.c
_r, _c, _e, _s, _a = schema.runs.c, schema.children.c, schema.errors.c, schema.steps.c, schema.asks.c
#: Causes that are shown, items that are named with each, requests and notifications that are listed.
MAX_CAUSES, MAX_NAMED, MAX_ASKS, MAX_WAITING = 50, 5, 30, 100
#: What can be asked of a run while a driver drives it.
LIVE_VERBS = ("pause", "resume", "cancel", "drain", "retry", "set_limit")


def run_detail(source: Source, run_id: str) -> RunDetail:
    """Return a run."""
    run = row_of(source, run_id)
    steps = step_rows(source, run)
    tasks, hidden = task_rows(source, run, steps)
    head = summary(source, run, trend(source, run.flow_name).median)
    asks = asks_of(source, run)
    if head.is_live and is_paused(asks):
        head = head.model_copy(update={"state": "Paused"})
    waiting = run.waiting()
    return RunDetail(
        run=head,
        tasks=tasks,
        hidden=hidden,
        edges=edges(steps, arrows(run), tasks),
        causes=causes_of(source, run),
        waiting=waiting_of(source, run, steps, head, waiting),
        retrying=sum(row.due is not None for row in waiting),
        asks=asks,
        notices=[
            Notice(at=each.at, channel=each.channel, subject=each.subject, error=each.error)
            for each in run.notices()[-MAX_ASKS:]
        ],
        facts=_facts(source, run),
        scheduled_for=run.scheduled_for,
        parameters=_parameters(source, run.id),
        resumed=run.part,
        children=_children(source, run.id),
        parent=run.parent,
        verbs=verbs_of(head),
        **_continuing(source, run, head),
    )


def _continuing(source: Source, run: RunRow, head: RunSummary) -> dict[str, Any]:
    """Return how a run that nothing drives is continued: by an agent that can be asked, or by a command, and why."""
    if head.is_live or (run.state == "Success" and not head.is_mixed):
        return {"again": None, "again_refused": None, "resume_command": None}
    reason = queue.why_not_again(queue.row_of(source.store, run.id))
    if run.ended is None:  # its driver is gone: an agent that was asked for it finds that by itself
        reason = "its driver is gone, and it has not ended" if reason is None else reason
    return {
        "again": ("retry" if has_failed(run, head) else "resume") if reason is None else None,
        "again_refused": reason,
        "resume_command": resume_command(source, run, head),
    }


def has_failed(run: RunRow, head: RunSummary) -> bool:
    """Whether something of a run failed, that can run again."""
    return schema.CODES[run.state] in schema.FAILED_CODES or any(each.state == "failed" for each in head.counts)


def verbs_of(run: RunSummary) -> list[str]:
    """Return what can be asked of a run now."""
    if not run.is_live:
        return []
    return [verb for verb in LIVE_VERBS if verb != ("pause" if run.state == "Paused" else "resume")]


def resume_command(source: Source, run: RunRow, head: RunSummary | None = None) -> str:
    """Return the command that continues a run."""
    failed = has_failed(run, head or summary(source, run))
    return commands(run).resume_command("resume", run.id, *["--retry-failed"] * failed)


def causes_of(source: Source, run: RunRow, step: int | None = None) -> list[Cause]:
    """Return why items of a run, or of one task, failed: the most frequent first, consequences of others last."""
    c = run._current().c
    failed = (
        select(c.error, func.count().label("number"), func.min(c.step).label("low"), func.max(c.step).label("high"))
        .where(c.error > 0)  # numbers are positive: a range lets the database take the index of failures
        .group_by(c.error)
    )
    if step is not None:
        failed = failed.where(c.step + 0 == step)
    counts = failed.subquery()
    query = (
        select(schema.errors, counts.c.number.label("count"), counts.c.low, counts.c.high)
        .join(counts, counts.c.error == _e.number)
        .order_by(_e.type == CONSEQUENCE_TYPE, counts.c.number.desc(), _e.number)
        .limit(MAX_CAUSES)
    )
    with source.store.reading() as connection:
        rows = connection.execute(query).all()
        steps = connection.execute(select(_s.step, _s.slug).where(_s.run == run._number)).all() if rows else []
    slugs = {each.step: each.slug for each in steps}
    return [_cause(source, run, row, slugs, step) for row in rows]


def _cause(source: Source, run: RunRow, row: Any, slugs: Mapping[int, str], step: int | None) -> Cause:
    one: int | None = row.low if row.low == row.high else None
    return Cause(
        number=row.number,
        type=shown_type(row.type),
        message=row.message,
        traceback=row.traceback,
        count=row.count,
        is_consequence=row.type == CONSEQUENCE_TYPE,
        step=one,
        task=None if one is None or one not in slugs else run.label_of(slugs[one]),
        first=_first(source, run, row.number, step),
    )


def _first(source: Source, run: RunRow, error: int, step: int | None) -> list[ItemRef]:
    c = run._current().c
    query = (
        select(c.step, c.row, c.item_key, c.name, _s.slug, _s.mapped)
        .join(schema.steps, (_s.run == run._number) & (_s.step == c.step))
        .where(c.error == error)
        .order_by(c.step, c.row)
        .limit(MAX_NAMED)
    )
    if step is not None:
        query = query.where(c.step + 0 == step)
    with source.store.reading() as connection:
        rows = connection.execute(query).all()
    return [item_ref(run, r.step, r.slug, r.row, bool(r.mapped), r.item_key, r.name) for r in rows]


def waiting_of(
    source: Source, run: RunRow, steps: Sequence[Any], head: RunSummary, found: Sequence[Any]
) -> list[Waiting]:
    """Return what waits for an approval."""
    known = {row.slug: row.step for row in steps}
    asked = [row for row in found if row.due is None and row.state == "Paused"][:MAX_WAITING]
    since = _paused_since(source, run) if asked else {}
    return [
        Waiting(
            run=run.id,
            flow=run.flow_name,
            item=item_ref(
                run, known[row.slug], row.slug, row.index or 0, row.index is not None, row.item_key, None
            ),
            state=row.state,
            message=row.message,
            due=row.due,
            context=dict(row.context),
            since=since.get((known[row.slug], row.index or 0), run.heartbeat),
            is_live=head.is_live,
            answer=answer_form(row.context.get("input")),
        )
        for row in asked
    ]  # fmt: skip


def _paused_since(source: Source, run: RunRow) -> dict[tuple[int, int], datetime]:
    """Return when each task or item paused last, by the number of the task and the row."""
    c = schema.attempts.c
    query = select(c.step, c.row, func.max(c.at)).where(c.run == run._number, c.state == schema.CODES["Paused"])
    with source.store.reading() as connection:
        return {(step, row): aware_time(at) for step, row, at in connection.execute(query.group_by(c.step, c.row))}


def asks_of(source: Source, run: RunRow) -> list[Ask]:
    """Return the last requests to a run, the newest first."""
    query = select(schema.asks).where(_a.run == run._number).order_by(_a.number.desc()).limit(MAX_ASKS)
    with source.store.reading() as connection:
        rows = connection.execute(query).all()
    return [ask_record(run, PostedRequest.of(row)) for row in rows]


def ask_record(run: RunRow, ask: PostedRequest) -> Ask:
    """Return a request as it is shown."""
    return Ask(
        number=ask.number,
        run=run.id,
        verb=ask.verb,
        what=in_words(run, ask.verb, ask.arguments),
        asked_by=ask.asked_by,
        asked=aware_time(ask.asked),
        answered=None if ask.answered is None else aware_time(ask.answered),
        answer=ask.answer,
        error=ask.error,
    )


def in_words(run: RunRow, verb: str, arguments: Mapping[str, Any]) -> str:
    """Return what a request wants."""
    slug, row = arguments.get("slug"), arguments.get("row", arguments.get("index"))
    task = "" if slug is None else run.label_of(str(slug))
    place = task if row is None else f"{task}[{row}]"
    match verb:
        case "cancel_task":
            return f"cancel {place}"
        case "set_task_limit" | "set_tag_limit":
            size = arguments.get("size")
            what = task or f"tag {arguments.get('tag')}"
            return f"no limit for {what}" if size is None else f"at most {size} of {what} at once"
        case "approve":
            return f"approve {place}"
        case "retry":
            rows = arguments.get("rows")
            which = "failed items" if rows is None else "1 item" if len(rows) == 1 else f"{len(rows):,} items"
            return f"run {which} of {task} again"
        case "drain":
            return "finish what is running, then end"
        case "story":
            return f"show the story of {arguments.get('key')}"
        case _:
            return {"cancel": "cancel the run", "pause": "pause the run", "resume": "continue the run"}.get(verb, verb)


def is_paused(asks: Sequence[Ask]) -> bool:
    """Whether the last of the requests, the newest first, that was carried out held the run."""
    done = (ask.verb for ask in asks if ask.answered is not None and ask.error is None)
    return next((verb for verb in done if verb in ("pause", "resume")), None) == "pause"


def _facts(source: Source, run: RunRow) -> list[tuple[str, str]]:
    found = [
        ("run", run.id),
        ("name", run.name if run.name != run.id else None),
        ("version of the flow", run.flow_version),
        ("source", run.source),
        ("environment", _environment(source, run)),
        ("executor", run.executor),
        ("driver", run.holder),
        ("asked for by", _asked_by(source, run.id)),
        ("agent", run.agent),
        ("exit code", None if run.exit_code is None else str(run.exit_code)),
        ("resumed", f"{run.part} times" if run.part else None),
    ]
    return [(name, value) for name, value in found if value]


def _asked_by(source: Source, run_id: str) -> str | None:
    """Return who asked an agent for a run, or for it to be continued, last."""
    row = queue.row_of(source.store, run_id)
    return None if row is None else f"{row.asked_by} ({row.begun_by})"


def _environment(source: Source, run: RunRow) -> str:
    """Return the environment of the version that was deployed; of other runs it is that of a program."""
    project, _, name = (run.deployment or "").partition("/")
    version = (_d.project == project) & (_d.name == name) & (_d.version == run.deployment_version)
    with source.store.reading() as connection:
        text = connection.execute(select(_d.environment).where(version)).scalar()
    return (
        "the program that ran it; the flow was not deployed" if text is None else repr(environment_of(json.loads(text)))
    )


def _parameters(source: Source, run_id: str) -> dict[str, Any] | None:
    """Return the parameters of a run that was asked for; of others they are not recorded."""
    with source.store.reading() as connection:
        text = connection.execute(select(requested.c.parameters).where(requested.c.run == run_id)).scalar()
    found: dict[str, Any] | None = None if text is None else json.loads(text)
    return found


def _children(source: Source, run_id: str) -> list[str]:
    query = select(requested.c.run).where(requested.c.parent == run_id).order_by(requested.c.number).limit(100)
    with source.store.reading() as connection:
        return list(connection.execute(query).scalars())
