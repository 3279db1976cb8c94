"""Chains of single tasks that are one Dask task, where there are many more of them than threads.

Each step of a chain is a Dask task of its own, which costs a fraction of a millisecond in each process. Where chains
wait for threads anyway, and their bodies are short, that is most of what they cost, and no thread is kept busy by it.
So such a chain is sent whole. What follows a long body comes back and is sent step by step, and so is a chain whose
worker died.
"""

from __future__ import annotations

from prefectish.engine.jobs.bundle import Bundle
from prefectish.engine.jobs.job import CALL, STEP, ChainSpec, Job, StepSpec

#: Jobs for each thread of the cluster, from which on chains go whole.
CROWD = 8
#: Number of a bundle that is one chain of single tasks; those of batches are larger.
WHOLE = 0


def goes_whole(job: Job) -> bool:
    """Whether a job, one of many, can go as one Dask task: all of a chain in which each step reads the one before.

    Only the last may be read elsewhere.
    """
    chain = job.chain
    if job.index >= 0 or len(job.positions) < 2 or len(job.positions) < len(chain.steps) or job.submission:
        return False
    if job.solo or job.every_step or job.probe_only or job.starts or chain.steps[0].precedence == CALL:
        return False  # each step is asked for by itself, or starts from a state of its own
    return not _is_read_elsewhere(chain) and all(_fits(chain, n, spec) for n, spec in enumerate(chain.steps))


def _is_read_elsewhere(chain: ChainSpec) -> bool:
    """Whether steps outside a chain read one that has others behind it: they would wait for those, too."""
    again = {k for spec in chain.steps if spec.task.max_retries for kind, k in spec.wiring if kind is STEP}
    return any(position < len(chain.steps) - 1 and position not in again for position in chain.wanted)


def _fits(chain: ChainSpec, position: int, spec: StepSpec) -> bool:
    """Whether a step may have others before it in one Dask task."""
    task = spec.task
    if spec.expected is not None or spec.differs or task.crash_retries or not task.rerun_on_loss:
        return False  # where it runs, and what its worker's death means, is a matter of its own
    return position == 0 or (STEP, position - 1) in spec.wiring


def whole(job: Job) -> Bundle:
    """Return a job as it is sent whole."""
    bundle = Bundle(WHOLE, job.chain, [job.index], None, [job])
    bundle.turn = job.turn
    return bundle


def place_of(bundle: Bundle) -> int | str:
    """Return what distinguishes the key of a bundle from others of its first step.

    A whole chain has the key of that step by itself, by which notes of what a worker runs are read.
    """
    return bundle.rows[0] if bundle.number == WHOLE else f"batch-{bundle.number}"
