"""Before a large map: whether a worker can load its bodies and its items, tried once instead of by every child."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from prefectish.engine.capture import Error, capture
from prefectish.engine.jobs.envelope import Encoded
from prefectish.engine.jobs.job import ChainSpec, Job
from prefectish.engine.process_tree import process_name
from prefectish.engine.state import State
from prefectish.engine.wire.pack import HEAVY, Packer
from prefectish.errors import EnvironmentMismatch, text_of
from prefectish.executors.lower import Key, trial_graph

#: Children from which on a map is worth a trial.
LARGE = 100
#: How long the run waits for the outcome if it has nothing else to do, and if it has, in seconds.
IDLE_WAIT, BUSY_WAIT = 10.0, 0.5


class LoadFailure(NamedTuple):
    """Something that a worker could not load.

    Attributes
    ----------
    what
        ``task load-1``, or ``item load-1[17]``.
    reason
        What loading it raised.
    worker
        where.
    """

    what: str
    reason: str
    worker: str


def try_chain(
    chain: ChainSpec,
    jobs: Sequence[Job],
    tasks: Mapping[int, bytes],
    run: Callable[[Callable[[Key], Mapping[Key, Any]]], list[LoadFailure] | None],
) -> None:
    """Have a worker load the bodies of a chain, and the first and the last item of those that start now.

    Parameters
    ----------
    tasks
        Bytes of the bodies, by step number.
    run
        Runs the graph that it is given a key for on a worker, and returns what came of it; None if nothing came in
        time.

    Raises
    ------
    EnvironmentMismatch
        A body cannot be loaded there, or neither of the items can. (One alone is that child's fault.)
    """
    bodies = [(f"task {s.slug}", tasks[s.number]) for s in chain.steps if len(tasks[s.number]) <= HEAVY]
    first, last = _items(jobs[0]), _items(jobs[-1])
    faults = run(lambda key: trial_graph(key, load_all, bodies, first + last))
    if not faults:
        return
    body = next((fault for fault in faults if fault.what.startswith("task ")), None)
    if body is not None:
        raise EnvironmentMismatch(
            f"{body.what} cannot be loaded on {body.worker}: {body.reason}; install there what it needs, or define it "
            f"in the script, from where it travels by value"
        )
    if {what for what, _ in first} & _names(faults) and {what for what, _ in last} & _names(faults):
        raise EnvironmentMismatch(
            f"{faults[0].what} and {faults[-1].what} cannot be loaded on {faults[0].worker}: {faults[0].reason}; "
            f"install there what the items of this map need"
        )


def _names(faults: Sequence[LoadFailure]) -> set[str]:
    return {fault.what for fault in faults}


def _items(job: Job) -> list[tuple[str, Encoded]]:
    """Return the items of a branch that are not of a kind that loads anywhere."""
    packer = Packer()
    label = f"item {job.chain.steps[0].label(job.index)}"
    packed = (capture(packer.item, item, label) for item in job.items)
    states = [outcome.value for outcome in packed if not isinstance(outcome, Error)]
    found = [state._result for state in states if isinstance(state, State)]
    return [(label, value) for value in found if isinstance(value, Encoded) and value.nbytes <= HEAVY]


def load_all(bodies: Sequence[tuple[str, bytes]], items: Sequence[tuple[str, Encoded]]) -> list[tuple[str, str, str]]:
    """Return what cannot be loaded in this process, and why; runs on a worker."""
    tried = [(what, capture(pickle.loads, content)) for what, content in bodies]
    tried.extend((what, capture(value._load)) for what, value in items)
    return [(what, _reason(outcome), process_name()) for what, outcome in tried if isinstance(outcome, Error)]


def _reason(outcome: Error) -> str:
    error = outcome.exception.__cause__ or outcome.exception
    return f"{type(error).__name__}: {text_of(error)}"
