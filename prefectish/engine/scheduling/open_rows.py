"""The rows of a chain that were started and are not final: single ones, and those of bundles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prefectish.engine.jobs.bundle import Bundle
from prefectish.engine.jobs.job import Job
from prefectish.engine.state import Pending, State


class MapRow:
    """One open row: bit masks over the positions of its chain.

    Attributes
    ----------
    row
        Its number.
    items
        The inputs of the row, kept for resubmission.
    submissions
        Jobs submitted so far.
    final, submitted, waiting
        Positions that are final; in a job; held by a timer, a pause or a crash that is looked into.
    starts
        States from which positions start when submitted again.
    jobs
        Its jobs that may still report.
    seconds
        Time its steps took so far.
    counted
        Whether it takes a place in the window.
    was_in_batch
        Whether it was lost in a batch.
    probing
        Whether it was begun before it had a slot under the limits of its chain, and has none yet.
    """

    __slots__ = (
        "counted", "final", "items", "jobs", "probing", "row", "seconds", "starts", "submissions", "submitted",
        "waiting", "was_in_batch",
    )  # fmt: skip

    def __init__(self, row: int, items: tuple[Any, ...], job: Job | None = None) -> None:
        self.row = row
        self.items = items
        self.submissions = 0
        self.final = 0
        self.submitted = 0
        self.waiting = 0
        self.starts: Mapping[int, State] = {}
        self.jobs: list[Job] = []
        self.seconds = 0.0
        self.counted = False
        if job is not None:  # it began in a bundle, which is all there is to know
            self.submissions, self.submitted, self.jobs, self.counted = 1, job.awaiting, [job], True
        self.probing = False
        self.was_in_batch = False

    def is_unbegun(self, position: int) -> bool:
        """Whether no body of a step has begun, and none is about to, as far as is known."""
        if self.submitted >> position & 1:
            return False
        start = self.starts.get(position)
        return not self.waiting >> position & 1 if start is None else type(start) is Pending


class OpenRows(Mapping[int, MapRow]):
    """Open rows by their number.

    Rows that began together, of which nothing else is known, are kept as the bundle they began in. To look at one of
    them makes single rows of all bundles, which says the same at greater length. Other threads read `single` and
    `bundles`.

    Attributes
    ----------
    single
        Rows of which more is known.
    bundles
        The others, by number of the batch.
    """

    __slots__ = ("bundles", "single")

    def __init__(self) -> None:
        self.single: dict[int, MapRow] = {}
        self.bundles: dict[int, Bundle] = {}

    def single_out(self, number: int | None = None) -> None:
        """Make single rows of a bundle; of all bundles with None."""
        numbers = list(self.bundles) if number is None else [number] if number in self.bundles else []
        for one in numbers:
            for job in self.bundles.pop(one).jobs:
                self.single[job.index] = MapRow(job.index, job.items, job)

    def __getitem__(self, row: int) -> MapRow:
        if self.bundles:
            self.single_out()
        return self.single[row]

    def __iter__(self) -> Iterator[int]:
        if self.bundles:
            self.single_out()
        return iter(self.single)

    def __len__(self) -> int:
        return len(self.single) + (sum(map(len, self.bundles.values())) if self.bundles else 0)
