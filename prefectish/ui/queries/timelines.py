"""What ran when, by worker and by task; of a large run one in so many items is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from heapq import nlargest
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, func, select

from prefectish.history import schema
from prefectish.history.cells import check_columns, json_of, unchecked
from prefectish.history.measures import TIME_BINS, UNTRIED, WorkerTrack
from prefectish.history.queries import RunRow
from prefectish.ui.pictures import WIDE
from prefectish.ui.queries.runs import row_of
from prefectish.ui.queries.tasks import item_ref, number_of_items, sample_of
from prefectish.ui.records import SlowItem, Timeline, Track
from prefectish.ui.source import PATIENCE, Source

_s = schema.steps.c
#: Items that are read at most, tracks that are shown, slowest items that are named.
MAX_READ, MAX_TRACKS, MAX_SLOWEST = 50_000, 40, 20
#: What ran items of which no worker is recorded.
HERE = "the client"
#: Seconds of a value at least, for which up to so many of `TIME_BINS` intervals are taken together: what ended since
#: the last turn of the loop is recorded at once.
TURN, MOST_TOGETHER = 0.5, 6


def timeline(source: Source, run_id: str) -> Timeline:
    """Return what of a run ran when; not complete while that of a large run is read."""
    run = row_of(source, run_id)
    is_over = run.ended is not None
    found = source.soon(
        ("timeline", run.id, run.part, is_over),
        lambda: _read(source, run),
        fresh_for=3600.0 if is_over else 2.0,
        patience=0.0 if is_over and _is_wide(source, run) else PATIENCE,  # it would wait in vain
    )
    if found is not None:
        return found
    return Timeline(
        run=run.id, started=run.started, interval=max(run.duration, 1e-6) / TIME_BINS, workers=[], tasks=[],
        slowest=[], is_complete=False, sample=1,
    )  # fmt: skip


def _is_wide(source: Source, run: RunRow) -> bool:
    with source.store.reading() as connection:
        return number_of_items(connection, run) > WIDE


class _Found(NamedTuple):
    """What was read of a run: items that ran, one in `sample` of those of maps; the slowest; tasks and texts.

    Failures are few, and found by an index: all of them are counted, by task and worker.
    """

    rows: Sequence[Any]
    slow: Sequence[Any]
    failed: Sequence[Any]
    steps: Mapping[int, Any]
    texts: Mapping[int, str]
    sample: int


def _read(source: Source, run: RunRow) -> Timeline:
    found = _found(source, run)
    workers = found.texts
    tasks = {number: run.label_of(step.slug) for number, step in found.steps.items()}
    weights = {number: found.sample if step.mapped else 1 for number, step in found.steps.items()}
    length = max(run.duration, 1e-6)
    scale, started = TIME_BINS / length, run.started.timestamp()
    by_worker, by_task = _Tracks(), _Tracks()
    for step, _, _, seconds, _, worker in found.rows:
        by_worker.seconds[workers.get(worker, HERE)] += weights[step] * seconds
        by_task.seconds[tasks[step]] += weights[step] * seconds
    by_worker.choose()
    by_task.choose()
    for (step, _, _, seconds, _, worker), at in zip(found.rows, _ends(found), strict=True):
        end = min(max((at - started) * scale, 0.0), TIME_BINS)
        begin = min(max((at - seconds - started) * scale, 0.0), end)
        by_worker.add(workers.get(worker, HERE), weights[step], begin, end, seconds)
        by_task.add(tasks[step], weights[step], begin, end, seconds)
    for row in found.failed:
        by_worker.failed[workers.get(row.worker, HERE)] += row.number
        by_task.failed[tasks[row.step]] += row.number
    together = next(n for n in (1, 2, 3, 4, 5, MOST_TOGETHER) if n * length / TIME_BINS >= TURN or n == MOST_TOGETHER)
    return Timeline(
        run=run.id,
        started=run.started,
        interval=length / TIME_BINS * together,
        workers=by_worker.closed(together),
        tasks=by_task.closed(together),
        slowest=[_slow(run, found, row) for row in found.slow],
        is_complete=True,
        sample=found.sample,
    )


def _ends(found: _Found) -> list[float]:
    """Return when each item ended: of tasks that ran one after the other in one job, all were recorded at its end.

    What reads an item, and was recorded at the same time, ran in its job: another one begins at the next turn.
    """
    by_slug = {step.slug: step for step in found.steps.values()}
    readers: dict[int, list[int]] = {}
    for step in by_slug.values():
        for slug, *_ in json_of("reads", step.reads, list) if step.reads else ():
            if slug in by_slug and by_slug[slug].mapped == step.mapped:
                readers.setdefault(by_slug[slug].step, []).append(step.step)
    if not readers:
        return [at for *_, at, _ in found.rows]
    took: dict[tuple[int, int, float], float] = {}  # by an item and those that follow it in its job
    ends = []
    for number, row, _, seconds, at, _ in reversed(found.rows):
        after = max((took.get((reader, row, at), 0.0) for reader in readers.get(number, ())), default=0.0)
        took[number, row, at] = seconds + after
        ends.append(at - after)
    return ends[::-1]


def _found(source: Source, run: RunRow) -> _Found:
    table = run._current()
    c = table.c
    ran = (c.attempts > 0) & c.seconds.is_not(None)
    with source.store.reading() as connection:
        sample = sample_of(number_of_items(connection, run), MAX_READ)
        columns = (c.step, c.row, c.state, c.seconds, c.at, c.worker)
        query = select(*unchecked(columns)).where(ran).order_by(c.step, c.row)
        rows = connection.execute(query if sample == 1 else query.where(c.row % sample == 0)).all()
        check_columns(columns, list(zip(*rows, strict=True)) or [()] * len(columns))
        slow = connection.execute(_slowest(c, ran, rows)).all()
        failures = select(c.step, c.worker, func.count().label("number")).where(
            ran, c.error > 0, c.state.in_(schema.FAILED_CODES)
        )
        failed = connection.execute(failures.group_by(c.step, c.worker)).all()
        steps = {row.step: row for row in connection.execute(select(schema.steps).where(_s.run == run._number))}
        texts = _texts(connection, {worker for *_, worker in rows} | {row.worker for row in (*slow, *failed)})
    return _Found(rows, slow, failed, steps, texts, sample)


def _slowest(c: Any, ran: ColumnElement[bool], rows: Sequence[Any]) -> Select[Any]:
    """Return the query of the slowest items. None of them is faster than the slowest of those that were read."""
    columns = (c.step, c.row, c.state, c.attempts, c.seconds, c.at, c.worker, c.item_key, c.name)
    query = select(*columns).where(ran, c.state.not_in(UNTRIED)).order_by(c.seconds.desc()).limit(MAX_SLOWEST)
    read = nlargest(MAX_SLOWEST, (seconds for _, _, state, seconds, _, _ in rows if state not in UNTRIED))
    return query if len(read) < MAX_SLOWEST else query.where(c.seconds >= read[-1])


def _slow(run: RunRow, found: _Found, row: Any) -> SlowItem:
    step = found.steps[row.step]
    return SlowItem(
        item=item_ref(run, row.step, step.slug, row.row, bool(step.mapped), row.item_key, row.name),
        seconds=row.seconds,
        state=schema.STATES[row.state],
        worker=found.texts.get(row.worker),
        attempts=row.attempts,
    )


def _texts(connection: Connection, numbers: set[int | None]) -> dict[int, str]:
    t = schema.texts.c
    found = connection.execute(select(t.number, t.text).where(t.number.in_(numbers - {None})))
    return {row.number: row.text for row in found}


class _Tracks:
    """Timelines by name: of those with the most work, which are known before: there may be a task for each item.

    What was read of a name is kept apart by how many items each stands for: those of single tasks were all read.
    """

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self._parts: dict[str, dict[int, WorkerTrack]] = {}

    def choose(self) -> None:
        """Take those with the most seconds."""
        self._parts = {name: {} for name, _ in self.seconds.most_common(MAX_TRACKS)}

    def add(self, name: str, weight: int, begin: float, end: float, seconds: float) -> None:
        """Add an item, which stands for `weight` of them."""
        parts = self._parts.get(name)
        if parts is not None:
            part = parts.get(weight)
            if part is None:
                part = parts[weight] = WorkerTrack()
            part.add(begin, end, seconds, False)  # failures are counted apart

    def closed(self, together: int) -> list[Track]:
        """Return the timelines, in the order of their names, with so many intervals taken together."""
        return [self._sum(name, list(parts.items()), together) for name, parts in sorted(self._parts.items())]

    def _sum(self, name: str, parts: Sequence[tuple[int, WorkerTrack]], together: int) -> Track:
        for _, part in parts:
            part.close()
        busy = [sum(n * part.busy[at] for n, part in parts) for at in range(TIME_BINS)]
        return Track(
            name=name,
            items=sum(n * part.children for n, part in parts),
            seconds=sum(n * part.seconds for n, part in parts),
            busy=[round(sum(busy[at : at + together]) / together, 3) for at in range(0, TIME_BINS, together)],
            failed=self.failed[name],
        )
