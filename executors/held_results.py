"""Large results that stay on their workers until they are read."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from distributed import Future

from prefectish.engine.jobs.bundle import BundleRecords
from prefectish.engine.jobs.job import Job, Record
from prefectish.engine.jobs.references import Held, LeftOnWorker
from prefectish.engine.wire.messages import Batch, StepResult, open_batch
from prefectish.executors.dask_api import Key, release, submit_graph
from prefectish.executors.lower import take_graph
from prefectish.executors.open_keys import OpenKey
from prefectish.kinds import is_a


class BatchPart:
    """Where a large result of a batch is."""

    __slots__ = ("again", "batch", "number", "position")

    def __init__(self, batch: Future, number: int, position: int, again: tuple[Any, ...] = ()) -> None:
        self.batch = batch
        self.number = number
        self.position = position
        self.again = again  # what makes it again, if the batch can lose it

    def graph(self, key: Key) -> dict[Key, Any]:
        """Return the graph that takes it out of the batch."""
        return take_graph(self.batch, self.number, self.position, key, self.again)


class HeldFuture:
    """The future of a large result, released in the order of what is sent to the scheduler.

    ``Future`` itself sends that message a turn of the client's loop later: what is submitted next would begin before,
    beside a result that nothing reads any more.
    """

    __slots__ = ("future",)

    def __init__(self, future: Future) -> None:
        self.future = future

    @property
    def key(self) -> Any:
        """Return its key."""
        return self.future.key

    def result(self) -> Any:
        """Return its value."""
        return self.future.result()

    def __del__(self) -> None:
        with suppress(Exception):  # the client is closed, or the program ends
            release(self.future.client, (self.future,))


def held_record(record: Record, label: str, handle: Any) -> Record:
    """Return a record whose result stays where it is."""
    left = record.state._raw_result
    state = record.state.replace(result=Held(label, left.nbytes, handle, _fetch))
    return record.with_state(state)


def batch_records(entry: OpenKey, batch: Batch, source: Future) -> BundleRecords:
    """Return the records of a batch, with those of its branches that were left out."""
    found = open_batch(batch)
    found.others.update(entry.refused)
    for number, records in found.others.items():
        if records is not None and any(is_a(record.state._raw_result, LeftOnWorker) for _, record in records):
            job = entry.jobs[number]
            found.others[number] = [
                (p, _with_large_result(job, number, p, record, batch, source, entry.again))
                if is_a(record.state._raw_result, LeftOnWorker)
                else (p, record)
                for p, record in records
            ]
    return found


def _with_large_result(
    job: Job, number: int, p: int, record: Record, batch: Batch, source: Future, again: tuple[Any, ...]
) -> Record:
    here = batch.large.get((number, p))
    if here is not None:
        return record.with_state(record.state.replace(result=here))
    return held_record(record, job.chain.steps[p].label_of(job.index), BatchPart(source, number, p, again))


def _fetch(handle: Any) -> Any:
    """Read a large result from the cluster."""
    if isinstance(handle, BatchPart):
        part = handle
        key: Key = (
            f"prefectish-large-result-{part.batch.key[0]}",
            f"{part.batch.key[1]}-{part.number}-{part.position}",
            0,
        )
        handle = submit_graph(part.batch.client, part.graph(key), str(key), [key], {key: 0}, {})[key]
    sent: StepResult = handle.result()
    return sent.record.state._raw_result
