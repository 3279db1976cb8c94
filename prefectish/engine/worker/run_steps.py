"""The one loop that runs steps: gather the states of a step's inputs, run one attempt, collect its record.

Every executor runs its steps here, and so do calls in the process of a flow function: in this process, on threads, in
other processes, one at a time or many rows in a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any

from prefectish.engine.capture import Error, capture
from prefectish.engine.context import bind, unbind
from prefectish.engine.jobs.job import ITEM, STEP, ChainSpec, Job, Pick, Record
from prefectish.engine.state import State, Success
from prefectish.engine.worker.attempt import PENDING, Called, run_step
from prefectish.engine.worker.decide import unread_item


def run_steps(
    chain: ChainSpec,
    positions: Iterable[int],
    index: int,
    items: Sequence[Any],
    states: MutableMapping[int, State],
    starts: Mapping[int, State],
    on_record: Callable[[int, Record], Record] | None = None,
    probe_only: bool = False,
    may_begin: Callable[[int], bool] | None = None,
    called: Sequence[Called] = (),
) -> list[tuple[int, Record]]:
    """Run steps of one row of a chain, one after another, and return their records by position.

    Parameters
    ----------
    index
        Position of the row in its map, -1 for single steps.
    items
        The inputs of the row itself: a State, a :class:`Pick`, or a bare value that stands for ``Success(value)``.
    states
        States of steps of the row that have run; those of the steps that run here are added.
    starts
        The states, other than Pending, from which steps start.
    on_record
        Called with a position and its record once later steps know the state, returns the record to collect: what
        leaves the process is packed here.
    probe_only
        Do not run bodies: see :class:`~prefectish.engine.jobs.job.Job`.
    may_begin
        Called with a position before its attempt: False if the job was recalled. None where nothing can recall it.
    called
        The bodies of the first steps, as far as they were called already.
    """
    records: list[tuple[int, Record]] = []
    for position in positions:
        start = starts.get(position, PENDING) if starts else PENDING
        if len(records) < len(called):
            upstream = gather(chain, position, items, states)
            record = run_step(chain, position, index, upstream, start, called=called[len(records)])
        elif may_begin is None or may_begin(position):
            upstream = gather(chain, position, items, states)
            record = run_step(chain, position, index, upstream, start, probe_only)
        else:
            record = Record(start, begun=False)
        states[position] = record.state
        records.append((position, record if on_record is None else on_record(position, record)))
    return records


def run_job(job: Job) -> list[tuple[int, Record]]:
    """Run the steps of a job in this process and return their records by position."""
    states = dict(job.given)
    return run_steps(job.chain, job.positions, job.index, job.items, states, job.starts, None, job.probe_only)


def gather(chain: ChainSpec, position: int, items: Sequence[Any], states: Mapping[int, State]) -> list[State]:
    """Return the state of each input of the step at `position`."""
    upstream = []
    for kind, k in chain.steps[position].wiring:
        if kind is STEP:
            upstream.append(states[k])
        elif kind is ITEM:
            item = items[k]
            upstream.append(item if issubclass(type(item), State) else _item_state(item, chain.run))
        else:
            upstream.append(chain.shared[k])
    return upstream


def _item_state(item: Any, run: Mapping[str, Any]) -> State:
    if not issubclass(type(item), Pick):
        return Success(None, item)
    token = bind(run)  # reading an item of a lazy secret looks the secret up
    try:
        outcome = capture(item.read)
    finally:
        unbind(token)
    if isinstance(outcome, Error):
        return unread_item(item.path, outcome.exception)
    return Success(None, outcome.value)
