"""Progress of a run, a few times a second: how many children of each step are in which state.

The engine counts and calls; drawing is left to `prefectish.display`. Counts come from the tables as they are: the
number of rows and of those left, failures, and other states than plain success, which ``changes`` notes. Only what is
open is looked through. If a refresh takes long, the next one waits, so that all take but a small share of the run.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from time import monotonic, thread_time
from typing import Any, NamedTuple, Protocol

from prefectish.config import setting, switch
from prefectish.engine.capture import capture
from prefectish.engine.context import get_logger
from prefectish.engine.driver.failure_log import CauseCount
from prefectish.engine.jobs.protocol import Session
from prefectish.engine.scheduling.progress import Progress
from prefectish.engine.scheduling.run_state import StepState
from prefectish.engine.scheduling.verdict import expand
from prefectish.engine.state import (
    Cached,
    Cancelled,
    Failed,
    Mapped,
    Paused,
    Pending,
    Retrying,
    Running,
    Skipped,
    State,
    TriggerFailed,
)
from prefectish.engine.worker.body_progress import BodyProgress, board
from prefectish.errors import describe

#: Shortest and longest time between two refreshes, and before the first, in seconds.
MIN_INTERVAL, MAX_INTERVAL, FIRST_AFTER = 0.2, 2.0, 0.5
#: The next refresh waits so many times as long as the last one took, in time of the processor.
COST_FACTOR = 100
#: How long a refresh may be overdue before the thread does it, in seconds.
TICK = 0.5


class StepCounts(NamedTuple):
    """How far a step is."""

    slug: str
    label: str  # what it is called
    mapped: bool
    width: int | None  # children so far, None if that is not known yet; 1 for a single step
    closed: bool  # whether no more children can come
    #: Children that are finished, in whatever way; among them those that failed, were skipped, cached or cancelled.
    ended: int
    failed: int  # by themselves: those that only follow from others are in `not_run`
    skipped: int
    cached: int
    cancelled: int
    running: int  # children that were sent to be run, and are not known to wait for their turn
    #: Children that wait for another attempt, or for an approval.
    retrying: int
    paused: int
    final: bool  # whether the step has ended
    not_run: int = 0  # children whose trigger did not let them run


class RunProgress(NamedTuple):
    """How far a run is.

    Attributes
    ----------
    tasks
        Its steps, parameters and constants left out.
    paused
        Whether it is paused by its handle, so that nothing new starts.
    causes
        Why children failed or were retried.
    inside
        What bodies that run say themselves, by ``context.progress(...)``.
    state
        How the run ended; None while it runs, or if it broke off.
    ended
        Whether it has ended.
    """

    tasks: Sequence[StepCounts]
    paused: bool = False
    causes: Sequence[CauseCount] = ()
    inside: Sequence[BodyProgress] = ()
    state: State | None = None
    ended: bool = False


class Listener:
    """Passes the progress of a run to a function of the user, a few times a second and at the end."""

    shows_causes = False

    def __init__(self, listen: Callable[[RunProgress], Any]) -> None:
        self._listen = listen

    def refresh(self, progress: RunProgress) -> None:
        """Tell how far the run is."""
        self._listen(progress)

    def release_screen(self) -> None:
        """Do nothing: there is none."""

    def ended(self, progress: RunProgress, state: State | None, stop: str | None = None) -> None:
        """Tell how it ended."""
        self._listen(progress._replace(state=state, ended=True))


class ProgressView(Protocol):
    """Shows the progress of a run.

    Attributes
    ----------
    shows_causes
        Whether it counts failures by cause, so that nothing else writes them to the same screen.
    """

    shows_causes: bool

    def refresh(self, progress: RunProgress) -> None:
        """Show how far the run is."""

    def release_screen(self) -> None:
        """Release the screen until the next refresh."""

    def ended(self, progress: RunProgress, state: State | None, stop: str | None = None) -> None:
        """Show how the run ended, for the last time.

        Parameters
        ----------
        state
            None if it broke off.
        stop
            What interrupted it, such as "Interrupted by Ctrl-C".
        """


class ProgressTicker:
    """Refreshes a view at the right times, and keeps its errors from the run.

    The loop refreshes it between two batches of receipts. While a long body blocks the loop, a thread does.
    """

    def __init__(self, make: Callable[[str | None], ProgressView], always: bool, at_once: bool = False) -> None:
        self.due = monotonic() + (0.0 if at_once else FIRST_AFTER)
        # Makes the view from the identifier of a run that is recorded, None for one that is not; called at the first
        # refresh, so that a short run does not wait for it.
        self._make = make
        self._always = always  # whether even the shortest run is shown, at its end
        # Whether it is shown from the start on: a cell of a notebook that starts a run in the background ends then, and
        # what it has not shown by then has no place on the page.
        self._at_once = at_once
        self._view: ProgressView | None = None
        self._broken = False
        self._run_id: str | None = None
        self._now: Callable[[], RunProgress] = lambda: RunProgress(())
        self._over = threading.Event()
        self._refreshing = threading.Lock()
        self._ticker = threading.Thread(
            target=copy_context().run, args=(self._tick,), name="prefectish-progress", daemon=True
        )

    @property
    def shows_causes(self) -> bool | None:
        """Whether the view shows why tasks fail; None as long as it is not made."""
        if self._broken and self._view is None:
            return False
        return None if self._view is None else self._view.shows_causes

    def begin(
        self,
        progress: Progress,
        session: Session,
        recorded: str | None,
        causes: Callable[[], Sequence[CauseCount]],
        run_id: str,
    ) -> None:
        """Note what is shown; `recorded` is the identifier of a run that a history records."""
        self._run_id = recorded
        self._now = lambda: RunProgress(
            counted(progress, session.slots), progress.run_state.paused, causes(), board.of(run_id)
        )
        self._ticker.start()
        if self._at_once:
            self.refresh()
            self.due = monotonic() + MIN_INTERVAL  # getting ready took longer than a refresh does

    def refresh(self, late: float = 0.0) -> None:
        """Refresh the view, if that is due, and has been for `late` seconds."""
        if monotonic() < self.due + late or not self._refreshing.acquire(blocking=False):
            return
        try:
            self._try("begin", lambda view: None)
            began = thread_time()
            self._try("refresh", lambda view: view.refresh(self._now()))
            self.due = monotonic() + min(max(MIN_INTERVAL, COST_FACTOR * (thread_time() - began)), MAX_INTERVAL)
        finally:
            self._refreshing.release()

    def _tick(self) -> None:
        while not self._over.wait(TICK):
            self.refresh(late=TICK)

    def release_screen(self) -> None:
        """Let the view release the screen."""
        with self._refreshing:
            if self._view is not None:
                self._try("release the screen", lambda view: view.release_screen())

    def ended(self, state: State | None, stop: str | None = None) -> None:
        """Show the end; `state` is what the run ended in, None if it broke off without one; `stop` interrupted it."""
        self._over.set()
        with self._refreshing:
            if self._view is not None or self._always:
                self._try("show the end", lambda view: view.ended(self._now(), state, stop))
            self._broken = True  # nothing is shown after the end

    def _try(self, what: str, act: Callable[[ProgressView], None]) -> None:
        if self._broken:
            return
        try:
            if self._view is None:
                self._view = self._make(self._run_id)
            act(self._view)
        except Exception as error:
            self._broken = True
            get_logger("progress").warning(
                "the progress of this run is no longer shown; the run continues: could not %s: %s",
                what,
                describe(error),
                exc_info=True,
            )
            if self._view is not None:
                capture(self._view.release_screen)  # it may hold the terminal


def ticker_for(
    shown: bool | Callable[[RunProgress], Any] | None, flow_name: str, nested: bool, background: bool
) -> ProgressTicker | None:
    """Return what shows a run; None if nothing does.

    `shown` is None to leave it to the settings, and else to what there is: a terminal or a notebook; `nested` is a run
    in the body of a task, `background` one beside a user who may type at the terminal.
    """
    if callable(shown):
        listener = Listener(shown)
        return ProgressTicker(lambda run_id: listener, always=True, at_once=True)
    if shown is None and setting("progress") is not None:
        shown = switch("progress", True)
    if shown is False or (shown is None and (nested or not (in_notebook() or (not background and _is_terminal())))):
        return None
    began = monotonic()

    def make(run_id: str | None) -> ProgressView:
        from importlib import import_module

        view: ProgressView = import_module("prefectish.display.live").progress_view(flow_name, run_id, began)
        return view

    return ProgressTicker(make, always=bool(shown), at_once=background and in_notebook())


def show_end(ticker: ProgressTicker | None, state: State | None, stop: str | None = None) -> None:
    """Show how a run ended, if it is shown; `state` is None if it broke off without one, `stop` what interrupted it."""
    if ticker is not None:
        ticker.ended(state, stop)


def in_notebook() -> bool:
    """Whether this process runs the cells of a notebook."""
    if "ipykernel" not in sys.modules or "IPython" not in sys.modules:
        return False
    shell = sys.modules["IPython"].get_ipython()
    return shell is not None and getattr(shell, "kernel", None) is not None


def _is_terminal() -> bool:
    """Whether the standard error is a terminal, and not one that belongs to another program of the shell meanwhile."""
    try:
        if not sys.stderr.isatty():
            return False
    except (AttributeError, ValueError):  # there is no stderr, or it is closed
        return False
    try:
        return os.tcgetpgrp(sys.stderr.fileno()) == os.getpgrp()
    except (AttributeError, OSError):  # no job control here
        return True


def counted(progress: Progress, slots: int) -> list[StepCounts]:
    """Return how far each step is, parameters and constants left out.

    `slots` bodies can run at once, 0 if that is not known: more than so many do not run, whatever was sent.
    """
    running, retrying, paused = _open(progress)
    return [
        _counts(run, min(running[n], slots or running[n]), retrying[n], paused[n])
        for n, run in enumerate(list(progress.run_state.step_states))
        if run.step.literal is None
    ]


def counts_by_state(progress: Progress, slug: str | None) -> dict[str, int]:
    """Count tasks and children by the name of their state, of one step or of all.

    Those that were sent to be run have no state of their own yet: they count as running, up to as many as there is room
    for.
    """
    sent, slots = _open(progress)[0], progress.admission.slots
    total: Counter[str] = Counter()
    for run in list(progress.run_state.step_states):
        if slug in (None, run.step.slug):
            found = Counter(type(child).__name__ for child in expand(run.snapshot()))
            running = min(sent[run.step.number], slots, found[Pending.__name__])
            found[Running.__name__] += running
            found[Pending.__name__] -= running
            total += found
    return dict(total)


def _open(progress: Progress) -> tuple[Counter[int], Counter[int], Counter[int]]:
    """Count the open children of each step: those under way, and those that wait."""
    running: Counter[int] = Counter()
    retrying: Counter[int] = Counter()
    paused: Counter[int] = Counter()
    for chain in list(progress.run_state.chains.values()):  # the loop may change it meanwhile, if another thread counts
        numbers = [run.step.number for run in chain.step_states]
        running[numbers[0]] += sum(map(len, list(chain.open_rows.bundles.values())))
        for branch in list(chain.open_rows.single.values()):
            if mask := branch.submitted:  # of the steps that were sent together, the first is the one that runs
                running[numbers[(mask & -mask).bit_length() - 1]] += 1
            if branch.waiting:
                for position, state in list(branch.starts.items()):
                    if branch.waiting >> position & 1:
                        if isinstance(state, Retrying):
                            retrying[numbers[position]] += 1
                        elif isinstance(state, Paused):
                            paused[numbers[position]] += 1
    return running, retrying, paused


def _counts(run: StepState, running: int, retrying: int, paused: int) -> StepCounts:
    step = run.step
    kinds: Mapping[type[State], int] = run.kinds
    width, ended = _width(run)
    if run.children is None and run.final and not isinstance(run.state, Mapped):
        kinds = {type(run.state): 1}  # it ended as a whole, before it had children
    closed = run.final or run.map_state is None or run.map_state.closed
    failed = sum(count for kind, count in list(kinds.items()) if issubclass(kind, Failed) and kind is not TriggerFailed)
    return StepCounts(
        step.slug,
        step.label,
        step.mapped,
        width,
        closed,
        ended,
        failed,
        kinds.get(Skipped, 0),
        kinds.get(Cached, 0),
        kinds.get(Cancelled, 0),
        running,
        retrying,
        paused,
        run.final,
        kinds.get(TriggerFailed, 0),
    )


def _width(run: StepState) -> tuple[int | None, int]:
    """Return how many children a step has so far, None if that is not known, and how many of them are finished."""
    if run.children is not None:
        return len(run.children), len(run.children) - run.left
    if not run.final:
        return (None if run.step.mapped else 1), 0
    if isinstance(run.state, Mapped):
        return run.state.n_map_states, run.state.n_map_states
    return 1, 1
