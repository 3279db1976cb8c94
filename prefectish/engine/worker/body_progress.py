"""How far bodies say that they are, ``context.progress(done, total)``: sent to the client a few times a second at most.

In the process of the client it is noted on the board of the run. In another process the executor's own way is taken,
which it leaves in the context of the run; without one nothing is sent. What is shown is the latest that came.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from time import monotonic
from typing import Any, NamedTuple

from prefectish.engine.context import get_logger
from prefectish.process_tree import process_id

#: Keys of the context of a run: the process of its client, and what sends a report from another process.
OWNER, SENDER = "progress_owner", "progress_sender"
#: Shortest time between two reports of one body, in seconds.
INTERVAL = 0.3
#: Time between two looks for silent bodies, in seconds.
LOOK = 0.2


class BodyProgress(NamedTuple):
    """How far a body is.

    Attributes
    ----------
    slug, index
        Its task, and its map index; None for a single task.
    label
        What it is called: ``load[3] (eu.csv)``.
    done, total
        As the body says; `total` is None if it does not know.
    message
        What it says beside.
    """

    slug: str
    index: int | None  # type: ignore[assignment]  # `tuple.index` is not needed here
    label: str
    done: float | None
    total: float | None
    message: str | None
    #: Seconds without a report after which its silence is logged, the option `heartbeat_timeout` of its task.
    timeout: float | None = None


#: Tells whether a child, by slug and map index, has not ended.
IsOpen = Callable[[str, int | None], bool]


class _Run:
    """The latest reports of a run, when each came, and whose silence was logged."""

    __slots__ = ("is_open", "late", "reports")

    def __init__(self, is_open: IsOpen) -> None:
        self.is_open = is_open
        self.reports: dict[tuple[str, int | None], tuple[BodyProgress, float]] = {}
        self.late: set[tuple[str, int | None]] = set()

    def forget_ended(self) -> None:
        for place in [place for place in self.reports if not self.is_open(*place)]:
            del self.reports[place]


class Board:
    """What the bodies of runs have reported last, in the process of the client; it notices who falls silent."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[str, _Run] = {}
        self._is_watched = False

    def open(self, run_id: str, is_open: IsOpen) -> None:
        """Take reports of a run from now on."""
        with self._lock:
            self._runs[run_id] = _Run(is_open)

    def put(self, run_id: str, report: BodyProgress) -> None:
        """Note a report; one of a run that is not open is dropped, and one without `done` says that the body ended."""
        with self._lock:
            run = self._runs.get(run_id)
            if run is None:
                return
            place = report.slug, report.index
            run.late.discard(place)
            if report.done is None:
                run.reports.pop(place, None)
                return
            run.reports[place] = report, monotonic()
            if report.timeout is not None and not self._is_watched:
                self._is_watched = True
                threading.Thread(target=self._watch, name="prefectish-heartbeats", daemon=True).start()

    def of(self, run_id: str) -> list[BodyProgress]:
        """Return what bodies that have not ended have said of themselves."""
        with self._lock:
            run = self._runs.get(run_id)
            if run is None:
                return []
            run.forget_ended()
            return [report for report, _ in run.reports.values() if report.total is not None or report.done]

    def close(self, run_id: str) -> None:
        """Forget a run."""
        with self._lock:
            self._runs.pop(run_id, None)

    def _watch(self) -> None:
        """Log silent bodies, as long as there are runs."""
        while True:
            time.sleep(LOOK)
            with self._lock:
                if not self._runs:
                    self._is_watched = False
                    return
                silent = [found for run in self._runs.values() for found in _silent(run, monotonic())]
            for report in silent:
                text = "%s: no progress was reported for %g s (heartbeat_timeout=%g); its state is unchanged"
                get_logger("engine").warning(text, report.label, report.timeout, report.timeout)


def _silent(run: _Run, now: float) -> list[BodyProgress]:
    """Return the bodies of a run whose time without a report has just run out."""
    run.forget_ended()
    found = []
    for place, (report, at) in run.reports.items():
        if report.timeout is not None and now - at > report.timeout and place not in run.late:
            run.late.add(place)
            found.append(report)
    return found


board = Board()
_sent = threading.local()


def report(ctx: Any, done: float | None, total: float | None, message: str | None, always: bool = False) -> None:
    """Report how far the body of an attempt is, unless it did so a moment ago; its end is always reported."""
    place = id(ctx)
    last_place, last = getattr(_sent, "last", (None, 0.0))
    now = monotonic()
    if place == last_place and now - last < INTERVAL and done != total and not always:
        return
    _sent.last = place, now
    run, spec = ctx.run, ctx.spec
    index = ctx.index if spec.mapped else None
    child = spec.label_of(ctx.index)
    label = child if ctx.name is None else f"{child} ({ctx.name})"
    made = BodyProgress(spec.slug, index, label, done, total, message, spec.task.heartbeat_timeout)
    run_id = str(run.get("flow_run_id"))
    if run.get(OWNER) == process_id():
        board.put(run_id, made)
    elif (sender := run.get(SENDER)) is not None:
        sender(run_id, made)
