"""Jobs of a flow as its run submits them first, for tests of what packs and runs them."""

from __future__ import annotations

from datetime import UTC, datetime

from prefectish.engine.clock import Now
from prefectish.engine.plan.compile import compile_flow
from prefectish.engine.scheduling.progress import Progress

FACTS = {"flow_run_id": "a", "flow_name": "a flow"}


def jobs_of(flow, window=1000):
    """Return the plan of a flow, and the jobs that its run submits before the first receipt."""
    plan = compile_flow(flow, {})
    progress = Progress(plan, FACTS, notify=lambda run, old, new: new, window=window)
    return plan, progress.start(Now(0.0, datetime.now(UTC)))
