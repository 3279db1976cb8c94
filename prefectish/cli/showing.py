"""Output of the command: tables for people, JSON for programs; control characters in names are escaped."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from rich.console import Console, Group
from rich.table import Table

from prefectish.display import words
from prefectish.display.page import when
from prefectish.engine.driver.interrupts import STOPS
from prefectish.engine.task_counts import TaskCounts
from prefectish.history import Comparison, FailureGroup, LogLine, RunRow
from prefectish.next_command import NextCommand
from prefectish.safe_repr import printable

#: Maximum number of rows in a list, and of children named with a cause.
MAX_ROWS, MAX_CHILDREN_NAMED = 10, 5
#: Columns of the tasks of a run.
TASK_COLUMNS = ("task", "state", "children")
#: Width of the output, in columns, where it is not a terminal.
PIPE_WIDTH = 100_000


def show_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table."""
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:  # a pipe has no width, and a cut identifier would be useless to its reader
        console.width = PIPE_WIDTH
    console.print(table_of(columns, rows))


def table_of(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """Return a table; only the last column is folded, so that identifiers can be copied."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column != columns[-1])
    for row in rows:
        table.add_row(*(printable("" if cell is None else cell) for cell in row))
    return table


def run_lines(run: RunRow) -> list[str]:
    """Return what stands above the table of a run."""
    head = (run.id, printable(run.flow_name), state_of(run), when(run.started), f"{run.duration:.1f} s")
    return ["  ".join(head), printable(how_it_went(run))]


def task_cells(run: RunRow) -> list[tuple[Any, ...]]:
    """Return the cells of the tasks of a run."""
    return [(run.label_of(t["slug"]), t["state"], counts_text(t["counts"])) for t in run.tasks()]


def show_run(run: RunRow) -> None:
    """Print a run and its tasks."""
    print("\n".join(run_lines(run)))
    show_table(TASK_COLUMNS, task_cells(run))
    print("".join(f"{line}\n" for line in inside_lines(run)), end="")


def run_view(run: RunRow) -> Group:
    """Return a run and its tasks to be drawn."""
    return Group(*run_lines(run), table_of(TASK_COLUMNS, task_cells(run)), *inside_lines(run))


def inside_lines(run: RunRow) -> list[str]:
    """Return what running bodies say of themselves, a line each."""
    said = [] if run.ended is not None or run.is_lost else run.progress()
    lines = [printable(words.inside(body)) for body in said[:MAX_ROWS]]
    return lines if len(said) <= MAX_ROWS else [*lines, f"and {len(said) - MAX_ROWS:,} more"]


def time_left(left: timedelta) -> str:
    """Return how long it is until a moment, in whole seconds.

    Examples
    --------
    >>> time_left(timedelta(days=1, seconds=61.7))
    '1 day, 0:01:02'
    """
    return str(timedelta(seconds=max(0, round(left.total_seconds()))))


def show_json(value: Any) -> None:
    """Print a value as JSON."""
    print(json.dumps(value, default=str, indent=2))


def run_context(run: RunRow) -> dict[str, Any]:
    """Return the facts of a run for JSON."""
    return {
        "id": run.id,
        "flow": run.flow_name,
        "name": run.name,
        "state": run.state,
        "message": run.message,
        "exit_code": run.exit_code,
        "started": run.started.isoformat(),
        "ended": None if run.ended is None else run.ended.isoformat(),
        "seconds": round(run.duration, 3),
        "lost": run.is_lost,
        "counts": run.counts()._asdict(),
    }


def state_of(run: RunRow) -> str:
    """Return the state of a run: "Lost" if its client is gone, "Unfinished" if it ended while still Running."""
    if run.is_lost:
        return "Lost"
    return "Unfinished" if run.state == "Running" and run.ended is not None else run.state


def message_of(run: RunRow) -> str | None:
    """Return the message of a run; None for a success."""
    if run.is_lost:
        return f"client lost, last heartbeat at {when(run.heartbeat)}; resume continues the run"
    return None if run.state == "Success" else run.message


def run_cells(run: RunRow) -> tuple[Any, ...]:
    """Return the cells of a run in a table of runs."""
    took, counts = f"{run.duration:.1f} s", run.counts()
    state = state_of(run)
    if run.state == "Success" and counts.failed:  # it does not look like a run in which nothing failed
        state = f"{state} (!)"
    return run.id, run.flow_name, state, when(run.started), took, how_far(run, counts), message_of(run)


def how_far(run: RunRow, counts: TaskCounts) -> str:
    """Return how many items and tasks of a run succeeded, or how far it came before it was interrupted."""
    return counts.stopped_text() if stop_of(run) else counts.text()


def stop_of(run: RunRow) -> str | None:
    """Return what interrupted a run, None if nothing did."""
    return STOPS.get(run.message or "") if run.ended is not None else None


def how_it_went(run: RunRow) -> str:
    """Return a line about a run: what interrupted it, or its message, and its counts."""
    stop, counts = stop_of(run), run.counts()
    if stop is not None:
        return f"{stop}: {counts.stopped_text()}"
    return ", ".join(filter(None, ((message_of(run) or "").rstrip("."), counts.text())))


def failed_items(group: FailureGroup, every: bool) -> list[str]:
    """Return lines that name the failed items of a cause: the first in one line, or each in its own."""
    from prefectish.history.outline import first_of

    if every:
        return [child.label for child in group.children]
    first = ", ".join(child.label for child in first_of(group, MAX_CHILDREN_NAMED))
    more = group.count - MAX_CHILDREN_NAMED
    return [f"{first}, and {more:,} more (--all)" if more > 0 else first]


def failure_facts(group: FailureGroup) -> dict[str, Any]:
    """Return the facts of a group of failures for JSON."""
    from prefectish.history.outline import first_of

    return {
        "type": group.type,
        "message": group.message,
        "count": group.count,
        "children": [
            {"task": c.slug, "index": c.index, "item": c.item_key, "name": c.name} for c in first_of(group, MAX_ROWS)
        ],
        "traceback": group.traceback,
    }


def comparison_facts(found: Comparison) -> dict[str, Any]:
    """Return a comparison of two runs for JSON."""
    return {
        "before": found.before.id,
        "after": found.after.id,
        "tasks": [task._asdict() for task in found.tasks],
        "new": [failure_facts(group) for group in found.new_causes],
        "gone": [failure_facts(group) for group in found.gone_causes],
        "slower": [child._asdict() for child in found.slower],
        "larger": [child._asdict() for child in found.larger],
    }


def line_facts(line: LogLine) -> dict[str, Any]:
    """Return the facts of a line of a log for JSON."""
    return {
        "at": line.at.isoformat(),
        "level": line.level,
        "task": line.slug,
        "index": line.index,
        "name": line.run_name,
        "attempt": line.attempt,
        "logger": line.logger,
        "text": line.text,
        "traceback": line.traceback,
    }


def counts_text(counts: Mapping[str, int]) -> str:
    """Return counts by state in one line.

    Examples
    --------
    >>> counts_text({"Success": 97, "Failed": 3})
    '97 Success, 3 Failed'
    """
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items(), key=lambda item: -item[1]))


def pause_and_notice_lines(run: RunRow, again: NextCommand) -> list[str]:
    """Return lines for paused children and for notifications that could not be delivered."""
    paused = run.paused()
    lines = [
        f"{'approved' if row.state == 'Resume' else 'paused'}: {row.label}: {row.message}" for row in paused[:MAX_ROWS]
    ]
    if len(paused) > MAX_ROWS:
        lines.append(f"and {len(paused) - MAX_ROWS:,} more")
    if paused:
        lines.append(f"{again.resume_command('approve', run.id)} [--task NAME] [--item ITEM] [--input ANSWER]")
    failed = [notice for notice in run.notices() if notice.error is not None]
    return lines + [
        f"not delivered by {notice.channel}: {notice.subject}: {notice.error}" for notice in failed[:MAX_ROWS]
    ]


def tuple_facts(row: Any) -> dict[str, Any]:
    """Return a named tuple of the history in a form that JSON can write."""
    return {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in row._asdict().items()}
