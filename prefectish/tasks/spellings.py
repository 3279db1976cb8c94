"""Options of later Prefects under their names there, and what to write for those that a task does not have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefectish.tasks.retries import ExponentialBackoff

#: Options with another name here.
SAME = {
    "log_prints": "log_stdout",
    "timeout_seconds": "timeout",
    "persist_result": "checkpoint",
    "retry_jitter_factor": "retry_jitter",
}


def hint(name: str) -> str:
    """Return what to write for an option of another Prefect, empty for any other name."""
    from prefectish.prefect_names import OPTIONS

    return f"; {OPTIONS[name]}" if name in OPTIONS else ""


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
