"""Watch a run from another terminal: its tasks until it has ended, and its log lines as they come."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live

from prefectish.cli import showing
from prefectish.history import LogLine, RunRow
from prefectish.safe_repr import printable

#: Seconds between two looks into the history.
INTERVAL = 1.0


def watch_run(run: RunRow) -> None:
    """Show a run again and again until it has ended, or its client is lost; a pipe gets what has changed."""
    console = Console(markup=False, highlight=False)
    if console.is_terminal:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            while not _is_over(run):
                live.update(showing.run_view(run), refresh=True)
                run = _a_moment_later(run)
        return
    last: list[str] = []
    while not _is_over(run):
        line = f"{showing.state_of(run)}: {run.counts().text()}"
        lines = [printable(line), *showing.inside_lines(run)]
        for line in lines:
            if line not in last:
                print(line, flush=True)
        last = lines
        run = _a_moment_later(run)


def follow_lines(run: RunRow, task: str | None, item: int | str | None, level: str, shown: Sequence[LogLine]) -> None:
    """Print the lines that come after those that were shown, until the run has ended."""
    last = max((line.number for line in shown), default=0)
    while True:
        over = _is_over(run)  # asked first: what it logged last is read after it has ended
        found = run.logs(task, item, level=level, after=last)
        show_lines(found)
        last = max((line.number for line in found), default=last)
        if over:
            return
        run = _a_moment_later(run)


def show_lines(lines: Sequence[LogLine]) -> None:
    """Print lines of a log."""
    for line in lines:
        for part in str(line).split("\n"):
            print(printable(part), flush=True)


def _is_over(run: RunRow) -> bool:
    return run.ended is not None or run.is_lost


def _a_moment_later(run: RunRow) -> RunRow:
    time.sleep(INTERVAL)
    return run._as_it_is_now()
