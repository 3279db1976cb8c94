"""Aggregates over the children of a recorded run: durations, timelines by task and worker, the slowest children.

One pass over the children; memory grows with the number of tasks and workers, plus eight bytes for the
duration of each child.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from heapq import heappush, heappushpop
from typing import Any, NamedTuple

from sqlalchemy import select

from prefectish.history import schema
from prefectish.history.cells import BadCell
from prefectish.history.queries import RunRow

#: Number of intervals into which the time of a run is divided.
TIME_BINS = 240
#: Number of slowest children to keep.
MAX_SLOWEST = 20
#: States of children that never ran.
UNTRIED = frozenset(schema.CODES[name] for name in ("TriggerFailed", "Skipped", "Cancelled"))


class Slow(NamedTuple):
    """One of the slowest children; `row` is None for an unmapped task."""

    seconds: float
    slug: str
    row: int | None
    item_key: str | None
    name: str | None
    state: str
    worker: str | None
    attempts: int
    cpu: float | None = None
    memory: int | None = None


class WorkerTrack:
    """A timeline of a task or a worker, in `TIME_BINS` intervals of equal length."""

    __slots__ = ("_edges", "busy", "children", "ended", "failed", "seconds")

    def __init__(self) -> None:
        self.busy = [0.0] * TIME_BINS  # mean number of running children in each interval
        self._edges = [0] * (TIME_BINS + 1)
        # Number of children that ended, and that failed, in each interval.
        self.ended = [0] * TIME_BINS
        self.failed = [0] * TIME_BINS
        # In all.
        self.children = 0
        self.seconds = 0.0

    def add(self, begin: float, end: float, seconds: float, failed: bool) -> None:
        """Add a child that ran from `begin` to `end`, in intervals since the start of the run."""
        first, last = min(max(int(begin), 0), TIME_BINS - 1), min(max(int(end), 0), TIME_BINS - 1)
        if first == last:
            self.busy[first] += end - begin
        else:
            self.busy[first] += first + 1 - begin
            self.busy[last] += end - last
            self._edges[first + 1] += 1
            self._edges[last] -= 1
        self.ended[last] += 1
        self.failed[last] += failed
        self.children += 1
        self.seconds += seconds

    def close(self) -> None:
        """Sum up; called once, after all children were added."""
        running = 0
        for n in range(TIME_BINS):
            running += self._edges[n]
            self.busy[n] += running


class Measures:
    """Aggregates over the children of a run."""

    def __init__(self, length: float) -> None:
        self.length = length  # seconds from the start of the run to its end
        # Timelines by the slug of the task, and by the process that ran the children.
        self.steps: dict[str, WorkerTrack] = {}
        self.workers: dict[str, WorkerTrack] = {}
        self.times: dict[str, array[float]] = {}  # duration in seconds of each child that ran, by slug
        self.slowest: list[Slow] = []  # the slowest children, the slowest first
        self.again = 0  # number of children with more than one attempt

    def close(self) -> None:
        """Sum up."""
        for track in (*self.steps.values(), *self.workers.values()):
            track.close()
        self.slowest.sort(key=lambda slow: -slow.seconds)


def measure(run: RunRow) -> Measures:
    """Read the children of a run and return their aggregates."""
    started = run.started.timestamp()
    with run._store.reading() as connection:
        texts = {row.number: row.text for row in connection.execute(_workers(run))}
        steps = {row.step: row for row in connection.execute(select(schema.steps).where(_of(run)))}
        measures = Measures(max(run.duration, 1e-6))
        rows = connection.execute(_children(run)).yield_per(10_000)
        _add_all(measures, rows, steps, texts, started)
    measures.close()
    return measures


def _add_all(measures: Measures, rows: Iterable[Any], steps: Any, texts: Any, started: float) -> None:
    scale = TIME_BINS / measures.length
    slowest: list[tuple[float, int, Any]] = []
    for number, row in enumerate(rows):
        step, _, state, attempts, seconds, at, worker, *_ = row
        if step not in steps:
            raise BadCell(f"there are children of a step {step}, which is not recorded")
        slug = steps[step].slug
        measures.again += attempts > 1
        if not attempts or seconds is None:
            continue  # it did not run in this run
        end = min((at - started) * scale, TIME_BINS)
        begin = min(max((at - seconds - started) * scale, 0.0), end)
        failed = state in schema.FAILED_CODES
        place = texts.get(worker) or "the client"
        for tracks, name in ((measures.steps, slug), (measures.workers, place)):
            track = tracks.get(name)
            if track is None:
                track = tracks[name] = WorkerTrack()
            track.add(begin, end, seconds, failed)
        if state in UNTRIED:
            continue
        measures.times.setdefault(slug, array("d")).append(seconds)
        entry = (seconds, -number, row)
        if len(slowest) < MAX_SLOWEST:
            heappush(slowest, entry)
        else:
            heappushpop(slowest, entry)
    measures.slowest = [_slow(row, steps, texts) for _, _, row in slowest]


def _slow(row: Any, steps: Any, texts: Any) -> Slow:
    step = steps[row.step]
    place = row.row if step.mapped else None
    state = schema.STATES[row.state]
    where = texts.get(row.worker)
    return Slow(
        row.seconds, step.slug, place, row.item_key, row.name, state, where, row.attempts, row.cpu, row.memory
    )  # fmt: skip


def _of(run: RunRow) -> Any:
    return schema.steps.c.run == run._number


def _children(run: RunRow) -> Any:
    c = run._current().c
    return select(c.step, c.row, c.state, c.attempts, c.seconds, c.at, c.worker, c.item_key, c.name, c.cpu, c.memory)


def _workers(run: RunRow) -> Any:
    c = run._current().c
    used = select(c.worker).distinct()
    return select(schema.texts.c.number, schema.texts.c.text).where(schema.texts.c.number.in_(used))


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return a quantile of sorted values.

    Examples
    --------
    >>> quantile([1.0, 2.0, 3.0, 10.0], 0.5), quantile([1.0], 0.95)
    (2.0, 1.0)
    """
    return ordered[min(int(share * (len(ordered) - 1)), len(ordered) - 1)]
