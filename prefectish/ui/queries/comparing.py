"""Two runs beside one another."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import NamedTuple

from sqlalchemy import Text, case, cast, func, select

from prefectish.engine.scheduling.causes import normalised
from prefectish.history.compare import ChangedChild, compare
from prefectish.history.measures import UNTRIED
from prefectish.history.queries import RunRow
from prefectish.ui.queries.run import causes_of
from prefectish.ui.queries.runs import row_of, runs_page, summary
from prefectish.ui.queries.tasks import number_of_items, sample_of, step_rows
from prefectish.ui.records import Cause, ChangedItem, Compared, ComparedTask, ComparePage, RunFilter
from prefectish.ui.source import NotFound, Source

#: Runs to choose from; items of both runs that are compared one by one; durations of a task that are read of others.
MAX_CHOICES, MAX_ITEMS, MAX_READ = 50, 200_000, 20_000
#: Seconds that who asks for a comparison waits.
PATIENCE = 20.0


class _Changes(NamedTuple):
    """Tasks and items that differ; the note says what was not looked at."""

    tasks: list[ComparedTask]
    slower: list[ChangedItem]
    larger: list[ChangedItem]
    note: str | None


def compare_page(source: Source, before: str | None, after: str | None) -> ComparePage:
    """Return the comparison of two runs, if two are chosen, and the runs to choose from."""
    flow = None if after is None else row_of(source, after).flow_name
    choices = runs_page(source, RunFilter(flow=flow), 1, MAX_CHOICES).runs
    found = None if before is None or after is None else compared(source, before, after)
    return ComparePage(compared=found, choices=choices)


def compared(source: Source, before: str, after: str) -> Compared:
    """Return a comparison of two runs; NotFound if there is no such run."""
    old, new = row_of(source, before), row_of(source, after)
    key = ("compare", old.id, new.id, old.ended, new.ended, old.part, new.part)
    found = source.soon(key, lambda: _changes(source, old, new), fresh_for=600.0, patience=PATIENCE)
    if found is None:
        raise NotFound("the runs are still being compared; try again in a moment")
    causes = [causes_of(source, run) for run in (old, new)]
    return Compared(
        before=summary(source, old),
        after=summary(source, new),
        new_causes=_not_among(causes[1], causes[0]),
        gone_causes=_not_among(causes[0], causes[1]),
        **found._asdict(),
    )


def _not_among(causes: list[Cause], others: list[Cause]) -> list[Cause]:
    known = {(cause.type, normalised(cause.message)) for cause in others}
    return [cause for cause in causes if (cause.type, normalised(cause.message)) not in known]


def _changes(source: Source, old: RunRow, new: RunRow) -> _Changes:
    with source.store.reading() as connection:
        items = sum(number_of_items(connection, run) for run in (old, new))
    if items > MAX_ITEMS:
        note = f"Of {items:,} items a part was read; single items are compared up to {MAX_ITEMS:,} only."
        return _Changes(_tasks(source, old, new), [], [], note)
    found = compare(old, new)
    tasks = [
        ComparedTask(
            task=each.name, before=each.before, after=each.after, total_before=each.total_before,
            total_after=each.total_after,
        )
        for each in found.tasks
    ]  # fmt: skip
    return _Changes(tasks, [*map(_changed, found.slower)], [*map(_changed, found.larger)], None)


def _tasks(source: Source, old: RunRow, new: RunRow) -> list[ComparedTask]:
    """Return how long the items of each task took in two runs, by some of their durations."""
    before, after = _durations(source, old), _durations(source, new)
    return [
        ComparedTask(
            task=(new if slug in after else old).label_of(slug),
            before=before.get(slug, _NONE)[0], after=after.get(slug, _NONE)[0],
            total_before=before.get(slug, _NONE)[1], total_after=after.get(slug, _NONE)[1],
        )
        for slug in {**after, **before}
    ]  # fmt: skip


_NONE: tuple[float | None, float] = (None, 0.0)


def _durations(source: Source, run: RunRow) -> Mapping[str, tuple[float | None, float]]:
    """Return the median and the sum of the durations of each task, in seconds, by its slug."""
    c = run._current().c
    ran = (c.attempts > 0) & c.seconds.is_not(None) & c.state.not_in(UNTRIED)
    found = {}
    with source.store.reading() as connection:
        for step in step_rows(source, run):
            last = connection.execute(select(c.row).where(c.step == step.step).order_by(c.row.desc()).limit(1)).scalar()
            chosen = case((c.row % sample_of(1 + (last or 0), MAX_READ) == 0, cast(c.seconds, Text)))
            join = func.group_concat if connection.dialect.name == "sqlite" else func.string_agg
            query = select(func.sum(c.seconds), func.min(c.seconds), join(chosen, ","))  # goes through them once
            total, least, text = connection.execute(query.where(ran, c.step == step.step)).one()
            if total is not None:
                found[step.slug] = median(map(float, text.split(","))) if text else least, float(total)
    return found


def _changed(each: ChangedChild) -> ChangedItem:
    factor = each.factor if each.before else None
    return ChangedItem(label=each.label, before=each.before, after=each.after, factor=factor)
