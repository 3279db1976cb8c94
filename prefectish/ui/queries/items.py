"""An item: its attempts, times, traceback, log, and what it was given."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select

from prefectish.history import schema
from prefectish.history.children import ChildRow, aware_time
from prefectish.history.queries import RunRow
from prefectish.ui.pictures import running_rows
from prefectish.ui.queries.inputs import child_of, inputs_of
from prefectish.ui.queries.logs import log_lines
from prefectish.ui.queries.runs import row_of, summary
from prefectish.ui.queries.tasks import item_ref, step_row
from prefectish.ui.records import Attempt, ItemDetail, ItemRef, RunSummary, SourceLine
from prefectish.ui.source import NotFound, Source

_c, _s, _a, _e, _t = schema.children.c, schema.steps.c, schema.attempts.c, schema.errors.c, schema.texts.c
#: Lines of the source before and behind the one that failed.
AROUND = 5
#: Of an item that was cancelled before it began.
CANCELLED = "It was cancelled, and ends when its turn comes."
_FRAME = re.compile(r'^[ \t]*File "([^"\n]+)", line (\d{1,7}), in [^\n]*\n[ \t]*([^\n]+)$', re.MULTILINE)


def item_detail(source: Source, run_id: str, step: int, row: int) -> ItemDetail:
    """Return an item."""
    run = row_of(source, run_id)
    task = step_row(source, run, step)
    child = child_of(source, run, step, row)
    head = summary(source, run)
    item = item_ref(
        run, step, task.slug, row, bool(task.mapped), None if child is None else child.item_key,
        None if child is None else child.name,
    )  # fmt: skip
    attempts = _earlier(source, run, step, row) if child is None else [*_before(child), _last(child)]
    state = child.state if child is not None else _open_state(task, row, attempts, head)
    if child is None and not attempts and not _is_known(task, row):
        raise NotFound(f"nothing is recorded of {item.label} in run {run.id}")
    is_cancelled = child is None and head.is_live and _was_cancelled(run, task.slug, row)
    return ItemDetail(
        run=head,
        item=item,
        state=state,
        message=child.message if child is not None else CANCELLED if is_cancelled else None,
        error=None if child is None else child.error,
        traceback=None if child is None else child.traceback,
        **_source_of(None if child is None else child.traceback),
        attempts=attempts,
        worker=None if child is None else child.worker,
        seconds=None if child is None else child.duration,
        cpu_time=None if child is None else child.cpu_time,
        peak_memory=None if child is None else child.peak_memory,
        bytes_out=None if child is None else child.bytes_out,
        location=None if child is None else child.location,
        inputs=inputs_of(source, run, task, row),
        logs=log_lines(source, run.id, step=step, row=row),
        replay=_replay(run, task.slug, item, source),
        previous=_neighbour(source, run, step, row, -1) if task.mapped else None,
        next=_neighbour(source, run, step, row, 1) if task.mapped else None,
        verbs=[] if is_cancelled else _verbs(head, state),
    )


def _was_cancelled(run: RunRow, slug: str, row: int) -> bool:
    """Whether a driver took it that an item be cancelled, which has not ended yet."""
    return any(
        ask.verb == "cancel_task" and ask.arguments.get("slug") == slug and ask.arguments.get("row") in (row, None)
        for ask in run.asks()
        if ask.answered is not None and ask.error is None
    )


def _is_known(task: Any, row: int) -> bool:
    """Whether an item that has not ended may be there."""
    return row == 0 or row in running_rows(task) or (task.width is not None and row < task.width)


def _open_state(task: Any, row: int, attempts: Sequence[Attempt], head: RunSummary) -> str:
    if head.is_live and row in running_rows(task):
        return "Running"
    return attempts[-1].state if attempts else "Pending"


def _verbs(head: RunSummary, state: str) -> list[str]:
    if not head.is_live:
        return []
    if state in schema.CODES and schema.CODES[state] in schema.FAILED_CODES:
        return ["retry"]
    return ["approve", "cancel"] if state == "Paused" else ["cancel"] if state in _OPEN else []


_OPEN = frozenset({"Pending", "Running", "Retrying", "Scheduled", "Paused", "Resume", "Queued", "Submitted"})


def _before(child: ChildRow) -> list[Attempt]:
    return [
        Attempt(
            number=each.number, state=each.state, seconds=each.seconds, at=each.at, message=each.message,
            error=each.error, worker=None,
        )
        for each in child.earlier()
    ]  # fmt: skip


def _last(child: ChildRow) -> Attempt:
    return Attempt(
        number=child.attempts, state=child.state, seconds=child.duration, at=child.at, message=child.message,
        error=child.error, worker=child.worker,
    )  # fmt: skip


def _earlier(source: Source, run: RunRow, step: int, row: int) -> list[Attempt]:
    """Return the attempts of an item that has not ended."""
    worker = schema.texts.alias("worker_name")
    query = (
        select(schema.attempts, _e.type, _e.message.label("said"), _t.text, worker.c.text.label("place"))
        .outerjoin(schema.errors, _e.number == _a.error)
        .outerjoin(schema.texts, _t.number == _a.message)
        .outerjoin(worker, worker.c.number == _a.worker)
        .where(_a.run == run._number, _a.step == step, _a.row == row)
        .order_by(_a.part, _a.number)
    )
    with source.store.reading() as connection:
        rows = connection.execute(query).all()
    return [
        Attempt(
            number=each.number, state=schema.STATES[each.state], seconds=each.seconds, at=aware_time(each.at),
            message=each.text, error=None if each.type is None else f"{each.type}: {each.said}", worker=each.place,
        )
        for each in rows
    ]  # fmt: skip


def _neighbour(source: Source, run: RunRow, step: int, row: int, way: int) -> int | None:
    edge = func.max(_c.row) if way < 0 else func.min(_c.row)
    beyond = _c.row < row if way < 0 else _c.row > row
    query = select(edge).where(_c.run == run._number, _c.step == step, beyond)
    with source.store.reading() as connection:
        found: int | None = connection.execute(query).scalar()
    return found


def _source_of(traceback: str | None) -> dict[str, Any]:
    """Return the lines of the file around the place where an item failed, if it is here, and as it was then."""
    nothing: dict[str, Any] = {"source": [], "source_file": None}
    frames = _FRAME.findall(traceback or "")
    for file, number, code in reversed(frames):
        if not file.endswith(".py") or not os.path.isfile(file):
            continue
        line = int(number)
        try:
            with open(file, encoding="utf-8") as opened:
                lines = opened.read(2_000_000).splitlines()
        except (OSError, UnicodeDecodeError):
            return nothing
        if not 0 < line <= len(lines) or lines[line - 1].strip() != code.strip():
            continue  # it has changed since
        first = max(1, line - AROUND)
        return {
            "source": [
                SourceLine(number=n, text=text, is_here=n == line)
                for n, text in enumerate(lines[first - 1 : line + AROUND], first)
            ],
            "source_file": file,
        }
    return nothing


def _replay(run: RunRow, slug: str, item: ItemRef, source: Source) -> str:
    """Return the command that runs an item again in a debugger; code, if the history does not know its flow."""
    given = [
        json.dumps(text, ensure_ascii=False)
        for text in (run.id, source.store.location, run.label_of(slug), run.source or "")
    ]
    run_id, store, task, flow = given  # in double quotes, which a shell leaves alone between single ones
    find = f"history.run({run_id}, store={store}).child({task}, {item.row})"
    if run.source is None:
        return f"from prefectish import history\n{find}.replay(pdb=True, flow=flow)"
    imports = "from prefectish import history; from prefectish.flow_loading import load_flow"
    return f"python -c {shlex.quote(f'{imports}; {find}.replay(pdb=True, flow=load_flow({flow}))')}"
