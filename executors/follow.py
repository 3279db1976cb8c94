"""Jobs that read what other jobs make while these are open: Dask starts them when it is made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from prefectish.engine.capture import Error, capture
from prefectish.engine.jobs.job import Job, Upcoming
from prefectish.executors.dask_api import Key
from prefectish.executors.open_keys import Graphs, Sending

if TYPE_CHECKING:
    from distributed import Future


def upcoming_key(upcoming: Upcoming, run_id: str) -> Key:
    """Return the key of what another job makes."""
    job = upcoming.job
    return (f"{job.chain.steps[upcoming.position].slug}-{run_id}", job.index, job.submission)


def followed_keys(job: Job, run_id: str) -> list[Key]:
    """Return the keys of the open jobs that a job reads."""
    return [upcoming_key(item, run_id) for item in job.items if type(item) is Upcoming]


def beside(keys: Iterable[Key], sending: Sending, graphs: Graphs) -> Sending:
    """Return how a job is sent that reads keys: in one graph with them, if they are about to go to the same place."""
    for other, (graph, _) in graphs.items():
        if other._replace(ahead=None) == sending and any(key in graph for key in keys):
            return other
    return sending


def is_blamed(future: Future, key: Key) -> bool:
    """Whether Dask gave up a key because workers died that ran it, and not what it reads."""
    outcome = capture(future.result, timeout=10)
    return isinstance(outcome, Error) and getattr(outcome.exception, "task", None) == key
