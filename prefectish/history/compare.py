"""Compare two recorded runs: durations of tasks, new and gone failures, slower and larger children."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from prefectish.engine.scheduling.causes import normalised
from prefectish.history import schema
from prefectish.history.children import ChildRow, FailureGroup
from prefectish.history.measures import UNTRIED, measure, quantile
from prefectish.history.queries import RunRow, run

#: A child is listed as slower, or larger, from this factor and this difference on.
FACTOR, SECONDS, BYTES = 1.5, 0.01, 1000
#: Children that are named.
MOST = 20


class TaskTimes(NamedTuple):
    """Durations of the children of a task in two runs, in seconds; None in a run that did not run it."""

    name: str
    before: float | None  # the median
    after: float | None
    total_before: float
    total_after: float


class ChangedChild(NamedTuple):
    """A child that is slower, or larger, than its counterpart: the same item, or else the same map index."""

    label: str
    before: float
    after: float

    @property
    def factor(self) -> float:
        """Return how many times as much it is."""
        return self.after / self.before if self.before else float("inf")


class Comparison(NamedTuple):
    """Two runs compared.

    Attributes
    ----------
    before, after
        The runs.
    tasks
        Durations by task.
    new_causes, gone_causes
        Failures of the second run whose cause the first one does not have, and the reverse.
    slower, larger
        Children that took longer (seconds), and that have a larger result (bytes), the most changed first.
    """

    before: RunRow
    after: RunRow
    tasks: Sequence[TaskTimes]
    new_causes: Sequence[FailureGroup]
    gone_causes: Sequence[FailureGroup]
    slower: Sequence[ChangedChild]
    larger: Sequence[ChangedChild]

    def __repr__(self) -> str:
        from importlib import import_module

        text: str = import_module("prefectish.display.comparison").text_of(self)
        return text


def compare(run_a: str | RunRow, run_b: str | RunRow, store: str | os.PathLike[str] | None = None) -> Comparison:
    """Compare a run with an earlier one.

    Parameters
    ----------
    run_a, run_b
        The earlier and the later run: an id, or what :func:`run` returns.
    store
        Path or database URL; None: the history in the home folder.

    Raises
    ------
    KeyError
        There is no such run.
    """
    before, after = (each if isinstance(each, RunRow) else run(each, store) for each in (run_a, run_b))
    own, others = ({_cause(group): group for group in each.failures()} for each in (after, before))
    names = [task["slug"] for task in after.tasks()]
    known = {task["slug"] for task in before.tasks()}
    pairs = [pair for slug in names if slug in known for pair in _pairs(before, after, slug)]
    return Comparison(
        before,
        after,
        _times(before, after),
        [group for cause, group in own.items() if cause not in others],
        [group for cause, group in others.items() if cause not in own],
        _changed(((new, _took(old), _took(new)) for old, new in pairs), SECONDS),
        _changed(((new, old.bytes_out, new.bytes_out) for old, new in pairs), BYTES),
    )


def _took(child: ChildRow) -> float | None:
    """Return how long a child ran; None for one that did not run, or whose value was there."""
    return None if child.state == "Cached" or schema.CODES[child.state] in UNTRIED else child.duration


def _cause(group: FailureGroup) -> tuple[str, str]:
    return group.type, normalised(group.message)


def _times(before: RunRow, after: RunRow) -> list[TaskTimes]:
    old, new = measure(before).times, measure(after).times
    run_of = {task["slug"]: run for run in (before, after) for task in run.tasks()}  # that names it
    slugs = dict.fromkeys([task["slug"] for task in (*after.tasks(), *before.tasks())])
    found = [(slug, sorted(old.get(slug, ())), sorted(new.get(slug, ()))) for slug in slugs]
    return [
        TaskTimes(
            run_of[slug].label_of(slug),
            _median(a),
            _median(b),
            sum(a),
            sum(b),
        )
        for slug, a, b in found
    ]


def _median(values: list[float]) -> float | None:
    return quantile(values, 0.5) if values else None


def _pairs(before: RunRow, after: RunRow, slug: str) -> Iterable[tuple[ChildRow, ChildRow]]:
    """Yield the children of a task that are in both runs."""
    old: dict[Any, ChildRow] = {}
    for child in before.children(slug):
        old[child.index] = child
    keys = {child.item_key: child for child in old.values() if child.item_key is not None}
    for child in after.children(slug):
        other = keys.get(child.item_key) if child.item_key in keys else old.get(child.index)
        if other is not None:
            yield other, child


def _changed(found: Iterable[tuple[ChildRow, float | None, float | None]], least: float) -> list[ChangedChild]:
    changed = [
        ChangedChild(child.label, a, b)
        for child, a, b in found
        if a is not None and b is not None and b - a > least and b > FACTOR * a
    ]
    return sorted(changed, key=lambda child: child.before - child.after)[:MOST]


#: Columns of a table of children.
COLUMNS = (
    "task", "index", "item_key", "name", "state", "attempts", "duration", "cpu_time", "peak_memory",
    "bytes_out", "bytes_in", "worker", "error", "at",
)  # fmt: skip


def to_dataframe(found: str | RunRow, task: Any = None, store: str | os.PathLike[str] | None = None) -> Any:
    """Return the children of a run as a pandas DataFrame, a row each.

    Parameters
    ----------
    found
        The run: its id, or what :func:`run` returns.
    task
        Only the children of this task: a task, its slug or its name. Default: those of all tasks.
    store
        Path or database URL; None: the history in the home folder.

    Raises
    ------
    ImportError
        pandas is not installed.
    """
    from prefectish.optional_deps import load

    pandas = load("pandas", "pandas", "history.to_dataframe")
    recorded = found if isinstance(found, RunRow) else run(found, store)
    slugs = [step["slug"] for step in recorded.tasks()] if task is None else [task]
    rows = [
        (recorded.label_of(child.slug), *(getattr(child, name) for name in COLUMNS[1:]))
        for slug in slugs
        for child in recorded.children(slug)
    ]
    return pandas.DataFrame(rows, columns=list(COLUMNS))
