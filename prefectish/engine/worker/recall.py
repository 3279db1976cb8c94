"""What a worker process knows of jobs that were recalled: their bodies do not begin any more; which ones have begun.

No body waits for another here. A step is noted as begun before it looks whether its job was recalled; a recall is
noted before it looks what has begun. Whichever comes second sees the other. Threads of the client do the same with the
job itself (``PoolJob.may_begin`` of ``executors/pool_jobs.py``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from threading import get_ident

from prefectish.engine.jobs.job import ChainSpec, Job

#: Names a chain among those of all runs: run id and number.
ChainKey = tuple[str | None, int]
#: A job: its chain, its row and its submission.
JobKey = tuple[ChainKey, int, int]
#: A body of a job: the same, and the position of its step.
Body = tuple[ChainKey, int, int, int]
#: Bodies that a process remembers as begun after their end: many more than can have ended without the client knowing.
REMEMBERED = 4096

#: The last body that began in each thread of this process, and those that began last in all of them.
latest: dict[int, Body] = {}
begun: deque[Body] = deque(maxlen=REMEMBERED)
#: Rows and submissions of the jobs that were recalled, by chain; empty unless a run was stopped, paused or limited.
recalled: dict[ChainKey, set[tuple[int, int]]] = {}
#: Whether the Dask task that this thread runs was cancelled, as the executor knows; None where it cannot.
is_dropped: Callable[[], bool] | None = None


def may_begin(chain: ChainSpec, index: int, submission: int, position: int) -> bool:
    """Note that a body begins; False, with nothing noted, if its job was recalled."""
    body = (chain.key, index, submission, position)
    latest[get_ident()] = body
    begun.append(body)
    if recalled and (index, submission) in recalled.get(chain.key, ()):
        del latest[get_ident()]
        begun.remove(body)
        return False
    return True


def recall(jobs: Iterable[JobKey]) -> list[Body]:
    """Let no further body of these jobs begin in this process; return those that have begun."""
    wanted = set(jobs)
    for chain, index, submission in wanted:
        recalled.setdefault(chain, set()).add((index, submission))
    return [body for body in {*list(latest.values()), *list(begun)} if body[:3] in wanted]


def forget(run_id: str) -> None:
    """Forget what was recalled of a run that has ended."""
    for chain in [chain for chain in list(recalled) if chain[0] == run_id]:
        recalled.pop(chain, None)


def forget_others(jobs: Iterable[JobKey]) -> None:
    """Forget what was recalled of other runs than that of these jobs."""
    run_ids = {chain[0] for chain, _, _ in jobs}
    for chain in [chain for chain in list(recalled) if chain[0] not in run_ids]:
        recalled.pop(chain, None)


def key_of(job: Job) -> JobKey:
    """Return what names a job in any process."""
    return job.chain.key, job.index, job.submission


def begun_masks(jobs: Sequence[Job], bodies: Iterable[Body]) -> dict[Job, int]:
    """Return the masks of the positions that have begun, by job.

    Parameters
    ----------
    jobs
        Jobs that were recalled, those of a batch in its order: if one of them has begun, all before it have.
    """
    masks: dict[JobKey, int] = {}
    for chain, index, submission, position in bodies:
        key = chain, index, submission
        masks[key] = masks.get(key, 0) | 1 << position
    found: dict[Job, int] = {}
    begun_batches: set[int] = set()
    for job in reversed(jobs):
        found[job] = -1 if job.batch in begun_batches else masks.get(key_of(job), 0)
        if found[job] and job.batch is not None:
            begun_batches.add(job.batch)
    return found
