"""Choose the progress view of a run: a notebook, a terminal, or plain lines."""

from __future__ import annotations

import sys
import threading

from prefectish.display.lines import ProgressLines
from prefectish.display.pace import RateMeter
from prefectish.engine.context import get_logger
from prefectish.engine.driver.progress_view import ProgressView, in_notebook
from prefectish.errors import describe


def progress_view(title: str, run_id: str | None, began: float) -> ProgressView:
    """Return a progress view for a run that began then, by the monotonic clock.

    The history of a recorded run may have earlier runs; `run_id` is None if it is not recorded.
    """
    pace = RateMeter(title, began)
    if run_id is not None:
        threading.Thread(target=_remember, args=(pace, run_id), name="prefectish-past", daemon=True).start()
    return _screen(pace)


def _screen(pace: RateMeter) -> ProgressView:
    if in_notebook():
        from prefectish.display.notebook import Notebook

        return Notebook(pace)
    if sys.stderr is not None and sys.stderr.isatty():
        try:
            from prefectish.display.terminal import Terminal
        except ModuleNotFoundError as error:  # rich is an extra
            if (error.name or "").partition(".")[0] != "rich":
                raise
        else:
            terminal = Terminal(pace)
            if terminal.can_draw:
                return terminal
    return ProgressLines(pace)


def _remember(pace: RateMeter, run_id: str) -> None:
    """Read the durations of an earlier run; errors are only logged."""
    try:
        from prefectish.history.last_durations import last_time

        pace.past = last_time(run_id)
    except Exception as error:
        get_logger("progress").debug("no durations of earlier runs: %s", describe(error))
