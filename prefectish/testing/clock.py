"""A virtual clock for tests, which skips waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from prefectish.engine import clock as clocks
from prefectish.engine.capture import Error
from prefectish.engine.clock import Clock, Receipt, Receiver, later
from prefectish.engine.signals import TimeoutSignal

#: Polling interval for a session with running tasks, in real seconds.
POLL_INTERVAL = 0.01
#: Real seconds after which time advances even though a submitted task has not started.
STALL_SECONDS = 2.0
NEVER = float("inf")

#: Deadline of the task in this thread, in seconds of the clock.
_deadline: ContextVar[float] = ContextVar("deadline", default=NEVER)


class VirtualClock(Clock):
    """A clock that stands still while anything runs, and jumps to the next due time when everything waits.

    In its ``with`` block all waits of the engine are skipped, and times in states are those of this clock: delays
    of retries, pauses with a duration, start times, rates, ``timeout``, ``total_timeout``, ``map_timeout``, the
    timeout of a flow, schedules, the expiry of caches. Task functions take time with :meth:`sleep`.

    Parameters
    ----------
    start
        The wall time at the beginning, with a time zone; default: the current time.

    Raises
    ------
    ValueError
        If `start` has no time zone.
    RuntimeError
        In a ``with`` statement, if another virtual clock is active in this process.

    Notes
    -----
    With ``LocalExecutor`` and ``LocalDaskExecutor("synchronous")`` runs are deterministic. On threads, tasks that
    sleep do so concurrently, as with real time: when all of them sleep, time advances to the first that wakes.

    Tasks in other processes (``LocalDaskExecutor("processes")``, ``DaskExecutor``, ``isolation="process"``) use the
    real clock, also for their time limits, and cannot use this one; waits for retries, pauses, start times and
    rates are virtual there too, since the client waits.

    A task that really hangs is not ended by its time limit: no virtual time passes.

    Examples
    --------
    >>> from prefectish import Flow, context, task
    >>> with VirtualClock() as clock:
    ...     @task(max_retries=3, retry_delay=3600, timeout=60)
    ...     def fetch():
    ...         clock.sleep(90 if context.task_run_count < 3 else 5)
    ...         return "page"
    ...     with Flow("slow server") as flow:
    ...         page = fetch()
    ...     state = flow.run()
    >>> state.result[page].result, clock.elapsed
    ('page', 7325.0)
    """

    def __init__(self, start: datetime | None = None) -> None:
        self.start = datetime.now(UTC) if start is None else start
        if self.start.utcoffset() is None:
            raise ValueError(f"start must have a time zone, got {self.start.isoformat()}")
        self._seconds = 0.0
        self._shift = timedelta(0)
        self._changed = threading.Condition()
        self._drivers: dict[int, int] = {}  # threads that run a loop, and the depth of nested loops
        self._bodies: dict[int, int] = {}  # threads that run tasks, likewise
        self._asleep: dict[int, float] = {}  # threads that sleep, and until when
        self._turn: int | None = None  # a loop that runs before tasks that wake at the same time
        self._unchanged: tuple[object, float] = (None, 0.0)

    # -- for tests and bodies --------------------------------------------------------------------------------------

    @property
    def elapsed(self) -> float:
        """Return the seconds that have passed on this clock."""
        return self._seconds

    def now(self) -> datetime:
        """Return the aware time now."""
        return self.wall()

    def sleep(self, seconds: float | timedelta) -> None:
        """Let virtual time pass, in a task or in a test; takes no real time.

        Parameters
        ----------
        seconds
            Seconds or a timedelta, >= 0.

        Raises
        ------
        TimeoutSignal
            In a task whose time limit expires.
        ValueError
            If it is negative.
        """
        with self._changed:
            self._sleep_till(self._seconds + _checked(seconds))

    def advance(self, seconds: float | timedelta) -> None:
        """Advance the clock immediately, whatever is running.

        Raises
        ------
        ValueError
            If it is negative: only :meth:`set_wall` sets a clock back.
        """
        with self._changed:
            self._seconds += _checked(seconds)
            self._changed.notify_all()

    def set_wall(self, time: datetime) -> None:
        """Set the wall clock, as an administrator or a time server does; waits are not affected.

        Raises
        ------
        ValueError
            If `time` has no time zone.
        """
        if time.utcoffset() is None:
            raise ValueError(f"time must have a time zone, got {time.isoformat()}")
        self._shift += time - self.wall()

    def __enter__(self) -> VirtualClock:
        """Make this the clock of the process."""
        if clocks.current is not clocks.MACHINE:
            raise RuntimeError("another VirtualClock is active in this process; leave its block first")
        clocks.current = self
        return self

    def __exit__(self, *error: object) -> None:
        """Restore the real clock."""
        clocks.current = clocks.MACHINE

    def __reduce__(self) -> NoReturn:
        raise TypeError("a VirtualClock cannot be sent to another process: run the flow in this one")

    def __repr__(self) -> str:
        return f"<VirtualClock at {self.wall().isoformat()}, {self.elapsed:g} s after its start>"

    # -- for the engine --------------------------------------------------------------------------------------------

    def seconds(self) -> float:
        """Return the seconds that have passed."""
        return self._seconds

    def wall(self) -> datetime:
        """Return the aware time now."""
        return later(self.start + self._shift, self._seconds)

    def begin(self) -> float:
        """Note that an attempt begins in this thread."""
        me = threading.get_ident()
        with self._changed:
            self._bodies[me] = self._bodies.get(me, 0) + 1
            self._asleep.pop(me, None)
            return self._seconds

    def end(self, began: float) -> float:
        """Note that an attempt has ended, and return how many seconds it took."""
        with self._changed:
            _leave(self._bodies)
            self._changed.notify_all()
            return self._seconds - began

    def limited(self, call: Callable[[], Any], limit: float, kept: Callable[[], Any]) -> Any:
        """Call a task function with a time limit, which :meth:`sleep` enforces."""
        deadline = min(self._seconds + limit, _deadline.get())
        token = _deadline.set(deadline)
        try:
            outcome = call()
        finally:
            _deadline.reset(token)
        if self._seconds < deadline or (type(outcome) is Error and isinstance(outcome.exception, TimeoutSignal)):
            return outcome
        return Error(TimeoutSignal())  # the signal was caught, or the clock was advanced: the limit has expired

    @contextmanager
    def driven(self) -> Iterator[None]:
        """Register that this thread runs the loop of a run, in the block."""
        me = threading.get_ident()
        with self._changed:
            self._drivers[me] = self._drivers.get(me, 0) + 1
        try:
            yield
        finally:
            with self._changed:
                _leave(self._drivers)
                self._settle()
                self._end_turn()
                self._changed.notify_all()

    def receipts(
        self,
        session: Receiver[Receipt],
        in_flight: int,
        due: float | None,
        idle: Callable[[float], object] | None = None,
    ) -> Sequence[Receipt]:
        """Wait until a session has receipts; if all running tasks sleep, advance time until something is due."""
        with self._changed:
            self._end_turn()
        running = in_flight - getattr(session, "silent", 0)
        if running:
            receipts = session.receipts(POLL_INTERVAL)
            with self._changed:
                if receipts:
                    self._settle()
                else:
                    self._watch(min(session.slots, running), due)
            return receipts
        if due is None:  # the run can only continue after a request
            with self._changed:
                self._asleep[threading.get_ident()] = NEVER
            (idle or time.sleep)(POLL_INTERVAL)
        else:
            with self._changed:
                self._sleep_till(due)
        return ()

    # -- advancing time; all methods are called with the lock held ------------------------------------------------

    def _sleep_till(self, due: float) -> None:
        """Wait until a time, or until the deadline of the task in this thread."""
        deadline = _deadline.get()
        if min(due, deadline) > self._seconds:
            self._wait(min(due, deadline))
        if self._seconds >= deadline:
            raise TimeoutSignal

    def _wait(self, wake: float) -> None:
        me = threading.get_ident()
        self._end_turn()
        self._asleep[me] = wake
        try:
            while self._seconds < wake or self._turn not in (None, me):
                if not self._drivers:
                    self._wake_outside(wake)
                elif not self._jump():
                    self._changed.wait()
        finally:
            self._settle()

    def _wake_outside(self, wake: float) -> None:
        """Advance time if no run is active; end a task that was abandoned by its run."""
        if threading.get_ident() in self._bodies:
            raise TimeoutSignal("the run has ended")
        self._seconds = max(self._seconds, wake)
        self._turn = None
        self._changed.notify_all()

    def _watch(self, expected: int, due: float | None) -> None:
        """Advance time from a loop whose tasks all sleep; `expected` of them run once all have started."""
        me = threading.get_ident()
        bodies = [thread for thread in self._bodies if thread != me]  # a task in this thread runs the loop
        if not bodies or not all(self._sleeps(thread) for thread in bodies):
            self._settle()
            return
        situation = (expected, due, self._seconds, *bodies)
        if situation != self._unchanged[0]:
            self._unchanged = situation, time.monotonic()
        if len(bodies) >= expected or time.monotonic() - self._unchanged[1] > STALL_SECONDS:
            self._asleep[me] = NEVER if due is None else due
            if self._jump():
                self._settle()

    def _sleeps(self, thread: int) -> bool:
        return self._asleep.get(thread, 0.0) > self._seconds

    def _jump(self) -> bool:
        """Advance to the next due time, if all threads wait; a loop runs before tasks wake."""
        if not all(self._sleeps(thread) for thread in (*self._drivers, *self._bodies)):
            return False
        wake = min(self._asleep.values(), default=NEVER)
        if wake == NEVER:
            return False
        self._seconds = wake
        self._turn = next((thread for thread in self._drivers if self._asleep[thread] <= wake), None)
        self._changed.notify_all()
        return True

    def _settle(self) -> None:
        """Register that this thread does not wait."""
        self._asleep.pop(threading.get_ident(), None)

    def _end_turn(self) -> None:
        if self._turn == threading.get_ident():
            self._turn = None
            self._changed.notify_all()


def _leave(depths: dict[int, int]) -> None:
    me = threading.get_ident()
    depths[me] -= 1
    if not depths[me]:
        del depths[me]


def _checked(seconds: float | timedelta) -> float:
    number = seconds.total_seconds() if isinstance(seconds, timedelta) else float(seconds)
    if not number >= 0:
        raise ValueError(f"seconds must be >= 0, got {seconds!r}; to set the wall clock back, use set_wall")
    return number
