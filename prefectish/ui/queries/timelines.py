"""What ran when, by worker and by task; of a large run one in so many items is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, select

from prefectish.history import schema
from prefectish.history.measures import TIME_BINS, WorkerTrack
from prefectish.history.queries import RunRow
from prefectish.ui.queries.runs import row_of
from prefectish.ui.queries.tasks import item_ref
from prefectish.ui.records import SlowItem, Timeline, Track
from prefectish.ui.source import Source

_s = schema.steps.c
#: Items that are read at most, tracks that are shown, slowest items that are named.
MAX_READ, MAX_TRACKS, MAX_SLOWEST = 50_000, 40, 20
#: States of items that never ran.
_UNTRIED = [schema.CODES[name] for name in ("TriggerFailed", "Skipped", "Cancelled")]


def timeline(source: Source, run_id: str) -> Timeline:
    """Return what of a run ran when; not complete while that of a large run is read."""
    run = row_of(source, run_id)
    is_over = run.ended is not None
    found = source.soon(
        ("timeline", run.id, run.part, is_over),
        lambda: _read(source, run),
        fresh_for=3600.0 if is_over else 2.0,
    )
    if found is not None:
        return found
    return Timeline(
        run=run.id, started=run.started, interval=max(run.duration, 1e-6) / TIME_BINS, workers=[], tasks=[],
        slowest=[], is_complete=False, sample=1,
    )  # fmt: skip


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
    length = max(run.duration, 1e-6)
    scale, started = TIME_BINS / length, run.started.timestamp()
    # Of a name, by how many items each that was read stands for: those of single tasks were all read.
    by_worker: dict[str, dict[int, WorkerTrack]] = {}
    by_task: dict[str, dict[int, WorkerTrack]] = {}
    for row in found.rows:
        step = found.steps[row.step]
        end = min(max((row.at - started) * scale, 0.0), TIME_BINS)
        begin = min(max((row.at - row.seconds - started) * scale, 0.0), end)
        stands_for = found.sample if step.mapped else 1
        names = (found.texts.get(row.worker, "this process"), run.label_of(step.slug))
        for tracks, name in zip((by_worker, by_task), names, strict=True):
            track = tracks.setdefault(name, {}).setdefault(stands_for, WorkerTrack())
            track.add(begin, end, row.seconds, False)  # failures are counted apart
    workers: Counter[str] = Counter()
    tasks: Counter[str] = Counter()
    for row in found.failed:
        workers[found.texts.get(row.worker, "this process")] += row.number
        tasks[run.label_of(found.steps[row.step].slug)] += row.number
    return Timeline(
        run=run.id,
        started=run.started,
        interval=length / TIME_BINS,
        workers=_tracks(by_worker, workers),
        tasks=_tracks(by_task, tasks),
        slowest=[_slow(run, found, row) for row in found.slow],
        is_complete=True,
        sample=found.sample,
    )


def _found(source: Source, run: RunRow) -> _Found:
    table = run._current()
    c = table.c
    ran = (c.attempts > 0) & c.seconds.is_not(None)
    columns = (c.step, c.row, c.state, c.attempts, c.seconds, c.at, c.worker, c.item_key, c.name)
    with source.store.reading() as connection:
        number = connection.execute(select(func.count()).select_from(table)).scalar_one()
        sample = max(1, -(-number // MAX_READ))
        query = select(c.step, c.state, c.seconds, c.at, c.worker).where(ran)
        rows = connection.execute(query if sample == 1 else query.where(c.row % sample == 0)).all()
        slowest = select(*columns).where(ran, c.state.not_in(_UNTRIED)).order_by(c.seconds.desc()).limit(MAX_SLOWEST)
        slow = connection.execute(slowest).all()
        failures = select(c.step, c.worker, func.count().label("number")).where(
            ran, c.error > 0, c.state.in_(schema.FAILED_CODES)
        )
        failed = connection.execute(failures.group_by(c.step, c.worker)).all()
        steps = {row.step: row for row in connection.execute(select(schema.steps).where(_s.run == run._number))}
        texts = _texts(connection, {row.worker for row in (*rows, *slow, *failed)})
    return _Found(rows, slow, failed, steps, texts, sample)


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


def _tracks(found: Mapping[str, Mapping[int, WorkerTrack]], failed: Mapping[str, int]) -> list[Track]:
    """Return the tracks with the most work, in the order of their names."""
    every = [_track(name, parts, failed.get(name, 0)) for name, parts in found.items()]
    return sorted(sorted(every, key=lambda track: -track.seconds)[:MAX_TRACKS], key=lambda track: track.name)


def _track(name: str, parts: Mapping[int, WorkerTrack], failed: int) -> Track:
    """Return the sum of parts, whose items stand for so many each."""
    for part in parts.values():
        part.close()
    weighed = list(parts.items())
    return Track(
        name=name,
        items=sum(n * part.children for n, part in weighed),
        seconds=sum(n * part.seconds for n, part in weighed),
        busy=[round(sum(n * part.busy[at] for n, part in weighed), 3) for at in range(TIME_BINS)],
        failed=failed,
    )
