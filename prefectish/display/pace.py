"""From counts to progress: how far, how fast, and the estimated time left.

The rate is that of the last seconds. The time left is computed from it and, as long as few children have ended,
from the durations in the last successful run of the flow.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from prefectish.engine.driver.failure_log import CauseCount
from prefectish.engine.driver.progress_view import RunProgress, StepCounts
from prefectish.engine.worker.body_progress import BodyProgress

#: Time window of the rate, in seconds.
RATE_WINDOW = 10.0
#: Weight of durations of an earlier run, as a number of children of this run.
PRIOR_WEIGHT = 5
#: An unmapped task is named once it runs longer than this, in seconds.
LONG_TASK_SECONDS = 1.0


class PaceLine(NamedTuple):
    """The progress of a map."""

    name: str  # of the task, or its slug if others have the same name
    counts: StepCounts  # what the engine counted
    seconds: float | None  # since its first child started, until its end; None if none has
    rate: float | None  # children that end in a second; None if that is not known
    left: float | None  # seconds until it ends, about; None if that is not known
    expected: int | None  # how many children it will have, by a former run; None if that is known, or not even guessed

    @property
    def ended(self) -> int:
        """Return how many children ended by themselves: a run that is stopped cancels the others."""
        return self.counts.ended - self.counts.cancelled

    @property
    def done(self) -> int:
        """Return how many children ended well, those that were skipped not counted."""
        c = self.counts
        return c.ended - c.failed - c.skipped - c.cancelled - c.not_run

    @property
    def share(self) -> float | None:
        """Return how much of it has ended, between 0 and 1; None if that is not known."""
        whole = self.counts.width if self.counts.closed else self.expected
        if whole is None:
            return None
        return min(self.ended / whole, 1.0) if whole else 1.0


class Scene(NamedTuple):
    """The progress of a run."""

    title: str  # name of the flow
    seconds: float  # since the run began
    maps: Sequence[PaceLine]  # a line each
    #: Single tasks, and how many of them have ended, and failed.
    tasks: int
    ended: int
    failed: int
    long: Sequence[tuple[str, float]]  # names of single tasks that have been running for a while, with their seconds
    paused: bool = False  # whether the run is paused
    causes: Sequence[CauseCount] = ()  # why children failed or were retried
    inside: Sequence[BodyProgress] = ()  # what bodies say themselves
    not_run: int = 0  # single tasks whose trigger did not let them run


class RateTrack:
    """The observations of a step: start, end, and recent numbers of finished children."""

    __slots__ = ("began", "samples", "until")

    def __init__(self) -> None:
        self.began: float | None = None
        self.until: float | None = None
        self.samples: deque[tuple[float, int]] = deque()

    def note(self, counts: StepCounts, now: float) -> None:
        """Add an observation."""
        if self.began is None and (counts.running or counts.ended or counts.retrying):
            self.began = now
        if counts.final and self.until is None:
            self.until = now
        self.samples.append((now, counts.ended - counts.cancelled))
        while len(self.samples) > 2 and now - self.samples[0][0] > RATE_WINDOW:
            self.samples.popleft()

    def rate(self) -> float | None:
        """Return how many children end in a second."""
        (then, before), (now, ended) = self.samples[0], self.samples[-1]
        return (ended - before) / (now - then) if now > then and ended > before else None


class RateMeter:
    """Collects observations of a run, and computes its progress."""

    def __init__(self, title: str, began: float) -> None:
        self.title = title  # name of the flow
        self.began = began  # start of the run, by the clock of `scene`
        #: Children and seconds of each task in an earlier run, by slug; set when they have been read.
        self.past: Mapping[str, tuple[int, float]] = {}
        self._tracks: dict[str, RateTrack] = {}

    def scene(self, progress: RunProgress, now: float) -> Scene:
        """Return the current progress."""
        counts, paused = progress.tasks, progress.paused
        for step in counts:
            self._tracks.setdefault(step.slug, RateTrack()).note(step, now)
        singles = [step for step in counts if not step.mapped]
        return Scene(
            self.title,
            now - self.began,
            [self._line(s, now, paused) for s in counts if s.mapped],
            len(singles),
            sum(step.final for step in singles),
            sum(step.failed for step in singles),
            [(step.label, seconds) for step in singles if (seconds := self._running(step, now)) > LONG_TASK_SECONDS],
            paused,
            progress.causes,
            progress.inside,
            sum(step.not_run for step in singles),
        )

    def _running(self, step: StepCounts, now: float) -> float:
        track = self._tracks[step.slug]
        return 0.0 if step.final or track.began is None else now - track.began

    def _line(self, step: StepCounts, now: float, paused: bool) -> PaceLine:
        track = self._tracks[step.slug]
        children, seconds = self.past.get(step.slug, (0, 0.0))
        expected = children if children and not step.closed and children > (step.width or 0) else None
        taken = None if track.began is None else (track.until or now) - track.began
        if step.final:
            return PaceLine(
                step.label, step, taken, (step.ended - step.cancelled) / taken if taken else None, None, None
            )
        rate = track.rate()
        whole = step.width if step.closed else expected
        left = None if whole is None or paused else self._left(whole - step.ended, track, rate, children, seconds)
        return PaceLine(step.label, step, taken, rate, left, expected)

    def _left(
        self, remaining: int, track: RateTrack, rate: float | None, children: int, seconds: float
    ) -> float | None:
        """Return the estimated time for the remaining children, from recent ones and those of an earlier run."""
        before = seconds / children if children else None
        if rate is None:
            return None if before is None or track.began is None else remaining * before
        if before is None:
            return remaining / rate
        lately = track.samples[-1][1] - track.samples[0][1]
        return remaining * (lately / rate + PRIOR_WEIGHT * before) / (lately + PRIOR_WEIGHT)
