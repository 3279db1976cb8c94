"""Options of later Prefects under their names there, and what to write for those that a task does not have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefectish.engine.retries import ExponentialBackoff

#: Options with another name here.
SAME = {
    "log_prints": "log_stdout",
    "timeout_seconds": "timeout",
    "persist_result": "checkpoint",
    "retry_jitter_factor": "retry_jitter",
}
#: What to write for options of later Prefects that are not here, of tasks and of flows.
INSTEAD = {
    "cache_result_in_memory": "results stay in memory as long as they are needed; leave it out",
    "on_cancellation": "write state_handlers=[...], called with (object, old state, new state)",
    "on_commit": "there are no transactions; write on_completion=[...]",
    "on_crashed": "write state_handlers=[...], called with (object, old state, new state)",
    "on_rollback": "there are no transactions; write on_failure=[...]",
    "on_running": "write state_handlers=[...], called with (object, old state, new state)",
    "result_serializer": "write result=LocalResult(..., serializer=...)",
    "result_storage": "write result=LocalResult(...), or FSResult(...)",
    "result_storage_key": "write target=..., or result=LocalResult(..., location=...)",
    "version": "a version is the hash of the code; leave it out",
    "viz_return_value": "leave it out: nothing has to run for a picture",
}


def hint(name: str) -> str:
    """Return what to write for an option of a later Prefect, empty for any other name."""
    return f"; {INSTEAD[name]}" if name in INSTEAD else ""


def translated(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return options under their names here.

    Raises
    ------
    ValueError
        An option is passed under both of its names.
    """
    options = dict(given)
    for name, ours in SAME.items():
        value = options.pop(name, None)
        if value is None:
            continue
        if options.get(ours) is not None:
            raise ValueError(f"{name}={value!r} and {ours}={options[ours]!r} set the same option; pass one")
        options[ours] = value
    policy = options.pop("cache_policy", None)
    if policy is not None:
        if options.get("cache_key_fn") is not None:
            raise ValueError("cache_policy and cache_key_fn both say what a result is cached by; pass one of them")
        from prefectish.cache_policies import key_function

        options["cache_key_fn"] = key_function(policy)
    return options


def exponential_backoff(backoff_factor: float) -> ExponentialBackoff:
    """Return delays for ``retry_delay_seconds=`` that double: the factor before the first retry, then twice as much.

    Examples
    --------
    >>> delay = exponential_backoff(10)
    >>> delay(1), delay(2), delay(3)
    (10.0, 20.0, 40.0)
    """
    return ExponentialBackoff(backoff_factor)
