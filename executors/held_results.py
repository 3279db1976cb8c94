"""Large results that stay on their workers until they are read."""

from __future__ import annotations

from typing import Any

from distributed import Future

from prefectish.engine.jobs.job import Record
from prefectish.engine.jobs.references import Held
from prefectish.engine.wire.messages import StepResult
from prefectish.executors.dask_api import Key, submit_graph
from prefectish.executors.lower import take_graph


class BatchPart:
    """Where a large result of a batch is."""

    __slots__ = ("batch", "number", "position")

    def __init__(self, batch: Future, number: int, position: int) -> None:
        self.batch = batch
        self.number = number
        self.position = position


def held_record(record: Record, label: str, handle: Any) -> Record:
    """Return a record whose result stays where it is."""
    left = record.state._result
    state = record.state.replace(result=Held(label, left.nbytes, handle, _fetch))
    return record.with_state(state)


def _fetch(handle: Any) -> Any:
    """Read a large result from the cluster."""
    if isinstance(handle, BatchPart):
        part = handle
        key: Key = (
            f"prefectish-large-result-{part.batch.key[0]}",
            f"{part.batch.key[1]}-{part.number}-{part.position}",
            0,
        )
        graph = take_graph(part.batch, part.number, part.position, key)
        handle = submit_graph(part.batch.client, graph, str(key), [key], {key: 0}, {})[key]
    sent: StepResult = handle.result()
    return sent.record.state._result
