"""The options of `@flow` that are checked where the flow is made."""

from __future__ import annotations

import re
import string
from collections.abc import Hashable
from typing import Any

from prefectish.errors import FlowDefinitionError
from prefectish.functions.signature import BoundSignature
from prefectish.kinds import is_a


def check_texts(**given: Any) -> None:
    """Refuse words that are none."""
    for name, value in given.items():
        if not isinstance(value, str | None):
            raise FlowDefinitionError(f"{name} must be a string, got {value!r}")


def switched(name: str, value: Any, default: bool) -> bool:
    """Return whether a switch is on: what equals True or False, as 1 does; None stands for the default."""
    if value is None:
        return default
    if isinstance(value, Hashable) and value in {True, False}:
        return bool(value)
    raise FlowDefinitionError(f"{name} must be True or False, got {value!r}")


def one_executor(executor: Any, task_runner: Any) -> Any:
    """Return the executor by either of its names; FlowDefinitionError if both are given."""
    if executor is not None and task_runner is not None:
        raise FlowDefinitionError("give one of executor and task_runner: they are names of one option")
    return executor if executor is not None else task_runner


def check_run_name(run_name: Any, signature: BoundSignature) -> None:
    """Refuse a name of runs that the arguments of the flow cannot fill."""
    if run_name is None or callable(run_name):
        return
    if not isinstance(run_name, str):
        raise FlowDefinitionError(f"flow_run_name must be a template or a function, got {run_name!r}")
    fields = {
        re.split(r"[.\[]", field)[0] for _, field, _, _ in string.Formatter().parse(run_name) if field is not None
    }
    if unknown := sorted(fields - set(signature.signature.parameters)):
        raise FlowDefinitionError(
            f"flow_run_name={run_name!r} must be filled by arguments of the flow, and {', '.join(unknown)} is not one; "
            f"it takes {signature.signature}"
        )


def whole(name: str, value: Any, minimum: int) -> int:
    """Check a whole number."""
    if not is_a(value, int) or is_a(value, bool) or value < minimum:
        raise FlowDefinitionError(f"{name} must be an int >= {minimum}, got {value!r}")
    return value
