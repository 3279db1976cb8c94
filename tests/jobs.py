"""Jobs of a flow as its run submits them first, for tests of what packs and runs them."""

from __future__ import annotations

from datetime import UTC, datetime

from prefectish.engine.clock import Now
from prefectish.engine.jobs.job import taken_back
from prefectish.engine.plan.compile import compile_flow
from prefectish.engine.scheduling.progress import Progress

FACTS = {"flow_run_id": "a", "flow_name": "a flow"}


def jobs_of(flow, window=1000):
    """Return the plan of a flow, and the jobs that its run submits before the first receipt."""
    plan = compile_flow(flow, {})
    progress = Progress(plan, dict(FACTS), notify=lambda run, old, new: new, window=window)
    return plan, progress.start(Now(0.0, datetime.now(UTC)))


def advanced(progress, receipts, now):
    """Advance as the loop does, with a session in which all that was submitted has begun."""
    jobs = progress.advance(receipts, now)
    while progress.run_state.recalled or progress.run_state.after_recall:
        unsent = [job for job in jobs if job in progress.run_state.recalled]
        sent = [job for job in jobs if job not in unsent]
        progress.run_state.recalled.clear()
        jobs = sent + progress.advance(map(taken_back, unsent), now)
    return jobs
