"""Views of recorded runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from prefectish.display import views
from prefectish.display.views import CauseView, RunView, SlowView, TaskView
from prefectish.engine.context import get_logger
from prefectish.engine.driver.interrupts import STOPS
from prefectish.engine.state import State
from prefectish.errors import PrefectishError
from prefectish.next_command import NextCommand

if TYPE_CHECKING:
    from prefectish.history import FailureGroup, RunRow
    from prefectish.history.measures import Measures, Slow

T = TypeVar("T")


def run_of(state: State) -> RunRow | None:
    """Return the record of the run that ended in a state; None if there is none, or if it cannot be read (logged)."""
    return read(state, lambda run: run)


def read(state: State, show: Callable[[RunRow], T]) -> T | None:
    """Return what a function makes of the record of the run that ended in a state.

    None if there is no record, or if it cannot be read, which is logged: a state is shown without it.
    """
    run_id = state.context.get("flow_run_id")
    if run_id is None:
        return None
    try:
        from prefectish.history.outline import find
    except ModuleNotFoundError:  # its library is an extra
        return None
    try:
        run = find(str(run_id))
        return None if run is None else show(run)
    except PrefectishError as error:
        get_logger("display").warning("the record of run %s cannot be read: %s", run_id, error)
        return None


def of_run(run: RunRow, measures: Measures | None = None) -> RunView:
    """Return the view of a recorded run; with its measures also the slowest children."""
    from prefectish.history.outline import arrows

    causes, unseen = _causes(run)
    return RunView(
        run.flow_name,
        run.state,
        views.color_of(run.state),
        STOPS.get(run.message or "", run.message or ""),
        [_task(task, run.label_of(task["slug"])) for task in run.tasks()],
        arrows(run),
        causes,
        unseen,
        [] if measures is None else slowest(run, measures),
        run.started,
        run.ended,
        run.duration,
        facts(run),
        counts=run.counts(),
        lists_failures=lister(run),
    )


def commands(run: RunRow) -> NextCommand:
    """Return the commands about a run."""
    return NextCommand.of_history(run._store.address, None if run.source else "FILE.py:name")


def lister(run: RunRow) -> str:
    """Return the command that names every failed item of a run."""
    return commands(run).command("failures", run.id, "--all")


def with_record(view: RunView, run: RunRow, measures: Measures | None) -> RunView:
    """Add data of the record to the view of a state: times, and causes of large numbers of failures."""
    causes, unseen = _causes(run) if view.unseen else (view.causes, 0)
    return view._replace(
        causes=causes,
        unseen=unseen,
        slowest=view.slowest if measures is None else slowest(run, measures),
        started=run.started,
        ended=run.ended,
        seconds=run.duration,
        facts=facts(run),
        lists_failures=lister(run),
    )


def facts(run: RunRow) -> list[tuple[str, str]]:
    """Return further properties of a run, by name."""
    found: list[tuple[str, Any]] = [
        ("run", run.id),
        ("name", run.name if run.name != run.id else None),
        ("executor", run.executor),
        ("flow hash", (run.flow_version or "")[:12]),
        ("resumed", f"{run.part} times" if run.part else None),
    ]
    return [(name, str(value)) for name, value in found if value]


def slowest(run: RunRow, measures: Measures) -> list[SlowView]:
    """Return the children that took longest."""
    from prefectish.history.children import readable_key

    return [
        SlowView(
            _label(run, slow),
            readable_key(slow.item_key, slow.row),
            slow.state,
            slow.seconds,
            slow.worker,
            slow.attempts,
            slow.cpu,
            slow.memory,
        )
        for slow in measures.slowest
    ]


def _label(run: RunRow, slow: Slow) -> str:
    name = run.label_of(slow.slug)
    label = name if slow.row is None else f"{name}[{slow.row}]"
    return f"{label} ({slow.name})" if slow.name else label


def _task(task: dict[str, Any], name: str) -> TaskView:
    counts = views.counted(task["counts"])
    total = sum(count.number for count in counts)
    return TaskView(task["slug"], name, "map" if task["mapped"] else "task", _state(task), "", counts, total)


def _state(task: dict[str, Any]) -> str | None:
    state: str | None = task["state"]
    if state is None and not task["mapped"]:
        return next(iter(task["counts"]), None)
    return state


def _causes(run: RunRow) -> tuple[list[CauseView], int]:
    """Return the causes of failures, and the number of failures of further ones."""
    groups = run.failures()
    causes = [_cause(group) for group in groups[: views.MAX_CAUSES]]
    return causes, sum(group.count for group in groups[views.MAX_CAUSES :])


def _cause(group: FailureGroup) -> CauseView:
    from prefectish.history.outline import first_of

    children = first_of(group, views.MAX_CHILDREN_NAMED)
    kind = children[0].state if children else "Failed"
    return views.cause_view(kind, group.type, group.message, group.traceback, group.count, _names(children))


def _names(children: Sequence[Any]) -> list[str]:
    return [child.label for child in children]
