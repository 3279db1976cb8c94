"""The report of a run: one self-contained page, for any number of children."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

from prefectish.display import graph, recorded, views
from prefectish.display.page import markup, rendered, seconds
from prefectish.display.timeline import Row, timeline
from prefectish.display.views import RunView, color_of
from prefectish.engine.state import State
from prefectish.engine.task_states import is_by_task
from prefectish.functions import last_runs

if TYPE_CHECKING:
    from prefectish.history import RunRow
    from prefectish.history.measures import Measures, WorkerTrack

#: Maximum number of tasks in the table, and of rows in a timeline.
MAX_TASKS, MAX_TIMELINE_ROWS = 400, 40
#: Number of bins in the histogram of durations of a task.
HISTOGRAM_BINS = 28


class Times(NamedTuple):
    """Durations of the children of a task, in seconds; `shape` is a small histogram."""

    ran: int
    median: float
    most: float
    longest: float
    total: float
    shape: Any


def of_state(state: State, path: str | os.PathLike[str]) -> str:
    """Write the report of the run that ended in a state, and return its path; TypeError if there is no run to show."""
    run = recorded.run_of(state)
    if not is_by_task(state.result):
        if run is not None:
            return of_run(run, path)
        called = last_runs.of_run(state.context.get("flow_run_id"))
        if called is None:
            raise TypeError(
                f"expected the state of a flow run, or of a recorded run of a flow function, got {state!r}; the last "
                f"run of a flow function in this process need not be recorded"
            )
        state = state.replace(result=called)
    view = views.of_run(state)
    if run is None:
        return _write(view, None, path)
    measures = _measures(run)
    return _write(recorded.with_record(view, run, measures), measures, path)


def of_run(run: RunRow, path: str | os.PathLike[str]) -> str:
    """Write the report of a recorded run, and return its path."""
    measures = _measures(run)
    return _write(recorded.of_run(run, measures), measures, path)


def _measures(run: RunRow) -> Measures:
    from prefectish.history.measures import measure

    return measure(run)


def _write(view: RunView, measures: Measures | None, path: str | os.PathLike[str]) -> str:
    page = rendered(
        "report.html",
        view=view,
        numbers=_numbers(view, measures),
        picture=markup(graph.of_run(view)),
        times={} if measures is None else {slug: _times(found) for slug, found in measures.times.items()},
        tasks_over_time="" if measures is None else _tracks(_named(view, measures), measures.length, by_ended=True),
        workers_over_time="" if measures is None else _tracks(measures.workers, measures.length, by_ended=False),
        measures=measures,
        tasks_shown=MAX_TASKS,
    )
    where = os.fspath(path)
    # It holds messages and tracebacks, as the history does: a new file is its user's alone.
    with open(where, "w", encoding="utf-8", errors="backslashreplace", opener=_private) as file:
        file.write(page)
    return where


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _named(view: RunView, measures: Measures) -> dict[str, WorkerTrack]:
    """Return the timelines of the tasks by what they are called."""
    known = {task.slug: task.name for task in view.tasks}
    return {known.get(slug, slug): track for slug, track in measures.steps.items()}


def _numbers(view: RunView, measures: Measures | None) -> list[tuple[str, str]]:
    tasks = [task for task in view.tasks if task.kind in ("task", "map")]
    children = sum(task.total for task in tasks)
    numbers = [
        (f"{len(tasks):,}", "task" if len(tasks) == 1 else "tasks"),
        (f"{children:,}", "child" if children == 1 else "children"),
        (f"{view.counts.failed:,}", "failed"),
    ]
    if measures is not None:
        work = sum(track.seconds for track in measures.workers.values())
        numbers += [
            (f"{measures.again:,}", "retried"),
            (f"{len(measures.workers):,}", "worker process" if len(measures.workers) == 1 else "worker processes"),
            (seconds(measures.length), "wall time"),
            (seconds(work), "total task time"),
            (f"{work / measures.length:.1f}", "mean concurrency"),
        ]
    return numbers


def _times(found: Sequence[float]) -> Times:
    from prefectish.history.measures import quantile

    ordered = sorted(found)
    shape = markup(_spread(ordered))
    return Times(len(ordered), quantile(ordered, 0.5), quantile(ordered, 0.95), ordered[-1], sum(ordered), shape)


def _spread(ordered: Sequence[float]) -> str:
    """Return a small histogram of values between minimum and maximum."""
    low, high = ordered[0], ordered[-1]
    wide = (high - low) / HISTOGRAM_BINS
    counts = [0] * HISTOGRAM_BINS
    for value in ordered:
        counts[min(int((value - low) / wide), HISTOGRAM_BINS - 1) if wide else 0] += 1
    tallest = max(counts)
    bars = "".join(
        f'<rect x="{3 * n}" y="{16 - max(15 * count / tallest, 1):.1f}" width="2.4" '
        f'height="{max(15 * count / tallest, 1):.1f}"/>'
        for n, count in enumerate(counts)
        if count
    )
    title = escape(f"from {seconds(low)} to {seconds(high)}")
    return (
        f'<svg width="{3 * HISTOGRAM_BINS}" height="17" viewBox="0 0 {3 * HISTOGRAM_BINS} 17" fill="currentColor" '
        f'fill-opacity=".55" role="img"><title>{title}</title>{bars}</svg>'
    )


def _tracks(tracks: Mapping[str, WorkerTrack], length: float, by_ended: bool) -> Any:
    """Return a timeline with one row per task or worker; those with the least work share the last row."""
    names = list(tracks)
    if len(names) > MAX_TIMELINE_ROWS:
        names = sorted(names, key=lambda name: -tracks[name].seconds)[: MAX_TIMELINE_ROWS - 1]
        names = [name for name in tracks if name in set(names)]
    rows = [_row(name, tracks[name], by_ended) for name in names]
    rest = [track for name, track in tracks.items() if name not in set(names)]
    if rest:
        rows.append(_row(f"{len(rest):,} others, on average", _mean(rest), by_ended))
    color = color_of("Success") if by_ended else color_of("Running")
    return markup(timeline(rows, length, color, color_of("Failed"), alike=not by_ended))


def _row(name: str, track: WorkerTrack, by_ended: bool) -> Row:
    behind = f"{track.children:,} in {seconds(track.seconds)}"
    return Row(name, track.ended if by_ended else track.busy, track.failed if by_ended else (), behind)


def _mean(tracks: Sequence[WorkerTrack]) -> WorkerTrack:
    """Return the mean timeline, with the total children and time."""
    from prefectish.history.measures import WorkerTrack

    mean = WorkerTrack()
    mean.children = sum(track.children for track in tracks)
    mean.seconds = sum(track.seconds for track in tracks)
    for name in ("busy", "ended", "failed"):
        columns = zip(*(getattr(track, name) for track in tracks), strict=True)
        setattr(mean, name, [sum(column) / len(tracks) for column in columns])
    return mean
