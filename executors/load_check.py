"""Before a large map: check once that a worker can load its bodies and items, instead of failing every child.

What a worker could load it can load again: a client does not ask for the same bodies again, as long as no worker joins.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Collection, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from distributed import Client

from prefectish.engine.capture import Error, capture
from prefectish.engine.jobs.envelope import Encoded
from prefectish.engine.jobs.job import ChainSpec, Job
from prefectish.engine.state import State
from prefectish.engine.wire.pack import HEAVY, Packer
from prefectish.errors import EnvironmentMismatch, text_of
from prefectish.executors.dask_api import Key
from prefectish.executors.lower import load_check_graph
from prefectish.process_tree import process_name

#: Children above which a map is checked.
LARGE = 100
#: How long the run waits for the check if nothing else is open, and if something is, in seconds.
IDLE_WAIT, BUSY_WAIT = 10.0, 0.5
#: Bodies of which a client knows that they can be loaded, at most.
_MOST_LOADED = 1000


class LoadFailure(NamedTuple):
    """Something that a worker could not load.

    Attributes
    ----------
    what
        ``task load-1``, or ``item load-1[17]``.
    reason
        What loading it raised.
    worker
        Where.
    """

    what: str
    reason: str
    worker: str


class Loaded:
    """Bodies that a worker has loaded, by their bytes.

    Parameters
    ----------
    workers
        Identifiers of the processes of workers, as far as they are known; one that joined has loaded nothing.
    """

    def __init__(self, workers: Collection[str]) -> None:
        self.workers = frozenset(workers)
        self._bodies: set[bytes] = set()

    def has(self, bodies: Sequence[bytes]) -> bool:
        """Whether all of these were loaded."""
        return all(_digest(body) in self._bodies for body in bodies)

    def add(self, bodies: Sequence[bytes]) -> None:
        """Note bodies that were loaded."""
        if len(self._bodies) > _MOST_LOADED:
            self._bodies.clear()
        self._bodies.update(map(_digest, bodies))


_loaded: WeakKeyDictionary[Client, Loaded] = WeakKeyDictionary()


def loaded_on(client: Client, workers: Collection[str]) -> Loaded:
    """Return what was loaded on the workers of a client, by identifiers of their processes; nothing if some are new."""
    known = _loaded.get(client)
    if known is None or not workers or not known.workers.issuperset(workers):
        known = _loaded[client] = Loaded(workers)
    return known


def _digest(body: bytes) -> bytes:
    return blake2b(body, digest_size=16).digest()


def check_chain(
    chain: ChainSpec,
    jobs: Sequence[Job],
    tasks: Mapping[int, bytes],
    loaded: Loaded,
    run: Callable[[Callable[[Key], Mapping[Key, Any]]], list[LoadFailure] | None],
) -> None:
    """Have a worker load the bodies of a chain, and the first and the last item of those that start now.

    Parameters
    ----------
    tasks
        Bytes of the bodies, by step number.
    loaded
        What need not be loaded again.
    run
        Called with a function that makes the graph of the check for a key; runs it on a worker and
        returns the failures, or None if it did not end in time.

    Raises
    ------
    EnvironmentMismatch
        A body cannot be loaded there, or neither of the items can. (If one item cannot, its child alone fails.)
    """
    bodies = [(f"task {s.label}", tasks[s.number]) for s in chain.steps if len(tasks[s.number]) <= HEAVY]
    first, last = _items(jobs[0]), _items(jobs[-1])
    contents = [content for _, content in bodies]
    if not (first or last) and loaded.has(contents):
        return
    failures = run(lambda key: load_check_graph(key, _load_all, bodies, first + last))
    if not failures:
        if failures is not None:
            loaded.add(contents)
        return
    body = next((failure for failure in failures if failure.what.startswith("task ")), None)
    if body is not None:
        raise EnvironmentMismatch(
            f"{body.what} cannot be loaded on {body.worker}: {body.reason}; install there what it needs, or define it "
            f"in the script, from where it is sent by value"
        )
    if {what for what, _ in first} & _names(failures) and {what for what, _ in last} & _names(failures):
        raise EnvironmentMismatch(
            f"{failures[0].what} and {failures[-1].what} cannot be loaded on {failures[0].worker}: "
            f"{failures[0].reason}; "
            f"install there what the items of this map need"
        )


def _names(failures: Sequence[LoadFailure]) -> set[str]:
    return {failure.what for failure in failures}


def _items(job: Job) -> list[tuple[str, Encoded]]:
    """Return the items of a branch that are pickles; simple values can be loaded anywhere."""
    packer = Packer()
    label = f"item {job.chain.steps[0].label_of(job.index)}"
    packed = (capture(packer.item, item, label) for item in job.items)
    states = [outcome.value for outcome in packed if not isinstance(outcome, Error)]
    found = [state._raw_result for state in states if isinstance(state, State)]
    return [(label, value) for value in found if isinstance(value, Encoded) and value.nbytes <= HEAVY]


def _load_all(bodies: Sequence[tuple[str, bytes]], items: Sequence[tuple[str, Encoded]]) -> list[tuple[str, str, str]]:
    """Return what cannot be loaded in this process, and why; runs on a worker."""
    tried = [(what, capture(pickle.loads, content)) for what, content in bodies]
    tried.extend((what, capture(value._load)) for what, value in items)
    return [(what, _reason(outcome), process_name()) for what, outcome in tried if isinstance(outcome, Error)]


def _reason(outcome: Error) -> str:
    error = outcome.exception.__cause__ or outcome.exception
    return f"{type(error).__name__}: {text_of(error)}"
