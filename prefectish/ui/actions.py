"""What buttons ask for: left in the database for the driver of the run, or the agents; the same for pages and the API.

Nothing is done to a run here. A driver carries a request out within a second or two, and the history keeps who asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from pydantic import Field
from sqlalchemy import select

from prefectish.errors import RunNotActive
from prefectish.history import schema
from prefectish.history.approvals import approve as write_approval
from prefectish.history.queries import RunRow
from prefectish.history.run_requests import PostedRequest, post, requester
from prefectish.history.shared_limits import remove_limit, set_limit
from prefectish.history.signing import Signer
from prefectish.next_command import NextCommand
from prefectish.registry import queue
from prefectish.slugs import meant
from prefectish.ui.queries.forms import answer_form, value_of
from prefectish.ui.queries.registry import agents_page, deployment_of
from prefectish.ui.queries.run import ask_record, has_failed, resume_command
from prefectish.ui.queries.runs import row_of, summary
from prefectish.ui.queries.tasks import item_ref, step_row, step_rows
from prefectish.ui.records import Ask, Asked, Json, Moment, Number, Record, Text
from prefectish.ui.source import NotFound, Source
from prefectish.validation import unknown_task

_a, _c, _r = schema.asks.c, schema.children.c, schema.runs.c
#: Seconds that a button waits for the answer of a driver; it is shown as taken later, too.
PATIENCE, LOOK = 2.0, 0.05


class AskRequest(Record):
    """A request to a run that is driven; to continue one that has ended, an agent."""

    verb: Literal["pause", "resume", "cancel", "drain", "retry", "set_limit", "continue"]
    task: Text | None = Field(default=None, description="slug or name of a task")
    step: Number | None = Field(default=None, description="number of a task, in the place of its slug")
    row: Number | None = Field(default=None, description="one item of the task")
    cause: Number | None = Field(default=None, description="to retry: only the items that failed for this cause")
    tag: Text | None = Field(default=None, description="to limit: a tag, in the place of a task")
    size: Number | None = Field(default=None, description="to limit: how many at once; none for no limit")


class ApproveRequest(Record):
    """An answer to a task that waits for an approval."""

    step: Number
    row: Number = 0
    input: Json = Field(default=None, description="the answer; none for an approval without a word")


class LimitRequest(Record):
    """A limit across runs."""

    name: str = Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")
    size: Number | None = Field(default=None, description="none: what tasks say holds again")


class RunRequest(Record):
    """A run of a deployed flow."""

    parameters: dict[str, Json] = Field(default_factory=dict)
    at: Moment | None = Field(default=None, description="when it is to begin, with a time zone; now by default")


class ActiveRequest(Record):
    """Whether the schedules of a deployment are followed."""

    active: bool


class ArchiveRequest(Record):
    """Take a deployment out of use."""


def ask(source: Source, path: Mapping[str, Any], wanted: AskRequest) -> Asked:
    """Ask a run to pause, resume, end, run failed items again, hold a limit, or continue after its end."""
    if wanted.verb == "continue":
        return _continue(source, row_of(source, path["run"]))
    run = _live(source, path["run"])
    step = _step(source, run, wanted)
    slug = None if step is None else step.slug
    match wanted.verb:
        case "cancel" if step is not None:
            requests = [("cancel_task", {"slug": slug, "row": wanted.row if step.mapped else None})]
        case "set_limit" if step is not None:
            requests = [("set_task_limit", {"slug": slug, "size": wanted.size})]
        case "set_limit":
            if not wanted.tag:
                raise ValueError("a limit is one of a task or a tag")
            requests = [("set_tag_limit", {"tag": wanted.tag, "size": wanted.size})]
        case "retry":
            requests = _retries(source, run, wanted, step)
        case verb:
            requests = [(verb, {})]
    return _asked(source, run, requests)


def _continue(source: Source, run: RunRow) -> Asked:
    """Ask an agent to continue a run that has ended: with what failed, if something did."""
    if run.ended is None:
        raise RunNotActive(f"run {run.id} has not ended; {resume_command(source, run)}")
    retries = has_failed(run, summary(source, run))
    queue.ask_again(source.store, run.id, retries, f"{requester()}, on the page")
    begins = any(agent.is_at_work for agent in agents_page(source).agents)
    by = "an agent begins it"
    if not begins:
        by = f"no agent is at work; start one: {NextCommand.of_history(source.store.address).command('agent', 'start')}"
    return Asked(done=f"asked to {'run again what failed' if retries else 'continue it'}: {by}", run=run.id)


def _live(source: Source, run_id: str) -> RunRow:
    run = row_of(source, run_id)
    if run.ended is not None or run.is_lost:
        what = f"it ended as {run.state}" if run.ended is not None else "its driver is gone"
        raise RunNotActive(f"run {run.id} is not active: {what}; {resume_command(source, run)}")
    return run


def _step(source: Source, run: RunRow, wanted: AskRequest) -> Any:
    """Return the row of the task of a request, None if it names none; NotFound."""
    if wanted.step is not None:
        return step_row(source, run, wanted.step)
    if wanted.task is None:
        return None
    rows = step_rows(source, run)
    chosen = meant(wanted.task, ((row.slug, run.label_of(row.slug), row.name) for row in rows))
    found = [row for row in rows if row.slug in chosen]
    if not found:
        raise NotFound(unknown_task(wanted.task, (run.label_of(row.slug) for row in rows), f"run {run.id}"))
    if len(found) > 1:
        raise NotFound(f"several tasks are called {wanted.task!r} in run {run.id}; name one by its slug")
    return found[0]


def _retries(source: Source, run: RunRow, wanted: AskRequest, step: Any) -> list[tuple[str, dict[str, Any]]]:
    """Return a request for each task with items that are to run again."""
    if step is not None and wanted.row is not None:
        return [("retry", {"slug": step.slug, "where": None, "rows": [wanted.row]})]
    if step is not None and wanted.cause is None:
        return [("retry", {"slug": step.slug, "where": None, "rows": None})]
    c = run._current().c
    query = select(c.step, c.row).where(c.error.is_not(None)).order_by(c.step, c.row)
    if wanted.cause is not None:
        query = query.where(c.error == wanted.cause)
    if step is not None:
        query = query.where(c.step == step.step)
    rows: dict[int, list[int]] = {}
    with source.store.reading() as connection:
        for number, row in connection.execute(query):
            rows.setdefault(number, []).append(row)
    mapped = {row.step: row.slug for row in step_rows(source, run) if row.mapped}
    found = {mapped[number]: own for number, own in rows.items() if number in mapped}
    if not found:
        raise ValueError(f"no item of run {run.id} failed so")
    return [
        ("retry", {"slug": slug, "where": None, "rows": None if wanted.cause is None else own})
        for slug, own in found.items()
    ]


def _asked(source: Source, run: RunRow, requests: list[tuple[str, dict[str, Any]]]) -> Asked:
    """Leave requests, and wait a moment for what the driver answers."""
    with source.store.writing() as connection:
        numbers = [
            post(connection, run._number, verb, given, Signer(), f"{requester()}, on the page")
            for verb, given in requests
        ]
    end = time.monotonic() + PATIENCE
    while True:
        with source.store.reading() as connection:
            rows = connection.execute(select(schema.asks).where(_a.number.in_(numbers)).order_by(_a.number)).all()
        if all(row.answered is not None for row in rows) or time.monotonic() > end:
            break
        time.sleep(LOOK)
    asks = [ask_record(run, PostedRequest.of(row)) for row in rows]
    refused = [each.error for each in asks if each.error is not None]
    if refused:
        raise RunNotActive("; ".join(dict.fromkeys(refused)))
    return Asked(done=_summary(asks), asks=asks, run=run.id)


def _summary(asks: list[Ask]) -> str:
    taken = all(each.answered is not None for each in asks)
    again = [each.answer for each in asks if each.verb == "retry" and isinstance(each.answer, int)]
    if taken and again:
        return f"{sum(again):,} items run again"
    what = "; ".join(dict.fromkeys(each.what for each in asks))
    return f"done: {what}" if taken else f"asked, and not answered yet: {what}"


def approve(source: Source, path: Mapping[str, Any], wanted: ApproveRequest) -> Asked:
    """Approve a task that waits: at once while the run is driven, else when it is resumed."""
    run = row_of(source, path["run"])
    step = step_row(source, run, wanted.step)
    index = wanted.row if step.mapped else None
    paused = [row for row in run.paused() if row.slug == step.slug and row.index == index and row.state == "Paused"]
    label = item_ref(run, step.step, step.slug, wanted.row, bool(step.mapped), None, None).label
    if not paused:
        raise NotFound(f"{label} does not wait for an approval in run {run.id}")
    answer = _answer(paused[0].context.get("input"), wanted.input)
    if run.ended is None and not run.is_lost:
        return _asked(source, run, [("approve", {"slug": step.slug, "index": index, "input": answer})])
    write_approval(source.store, run._number, paused, answer)
    return Asked(done=f"approved {label}; it continues with: {resume_command(source, run)}", run=run.id)


def _answer(wanted: Any, given: Any) -> Any:
    """Return an answer in its type, of a field of a form that is a text."""
    form = answer_form(wanted)
    if given is None or not form or not isinstance(given, str):
        return given
    return value_of(form[0], given)


def limit(source: Source, path: Mapping[str, Any], wanted: LimitRequest) -> Asked:
    """Set a limit across runs, or forget the one that was set."""
    if wanted.size is None:
        if not remove_limit(wanted.name, source.store.address):
            raise NotFound(f"no limit {wanted.name!r} is set")
        return Asked(done=f"{wanted.name}: not set any more")
    set_limit(wanted.name, wanted.size, source.store.address)
    return Asked(done=f"{wanted.name}: at most {wanted.size} at once, in all runs")


def run_now(source: Source, path: Mapping[str, Any], wanted: RunRequest) -> Asked:
    """Ask for a run of a deployed flow, which an agent begins."""
    found = deployment_of(source, path["project"], path["name"])
    run_id = found.run(wanted.parameters, at=wanted.at)
    waits = "" if queue.row_of(source.store, run_id) is None else ", which an agent begins"
    return Asked(done=f"asked for a run of {found.path}{waits}", run=run_id)


def archive(source: Source, path: Mapping[str, Any], wanted: ArchiveRequest) -> Asked:
    """Take a deployment out of use."""
    found = deployment_of(source, path["project"], path["name"])
    if found.archived is not None:
        raise NotFound(f"{found.path} is archived already")
    found.archive()
    return Asked(done=f"archived {found.path}, version {found.version}")


def set_active(source: Source, path: Mapping[str, Any], wanted: ActiveRequest) -> Asked:
    """Follow the schedules of a deployment, or no longer."""
    found = deployment_of(source, path["project"], path["name"])
    found.set_active(wanted.active)
    return Asked(done=f"the schedule of {found.path} is {'followed' if wanted.active else 'not followed any more'}")


class Action(NamedTuple):
    """What a button asks for: the body of its request, and what is done about it."""

    body: type[Record]
    act: Callable[[Source, Mapping[str, Any], Any], Asked]


#: By the name of the route.
ACTIONS: Mapping[str, Action] = {
    "ask": Action(AskRequest, ask),
    "approve": Action(ApproveRequest, approve),
    "set_limit": Action(LimitRequest, limit),
    "run_now": Action(RunRequest, run_now),
    "archive": Action(ArchiveRequest, archive),
    "set_active": Action(ActiveRequest, set_active),
}
