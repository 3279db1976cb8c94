"""Two runs beside one another."""

from __future__ import annotations

from sqlalchemy import func, select

from prefectish.history import schema
from prefectish.history.compare import ChangedChild, Comparison, compare
from prefectish.history.queries import RunRow
from prefectish.ui.queries.run import causes_of
from prefectish.ui.queries.runs import row_of, summary
from prefectish.ui.records import Cause, ChangedItem, Compared, ComparedTask, ComparePage, RunFilter
from prefectish.ui.source import NotFound, Source

#: Runs to choose from, and items of both runs together that are compared.
MAX_CHOICES, MAX_ITEMS = 50, 400_000
#: Seconds that who asks for a comparison waits.
PATIENCE = 20.0


def compare_page(source: Source, before: str | None, after: str | None) -> ComparePage:
    """Return the comparison of two runs, if two are chosen, and the runs to choose from."""
    from prefectish.ui.queries.runs import runs_page

    flow = None if after is None else row_of(source, after).flow_name
    choices = runs_page(source, RunFilter(flow=flow), 1, MAX_CHOICES).runs
    found = None if before is None or after is None else compared(source, before, after)
    return ComparePage(compared=found, choices=choices)


def compared(source: Source, before: str, after: str) -> Compared:
    """Return a comparison of two runs; NotFound if there is no such run, or if they are too large."""
    old, new = row_of(source, before), row_of(source, after)
    items = sum(_items(source, run) for run in (old, new))
    if items > MAX_ITEMS:
        raise NotFound(
            f"runs of {items:,} items are not compared here, at most {MAX_ITEMS:,}: "
            f"prefectish compare {old.id} {new.id}"
        )
    key = ("compare", old.id, new.id, old.ended, new.ended, old.part, new.part)
    found = source.soon(key, lambda: compare(old, new), fresh_for=600.0, patience=PATIENCE)
    if found is None:
        raise NotFound("the runs are still being compared; try again in a moment")
    return _record(source, found)


def _items(source: Source, run: RunRow) -> int:
    c = schema.children.c
    with source.store.reading() as connection:
        return connection.execute(select(func.count()).where(c.run == run._number)).scalar_one()


def _record(source: Source, found: Comparison) -> Compared:
    return Compared(
        before=summary(source, found.before),
        after=summary(source, found.after),
        tasks=[
            ComparedTask(
                task=each.name, before=each.before, after=each.after, total_before=each.total_before,
                total_after=each.total_after,
            )
            for each in found.tasks
        ],
        new_causes=_chosen(source, found.after, {group._error for group in found.new_causes}),
        gone_causes=_chosen(source, found.before, {group._error for group in found.gone_causes}),
        slower=[_changed(each) for each in found.slower],
        larger=[_changed(each) for each in found.larger],
    )  # fmt: skip


def _chosen(source: Source, run: RunRow, numbers: set[int]) -> list[Cause]:
    return [cause for cause in causes_of(source, run) if cause.number in numbers]


def _changed(each: ChangedChild) -> ChangedItem:
    factor = each.factor if each.before else None
    return ChangedItem(label=each.label, before=each.before, after=each.after, factor=factor)
