"""The clock that the engine reads and waits by, in one place, so that a test can replace it.

Read the time from :data:`current`, the clock of this process, as an attribute of this module at each use. Limits and
retries follow its seconds, which never decrease; states show its wall clock, which may be set back during a run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Protocol, TypeVar

Outcome = TypeVar("Outcome")
Receipt = TypeVar("Receipt", covariant=True)

#: Longest time a loop waits for receipts before it looks at its timers and requests again, in seconds.
LONGEST_WAIT = 0.25
#: The last time that :mod:`datetime` has.
LATEST = datetime.max.replace(tzinfo=UTC)
#: The time zone of datetimes that have none; None: they are refused.
naive_zone: tzinfo | None = None


def zoned(time: datetime, what: str) -> datetime:
    """Return a datetime that has no time zone with that of `naive_zone`; a ValueError, about `what`, if it is None."""
    if naive_zone is None:
        raise ValueError(
            f"{what} {time.isoformat()} has no time zone; write {what.rpartition(' ')[2]}.replace(tzinfo=UTC), or "
            "whichever zone is meant"
        )
    return time.replace(tzinfo=naive_zone)


def with_zone(time: datetime | None) -> datetime | None:
    """Return a datetime without a time zone with that of `naive_zone`, if there is one; others as they are."""
    if time is None or naive_zone is None or time.utcoffset() is not None:
        return time
    return time.replace(tzinfo=naive_zone)


class Receiver(Protocol[Receipt]):
    """What a clock waits for: the session of an executor, with room for so many bodies at once."""

    slots: int

    def receipts(self, timeout: float | None) -> Sequence[Receipt]:
        """Wait until there are receipts, at most `timeout` seconds, and return all there are."""


class Clock:
    """The clocks of this machine."""

    def seconds(self) -> float:
        """Return the seconds of a monotonic clock."""
        return time.monotonic()

    def wall(self) -> datetime:
        """Return the aware time now."""
        return datetime.fromtimestamp(time.time(), UTC)

    def sleep(self, seconds: float) -> None:
        """Wait; Ctrl-C interrupts it."""
        time.sleep(seconds)

    def begin(self) -> float:
        """Note that an attempt begins in this thread; return the argument for :meth:`end`."""
        return time.perf_counter()

    def end(self, began: float) -> float:
        """Note that an attempt has ended, and return how many seconds it took."""
        return time.perf_counter() - began

    def limited(self, call: Callable[[], Outcome], limit: float, kept: Callable[[], Outcome]) -> Outcome:
        """Call a body with a time limit in seconds, by `kept`, which enforces it."""
        return kept()

    @contextmanager
    def driven(self) -> Iterator[None]:
        """Note that this thread runs the loop of a run, in the block."""
        yield

    def receipts(
        self,
        session: Receiver[Receipt],
        in_flight: int,
        due: float | None,
        idle: Callable[[float], object] | None = None,
    ) -> Sequence[Receipt]:
        """Wait until a session has receipts, something is due, or :data:`LONGEST_WAIT` is over.

        `in_flight` is the number of submitted jobs, `due` a time by :meth:`seconds`. `idle` waits so many seconds, or
        until a request comes, while nothing runs; None for a sleep.
        """
        wait = LONGEST_WAIT if due is None else min(LONGEST_WAIT, max(0.0, due - self.seconds()))
        if in_flight:
            return session.receipts(wait)
        if wait:
            (idle or self.sleep)(wait)
        return ()


#: The clock of this machine, and the one in use in this process.
MACHINE = Clock()
current = MACHINE


def now() -> datetime:
    """Return the aware time now, by the clock of this process."""
    return current.wall()


def later(time: datetime, seconds: float) -> datetime:
    """Return the time so many seconds later, at most :data:`LATEST`.

    Examples
    --------
    >>> later(datetime(2026, 1, 1, tzinfo=UTC), 60).minute, later(datetime(2026, 1, 1, tzinfo=UTC), 1e300) == LATEST
    (1, True)
    """
    try:
        return time + timedelta(seconds=seconds)
    except OverflowError:
        return LATEST


class Now:
    """Now: seconds of a monotonic clock, and the wall clock that states show, read only if a state shows it."""

    __slots__ = ("_read_wall", "_wall", "seconds")

    def __init__(self, seconds: float, read_wall: Callable[[], datetime]) -> None:
        self.seconds = seconds
        self._read_wall = read_wall
        self._wall: datetime | None = None

    @property
    def wall(self) -> datetime:
        """Return the aware time, the same at each call."""
        if self._wall is None:
            self._wall = self._read_wall()
        return self._wall


class RunClock:
    """The time of one run: the clock of the process, save that recorded times never run backwards.

    A wall clock that is set back during a run continues from its last time.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.source = clock or current
        self._last: tuple[float, datetime] | None = None

    def moment(self) -> Now:
        """Return the time now; its wall clock is that of its seconds: if it is read late, nothing is due early."""
        seconds = self.source.seconds()
        return Now(seconds, lambda: later(self._wall(), seconds - self.source.seconds()))

    def _wall(self) -> datetime:
        seconds, wall = self.source.seconds(), self.source.wall()
        if self._last is not None and wall < self._last[1]:
            wall = later(self._last[1], seconds - self._last[0])
        self._last = seconds, wall
        return wall
