"""What ran when, by worker and by task; of a large run one in so many items is read."""

from __future__ import annotations

from collections.abc import Mapping

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


def _read(source: Source, run: RunRow) -> Timeline:
    table = run._current()
    c = table.c
    length = max(run.duration, 1e-6)
    scale, started = TIME_BINS / length, run.started.timestamp()
    with source.store.reading() as connection:
        number = connection.execute(select(func.count()).select_from(table)).scalar_one()
        sample = max(1, -(-number // MAX_READ))
        query = select(c.step, c.state, c.seconds, c.at, c.worker).where(c.attempts > 0, c.seconds.is_not(None))
        rows = connection.execute(query if sample == 1 else query.where(c.row % sample == 0)).all()
        steps = {r.step: r for r in connection.execute(select(schema.steps).where(_s.run == run._number))}
        texts = _texts(connection, {row.worker for row in rows})
        ran = c.state.not_in(_UNTRIED) & c.seconds.is_not(None) & (c.attempts > 0)
        wanted = select(c.step, c.row, c.state, c.attempts, c.seconds, c.worker, c.item_key, c.name)
        slow = connection.execute(wanted.where(ran).order_by(c.seconds.desc()).limit(MAX_SLOWEST)).all()
        texts |= _texts(connection, {row.worker for row in slow})
    by_worker: dict[str, WorkerTrack] = {}
    by_task: dict[str, WorkerTrack] = {}
    for row in rows:
        end = min(max((row.at - started) * scale, 0.0), TIME_BINS)
        begin = min(max((row.at - row.seconds - started) * scale, 0.0), end)
        names = (texts.get(row.worker, "this process"), run.label_of(steps[row.step].slug))
        for tracks, name in zip((by_worker, by_task), names, strict=True):
            tracks.setdefault(name, WorkerTrack()).add(begin, end, row.seconds, row.state in schema.FAILED_CODES)
    return Timeline(
        run=run.id,
        started=run.started,
        interval=length / TIME_BINS,
        workers=_tracks(by_worker, sample),
        tasks=_tracks(by_task, sample),
        slowest=[
            SlowItem(
                item=item_ref(
                    run, r.step, steps[r.step].slug, r.row, bool(steps[r.step].mapped), r.item_key, r.name
                ),
                seconds=r.seconds,
                state=schema.STATES[r.state],
                worker=texts.get(r.worker),
                attempts=r.attempts,
            )
            for r in slow
        ],
        is_complete=True,
        sample=sample,
    )  # fmt: skip


def _texts(connection: Connection, numbers: set[int | None]) -> dict[int, str]:
    t = schema.texts.c
    found = connection.execute(select(t.number, t.text).where(t.number.in_(numbers - {None})))
    return {row.number: row.text for row in found}


def _tracks(found: Mapping[str, WorkerTrack], sample: int) -> list[Track]:
    """Return the tracks with the most work, in the order of their names."""
    for track in found.values():
        track.close()
    most = sorted(found, key=lambda name: -found[name].seconds)[:MAX_TRACKS]
    return [
        Track(
            name=name,
            items=found[name].children * sample,
            seconds=found[name].seconds * sample,
            busy=[round(value * sample, 3) for value in found[name].busy],
            failed=sum(found[name].failed) * sample,
        )
        for name in sorted(most)
    ]
