"""Load what the command line names: flows from files, executors, parameter values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from prefectish.config import EXECUTORS, executor_named
from prefectish.errors import FlowDefinitionError, ParameterError


def load_executor(name: str | None, address: str | None) -> Any:
    """Return an executor by its short name; None for the flow's own."""
    if address is not None and name not in (None, "dask"):
        raise FlowDefinitionError(f"--address requires --executor dask, got --executor {name}")
    if name is None and address is None:
        return None
    if name is not None and name not in EXECUTORS:
        raise FlowDefinitionError(f"--executor must be one of {', '.join(EXECUTORS)}, got {name}")
    return executor_named(name or "dask", **({"address": address} if address else {}))


def parse_parameters(pairs: Sequence[str]) -> dict[str, Any]:
    """Parse parameters of the form ``key=value``; values are parsed as JSON if possible.

    Examples
    --------
    >>> parse_parameters(["n=3", "name=eu", "flags=[1, true]"])
    {'n': 3, 'name': 'eu', 'flags': [1, True]}
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise ParameterError(f"--param must be key=value, got {pair}")
        values[key] = parse_value(text)
    return values


def parse_value(text: str) -> Any:
    """Parse a text as JSON; return it unchanged if it is not JSON.

    Examples
    --------
    >>> parse_value("[1, true]"), parse_value("eu")
    ([1, True], 'eu')
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
