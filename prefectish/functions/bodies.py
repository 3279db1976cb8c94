"""Bodies of tasks must not wait for the run that waits for them."""

from __future__ import annotations

from typing import Any

from prefectish.engine.context import current
from prefectish.errors import PrefectishError


def refuse_in_body(future: Any) -> None:
    """Refuse to wait for a future in a body of its own run, on whatever executor, and whether it has ended or not.

    It may wait for ever, if what it waits for needs the thread of the body; where bodies run in other processes, it
    cannot be there at all.
    """
    context = current()
    attempt = getattr(context, "attempt", None)
    if attempt is None and "task_run_id" not in context:
        return
    run_id = future._run.control.run_id
    facts = context if attempt is None else attempt.run
    in_own_body = attempt is not None and facts.get("flow_run_id") == run_id
    # A run inside a body has the facts of the body around it.
    if in_own_body or str(facts.get("task_run_id", "")).startswith(f"{run_id}-"):
        raise PrefectishError(
            f"{future.name} cannot be waited for in the body of a task of its own run; pass the future as an argument, "
            f"at any depth of lists and dicts: the task then starts when the future has ended, and gets its result"
        )
