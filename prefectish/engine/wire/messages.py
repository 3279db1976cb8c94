"""Messages between client and workers: Call (request), StepResult and Batch (responses).

They know no Dask: every executor that uses other processes sends them.
"""

from __future__ import annotations

import pickle
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from prefectish.engine.jobs.bundle import BundleRecords
from prefectish.engine.jobs.envelope import weight
from prefectish.engine.jobs.job import Cost, Record
from prefectish.engine.jobs.references import LeftOnWorker
from prefectish.engine.jobs.struct import Struct
from prefectish.engine.state import State, Success
from prefectish.engine.state_column import SUCCEEDED
from prefectish.engine.worker.attempt import Called

#: Size of a record without its result, in bytes, roughly: for the size that is reported to Dask.
RECORD_BYTES = 200


class Call(Struct):
    """A request to run one step of one branch."""

    __slots__ = (
        "expected", "given", "index", "items", "keep", "position", "probe_only", "sources", "start", "submission",
        "verify",
    )  # fmt: skip

    def __init__(
        self,
        position: int,
        index: int,
        items: tuple[Any, ...],
        given: Mapping[int, State] | None,
        start: State | None,
        sources: tuple[int, ...],
        keep: int,
        verify: bool = False,
        probe_only: bool = False,
        submission: int = 0,
        expected: float | None = None,
    ) -> None:
        self.submission = submission
        self.expected = expected  # seconds that its body is expected to take, None if that is not known
        self.probe_only = probe_only  # both as of the :class:`~prefectish.engine.jobs.job.Job`
        # Whether a result is unpickled once more where it was made, so that one that cannot be fails there.
        self.verify = verify
        self.position = position
        self.index = index
        self.items = items
        self.given = given
        self.start = start
        # Positions of the steps in the same job whose results are its first arguments; the values that references stand
        # for come after them.
        self.sources = sources
        self.keep = keep  # largest result of an earlier step, in bytes, that is returned beside the record


class StepResult(Struct):
    """The response to a :class:`Call`: the value of one step's key."""

    __slots__ = ("position", "record", "small")

    def __init__(self, position: int, record: Record, small: tuple[tuple[int, Record], ...] = ()) -> None:
        # Of the step itself.
        self.position = position
        self.record = record
        # Records of the steps before it in the branch, by position, without large results: the client reads one key to
        # know a whole branch.
        self.small = small

    @property
    def nbytes(self) -> int:
        """Size of what it holds, in bytes."""
        own = weight(self.record.state._raw_result) + RECORD_BYTES * (1 + len(self.small))
        if self.small and not self.record.state.is_finished():  # large results of the steps before it go along
            own += sum(weight(record.state._raw_result) for _, record in self.small)
        return own

    def __sizeof__(self) -> int:
        return self.nbytes

    def __reduce__(self) -> tuple[Any, ...]:
        record = self.record
        state = record.state
        if is_plain(record) and not self.small:
            return _plain_result, (
                self.position, state._raw_result, record.seconds, record.worker, record.item_key, record.cost
            )  # fmt: skip
        return super().__reduce__()


def _plain_result(
    position: int, result: Any, seconds: float, worker: str | None, item_key: str | None, cost: Cost | None = None
) -> StepResult:
    record = Record(Success(SUCCEEDED, result), seconds, None, None, worker, item_key, None, True, cost)
    return StepResult(position, record)


class Batch(Struct):
    """The response of a batch: the records of its branches as bytes, and the large results beside them."""

    __slots__ = ("content", "large")

    def __init__(self, content: bytes, large: Mapping[tuple[int, int], Any]) -> None:
        # Pickled content of a :class:`BundleRecords`.
        self.content = content
        self.large = large  # large results by (number of the branch in the batch, position)

    @property
    def nbytes(self) -> int:
        """Size of what it holds, in bytes."""
        return len(self.content) + sum(weight(value) for value in self.large.values())

    def __sizeof__(self) -> int:
        return self.nbytes


class Gathered:
    """Collects the records of a batch as its branches end.

    Parameters
    ----------
    steps
        Number of the steps of the chain.
    """

    __slots__ = ("keys", "others", "results", "seconds")

    def __init__(self, steps: int) -> None:
        self.results: list[list[Any]] = [[] for _ in range(steps)]
        self.seconds = [array("d") for _ in range(steps)]
        self.keys: list[list[str | None]] = [[] for _ in range(steps)]
        self.others: dict[int, list[tuple[int, Record]] | None] = {}

    def add(self, number: int, records: list[tuple[int, Record]] | None) -> None:
        """Add the records of the next branch, None if it did not begin."""
        if records is not None and len(records) == len(self.results) and all(_fits(record) for _, record in records):
            for position, record in records:
                self.add_plain(position, record.state._raw_result, record.seconds, record.item_key)
            return
        self.others[number] = records
        for position in range(len(self.results)):
            self.add_plain(position, None, 0.0, None)

    def add_plain(self, position: int, result: Any, seconds: float, key: str | None) -> None:
        """Add the plain success of one step of the next branch."""
        self.results[position].append(result)
        self.seconds[position].append(seconds)
        self.keys[position].append(key)

    def add_called(self, called: Sequence[Called], keep: int) -> bool:
        """Add the next branch if its bodies were all called and plainly succeeded; False, with nothing added, if not.

        Parameters
        ----------
        keep
            Largest result, in bytes, that is sent beside others.
        """
        if len(called) < len(self.results):
            return False
        for one in called:
            if not one.is_plain or weight(one.outcome.value) > keep:  # type: ignore[union-attr]
                return False
        for position, one in enumerate(called):
            self.add_plain(position, one.outcome.value, one.seconds, one.ctx.key)  # type: ignore[union-attr]
        return True

    def packed(self, worker: str) -> bytes:
        """Return all of it as the content of a :class:`Batch`."""
        keys = [keys if any(keys) else None for keys in self.keys]
        return pickle.dumps((worker, self.results, self.seconds, keys, self.others), protocol=5)


def _fits(record: Record) -> bool:
    """Whether a record fits into columns."""
    return (
        record.begun and record.cost is None and is_plain(record) and type(record.state._raw_result) is not LeftOnWorker
    )


def open_batch(batch: Batch) -> BundleRecords:
    """Return the records of the branches of a batch."""
    return BundleRecords(*pickle.loads(batch.content))


def is_plain(record: Record) -> bool:
    """Whether a record is of a success that differs from others in its result alone: no message, width or lines."""
    state = record.state
    if type(state) is not Success or state.message is not SUCCEEDED or record.width is not None or record.lines:
        return False
    return state._context is None and state._cached_inputs is None
