"""How jobs that a cluster has been given, and have not begun, are taken back."""

from __future__ import annotations

from collections.abc import Collection, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from prefectish.engine.jobs.job import Job
from prefectish.engine.worker.recall import Body, JobKey, begun_masks, forget, key_of, recall
from prefectish.executors.dask_api import Key, asked_on_workers

if TYPE_CHECKING:
    from distributed import Client

#: Seconds that workers have for an answer; a body that holds Python's lock holds it up.
PATIENCE = 2.0


def asked_back(client: Client, jobs: Sequence[Job], run_id: str, batch_keys: Iterable[Key]) -> Coroutine[Any, Any, Any]:
    """Return what lets no further body of jobs begin on any worker, and returns what each of them knows of them."""
    keys = [key for job in jobs for key in step_keys(job, run_id).values()]
    wanted = {"jobs": [key_of(job) for job in jobs], "keys": [*keys, *batch_keys]}
    return asked_on_workers(client, _recall_here, **wanted)


def forgotten(client: Client, run_id: str) -> Coroutine[Any, Any, Any]:
    """Return what lets all workers forget what was recalled of a run."""
    return asked_on_workers(client, forget, run_id=run_id)


def step_keys(job: Job, run_id: str) -> dict[int, Key]:
    """Return the keys of the steps of a job, by position."""
    return {p: (f"{job.chain.steps[p].slug}-{run_id}", job.index, job.submission) for p in job.positions}


def _recall_here(jobs: list[JobKey], keys: list[Key], dask_worker: Any = None) -> tuple[list[Body], list[Key]]:
    """Let no further body of jobs begin here; return those that have begun, and the keys that have ended."""
    bodies = recall(jobs)  # before the keys: one that has ended meanwhile is in one of the two
    tasks = dask_worker.state.tasks
    return bodies, [key for key in keys if key in tasks and tasks[key].state == "memory"]


def unbegun_masks(
    jobs: Sequence[Job], run_id: str, answers: Collection[tuple[list[Body], list[Key]]]
) -> tuple[dict[Job, int], set[Key]]:
    """Return the mask of the steps of each job whose bodies never begin, and the keys that have ended."""
    ended = {key for _, keys in answers for key in keys}
    begun = begun_masks(jobs, (body for bodies, _ in answers for body in bodies))
    masks: dict[Job, int] = {}
    for job in jobs:
        keys = step_keys(job, run_id)
        masks[job] = sum(1 << p for p in job.positions if not (begun[job] >> p & 1 or keys[p] in ended))
    return masks, ended
