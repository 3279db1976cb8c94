"""``dask.annotate`` around a call of a task, or around a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dask

#: What Dask calls it, and what an option of a task is called.
_OPTIONS = {"resources": "resources", "workers": "workers", "priority": "priority", "retries": "retries"}


def task_options() -> Mapping[str, Any]:
    """Return what is annotated here, as options of a task.

    Raises
    ------
    TypeError
        An annotation is a function, which Dask calls with keys: there are none yet.
    """
    found = dask.get_annotations()
    if not found:
        return {}
    options = {_OPTIONS[name]: value for name, value in found.items() if name in _OPTIONS and value is not None}
    for name, value in options.items():
        if isinstance(value, set | frozenset):
            options[name] = sorted(value)  # Dask takes workers as a set, too
        if callable(value):
            raise TypeError(
                f"dask.annotate({name}=...) around a task must be a value, got {value!r}, a function of "
                f"keys; do without it, or give the task {name}=..."
            )
    return options


def other_annotations() -> dict[str, Any]:
    """Return what is annotated here and is not an option of a task, such as a span; it is passed on to the cluster."""
    return {name: value for name, value in dask.get_annotations().items() if name not in _OPTIONS}
