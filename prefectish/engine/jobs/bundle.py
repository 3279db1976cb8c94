"""Rows of a chain that go as one batch, kept as columns; jobs and records are made when they are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, final

from prefectish.engine.jobs.job import ChainSpec, Job, Receipt, Record, taken_back
from prefectish.engine.jobs.struct import Struct
from prefectish.engine.state import State, plain_success

_NOTHING: Mapping[int, State] = {}


@final
class Bundle:
    """Jobs that are sent as one batch.

    Most are of neighbouring rows that begin whole, for the first time: then their inputs are columns here, and the jobs
    are made when one of them is looked at, which few ever are.

    Attributes
    ----------
    number
        Of the batch, ``Job.batch`` of each of its jobs.
    rows
        The rows, in order; of rows that have begun before, the map indexes.
    columns
        The inputs of the rows, one column for each reader of the chain; None if the rows have begun before.
    turn, expected
        Of each job.
    """

    __slots__ = ("_jobs", "chain", "columns", "expected", "number", "rows", "turn")

    def __init__(
        self,
        number: int,
        chain: ChainSpec,
        rows: Sequence[int],
        columns: tuple[Sequence[Any], ...] | None,
        jobs: list[Job] | None = None,
    ) -> None:
        self.number = number
        self.chain = chain
        self.rows = rows
        self.columns = columns
        self.turn = 0
        self.expected: float | None = None
        self._jobs = jobs

    @classmethod
    def of(cls, jobs: list[Job]) -> Bundle:
        """Return the bundle of jobs that have the number of a batch."""
        first = jobs[0]
        assert first.batch is not None
        bundle = cls(first.batch, first.chain, [job.index for job in jobs], None, jobs)
        bundle.turn = first.turn
        return bundle

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def positions(self) -> tuple[int, ...]:
        """Return the positions of the steps that a job runs, of rows that begin whole."""
        return tuple(range(len(self.chain.steps)))

    @property
    def probes(self) -> bool:
        """Whether its jobs run no bodies."""
        return self.columns is None and self.jobs[0].probe_only

    @property
    def jobs(self) -> list[Job]:
        """Return its jobs; they are the same at each call. Only the thread of the loop may ask."""
        if self._jobs is None:
            assert self.columns is not None
            self._jobs = [self._job(row, items) for row, items in zip(self.rows, self.items(), strict=True)]
        return self._jobs

    def items(self) -> Iterator[tuple[Any, ...]]:
        """Return the inputs of each row, of rows that begin whole."""
        assert self.columns is not None
        return zip(*self.columns, strict=True) if self.columns else iter([()] * len(self.rows))

    def _job(self, row: int, items: tuple[Any, ...]) -> Job:
        positions = self.positions
        job = Job(self.chain, row, 0, positions, items, _NOTHING, _NOTHING)
        job.batch, job.turn, job.expected = self.number, self.turn, self.expected
        job.awaiting = (1 << len(positions)) - 1
        return job


class BundleRecords(Struct):
    """How the rows of a bundle ended: columns of those that plainly succeeded, and records of the others.

    A row has plainly succeeded if only results, seconds and keys tell the records of its steps from those of others.
    """

    __slots__ = ("keys", "others", "results", "seconds", "worker")

    def __init__(
        self,
        worker: str | None,
        results: Sequence[list[Any]],
        seconds: Sequence[Sequence[float]],
        keys: Sequence[list[str | None] | None],
        others: dict[int, list[tuple[int, Record]] | None],
    ) -> None:
        self.worker = worker  # the process that ran them
        # One column for each step, in the order of their positions.
        self.results = results
        self.seconds = seconds
        self.keys = keys  # keys of items, None where none was computed
        # Records by the number of the row in the bundle, None for one that did not begin; what the columns have in
        # their place stands for nothing.
        self.others = others

    def of(self, number: int) -> list[tuple[int, Record]] | None:
        """Return the records of a row, given by its number in the bundle; None if it did not begin."""
        if number in self.others:
            return self.others[number]
        found = []
        for position, (results, seconds, keys) in enumerate(zip(self.results, self.seconds, self.keys, strict=True)):
            key = None if keys is None else keys[number]
            state = plain_success(results[number])
            found.append((position, Record(state, seconds[number], None, None, self.worker, key)))
        return found


@final
class BundleReceipt(Struct):
    """What a session knows about a bundle that has ended."""

    __slots__ = ("bundle", "records")

    def __init__(self, bundle: Bundle, records: BundleRecords) -> None:
        self.bundle = bundle
        self.records = records

    def receipt(self, number: int) -> Receipt:
        """Return the receipt of one job, given by its number in the bundle."""
        job, records = self.bundle.jobs[number], self.records.of(number)
        if records is None:
            return taken_back(job)
        if any(position != p for (position, _), p in zip(records, job.positions, strict=True)):
            records = [(p, record) for p, (_, record) in zip(job.positions, records, strict=True)]
        return Receipt(job, records)


def unpack(jobs: Iterable[Job | Bundle]) -> list[Job]:
    """Return jobs, and those of bundles among them."""
    return [job for entry in jobs for job in (entry.jobs if type(entry) is Bundle else (entry,))]


def gathered(jobs: Iterable[Job | Bundle]) -> tuple[list[Job], list[Bundle]]:
    """Return the jobs that are sent by themselves, and the bundles: jobs with the number of a batch make one, too."""
    single: list[Job] = []
    batches: dict[int, list[Job]] = {}
    bundles: list[Bundle] = []
    for entry in jobs:
        if type(entry) is Bundle:
            bundles.append(entry)
        elif entry.batch is None:
            single.append(entry)
        else:
            batches.setdefault(entry.batch, []).append(entry)
    return single, bundles + [Bundle.of(members) for members in batches.values()]
