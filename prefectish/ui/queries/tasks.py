"""The tasks of a run, and how far each is."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from math import isqrt
from typing import Any

from sqlalchemy import Connection, func, select

from prefectish.display import words
from prefectish.engine.task_states import Arrow
from prefectish.history import schema
from prefectish.history.children import aware_time, readable_key
from prefectish.history.queries import RunRow
from prefectish.ui.pictures import Picture, has_failed, picture_of, running_rows
from prefectish.ui.records import Count, Edge, ItemRef, TaskRow
from prefectish.ui.source import PATIENCE, NotFound, Source

_s, _c = schema.steps.c, schema.children.c
#: Tasks that have a row; maps come first.
MAX_TASKS = 400
#: Running bodies whose words are shown.
MAX_SAID = 3
#: Seconds over which the rate of a map is measured.
RATE_SECONDS = 60.0


def step_rows(source: Source, run: RunRow) -> Sequence[Any]:
    """Return the rows of the tasks of a run, in the order of the flow."""
    with source.store.reading() as connection:
        return connection.execute(select(schema.steps).where(_s.run == run._number).order_by(_s.step)).all()


def number_of_items(connection: Connection, run: RunRow) -> int:
    """Return how many items a run has: as recorded when it ended, else counted, which takes long."""
    if run._counts is not None:
        counts = run.counts()
        return sum(counts.items.values()) + sum(counts.tasks.values())
    return connection.execute(select(func.count()).select_from(run._current())).scalar_one()


def sample_of(number: int, most: int) -> int:
    """Return of how many items one is read, so that about as many as `most` are.

    A prime number: items that are alike, or run by one worker, are often as far apart as a round one.

    Examples
    --------
    >>> sample_of(1_000, 50_000), sample_of(1_000_000, 50_000), sample_of(1_000_000, 400_000)
    (1, 23, 3)
    """
    found = max(1, -(-number // most))
    while any(found % n == 0 for n in range(2, isqrt(found) + 1)):
        found += 1
    return found


def step_row(source: Source, run: RunRow, step: int) -> Any:
    """Return the row of a task; NotFound."""
    with source.store.reading() as connection:
        row = connection.execute(select(schema.steps).where(_s.run == run._number, _s.step == step)).first()
    if row is None:
        raise NotFound(f"run {run.id} has no task number {step}")
    return row


def task_rows(source: Source, run: RunRow, steps: Sequence[Any]) -> tuple[list[TaskRow], int]:
    """Return the tasks of a run that have a row, and the number of the others."""
    chosen = steps
    if len(steps) > MAX_TASKS:
        chosen = sorted(steps, key=lambda row: (not row.mapped, row.step))[:MAX_TASKS]
        chosen = sorted(chosen, key=lambda row: row.step)
    single, said = _single_states(source, run, chosen), _said(run)
    end = time.monotonic() + PATIENCE
    found = []
    for row in chosen:
        if row.mapped:
            left = max(0.0, end - time.monotonic())
            picture = picture_of(source, run, row.step, row.state is not None, left, row.width)
            found.append(map_row(source, run, row, picture, said.get(row.slug)))
        else:
            found.append(_single(run, row, single.get(row.step), said.get(row.slug)))
    return found, len(steps) - len(chosen)


def _single_states(source: Source, run: RunRow, steps: Sequence[Any]) -> Mapping[int, Any]:
    """Return the newest record of each single task, by its number."""
    numbers = [row.step for row in steps if not row.mapped]
    query = select(_c.step, _c.state, _c.seconds, _c.at).where(_c.run == run._number, _c.row == 0).order_by(_c.part)
    found: dict[int, Any] = {}
    with source.store.reading() as connection:
        for first in range(0, len(numbers), MAX_TASKS):  # each is looked up: all rows of the maps are not passed
            these = _c.step.in_(numbers[first : first + MAX_TASKS])
            found |= {row.step: row for row in connection.execute(query.where(these, _c.part <= run.part))}
    return found


def _single(run: RunRow, row: Any, child: Any, said: str | None) -> TaskRow:
    state = None if child is None else schema.STATES[child.state]
    running = 1 if child is None and row.open is not None and run.ended is None else 0
    shown = state or ("Running" if running else schema.STATES[row.state] if row.state is not None else "Pending")
    return TaskRow(
        step=row.step,
        slug=row.slug,
        label=run.label_of(row.slug),
        is_map=False,
        state=shown,
        counts=[Count(state=shown, number=1)],
        is_counted=True,
        done=int(child is not None),
        failed=int(child is not None and child.state in schema.FAILED_CODES),
        total=1,
        running=running,
        rate=None,
        seconds_left=None,
        began=None if child is None or child.seconds is None else aware_time(child.at - child.seconds),
        ended=None if child is None else aware_time(child.at),
        progress=said,
    )


def _said(run: RunRow) -> Mapping[str, str]:
    """Return what the running bodies of each task say of themselves, the first of them, by its slug."""
    if run.ended is not None or run.is_lost:
        return {}
    found: dict[str, list[str]] = {}
    for body in run.progress():
        found.setdefault(body.slug, []).append(words.inside(body))
    return {
        slug: "; ".join(texts[:MAX_SAID]) + (f"; and {len(texts) - MAX_SAID:,} more" if len(texts) > MAX_SAID else "")
        for slug, texts in found.items()
    }


def map_row(source: Source, run: RunRow, row: Any, picture: Picture | None, said: str | None = None) -> TaskRow:
    """Return how far a map is; what failed is known also while the rest is read."""
    rows = running_rows(row) if run.ended is None else []
    counts = _failed_of(source, run, row.step) if picture is None else picture.counts(rows)
    running = counts.pop("Running", 0) if picture is not None else len(rows)
    done = sum(counts.values())
    is_over = row.state is not None or run.ended is not None
    total = row.width if row.width is not None else (done if is_over and picture is not None else None)
    rate, left = (None, None) if is_over or picture is None else _pace(source, run, row.step, picture, done, total)
    waiting = 0 if total is None else max(0, total - done - running)
    shown = {**counts, **({"Running": running} if running else {})}
    if waiting and picture is not None:
        shown["Pending"] = waiting
    failed = sum(counts.get(schema.STATES[code], 0) for code in schema.FAILED_CODES)
    return TaskRow(
        step=row.step,
        slug=row.slug,
        label=run.label_of(row.slug),
        is_map=True,
        state=schema.STATES[row.state] if row.state is not None else "Running" if done or running else "Pending",
        counts=[Count(state=name, number=number) for name, number in shown.items()],
        is_counted=picture is not None,
        done=done,
        failed=failed,
        total=total,
        running=running,
        rate=rate,
        seconds_left=left,
        began=None if picture is None or picture.began is None else aware_time(picture.began),
        ended=None if picture is None or picture.ended is None or not is_over else aware_time(picture.ended),
        progress=said,
    )


def _failed_of(source: Source, run: RunRow, step: int) -> dict[str, int]:
    """Return how many items of a map have failed, by an index."""
    query = select(_c.state, func.count()).where(has_failed(run, step)).group_by(_c.state)
    with source.store.reading() as connection:
        return {schema.STATES[state]: number for state, number in connection.execute(query)}


def _pace(
    source: Source, run: RunRow, step: int, picture: Picture, done: int, total: int | None
) -> tuple[float | None, float | None]:
    """Return the items a second of late, since the beginning at first, and the seconds that are left."""
    now = time.time()
    seen: deque[tuple[float, int]] = source.kept(("pace", run.id, run.part, step), lambda: deque(maxlen=120))
    if not seen or now - seen[-1][0] >= 1.0:
        seen.append((now, done))
    while seen and now - seen[0][0] > RATE_SECONDS:
        seen.popleft()
    then, before = seen[0] if seen else (now, done)
    if now - then < 5.0:
        then, before = (picture.began, 0) if picture.began is not None else (now, done)
    rate = (done - before) / (now - then) if now > then else None
    if not rate or total is None:
        return rate, None
    return rate, max(0, total - done) / rate


def edges(steps: Sequence[Any], arrows: Sequence[Arrow], shown: Sequence[TaskRow]) -> list[Edge]:
    """Return the arrows between the tasks that have a row."""
    known = {row.slug: row.step for row in steps}
    seen = {task.step for task in shown}
    return [
        Edge(start=known[arrow.start], end=known[arrow.end], argument=arrow.key, mapped=arrow.mapped)
        for arrow in arrows
        if known.get(arrow.start) in seen and known.get(arrow.end) in seen
    ]


def item_ref(run: RunRow, step: int, slug: str, row: int, is_map: bool, key: str | None, name: str | None) -> ItemRef:
    """Return what an item is called, and where it is found."""
    index = row if is_map else None
    task = run.label_of(slug)
    place = task if index is None else f"{task}[{index}]"
    called = name or readable_key(key, index)
    label = place if called is None else f"{place} ({called})"
    return ItemRef(step=step, task=task, index=index, row=row, label=label, item_key=key)
