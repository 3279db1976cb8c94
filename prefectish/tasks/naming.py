"""``task_run_name``: names of task runs from their inputs.

A name is rendered in the attempt, from a template or by a function, and recorded in the context of the state.
It is for display only: it does not identify a child, names may repeat, and if one cannot be rendered,
``load[3]`` is used, with a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from prefectish.engine.capture import Error, capture
from prefectish.errors import FlowDefinitionError, describe
from prefectish.results.checks import check_fields, known_fields, listed
from prefectish.results.templates import Template, arguments_of, call_with_fields, plain_text
from prefectish.safe_repr import printable
from prefectish.slugs import labels_of_tasks

#: Key of the name in the context of a state.
RUN_NAME = "task_run_name"
#: Maximum length of a name.
MAX_NAME_LENGTH = 200


class RunNaming:
    """Renders the names of the runs of a task, by a template or a function of the fields that it takes."""

    __slots__ = ("_function", "_template", "_warned")

    def __init__(self, wanted: str | Callable[..., Any]) -> None:
        self._template = Template(wanted) if isinstance(wanted, str) else None
        self._function = None if isinstance(wanted, str) else wanted
        self._warned = False

    def name(self, fields: Mapping[str, Any], label: str, warn: Callable[..., Any]) -> str | None:
        """Return the name of a run by its fields and inputs; None, with one warning, if it cannot be rendered."""
        outcome = capture(self._render, fields)
        if not isinstance(outcome, Error):
            return printable(outcome.value, MAX_NAME_LENGTH)
        if not self._warned:
            self._warned = True
            warn("%s: task_run_name could not be rendered: %s", label, describe(outcome.exception))
        return None

    def _render(self, fields: Mapping[str, Any]) -> str:
        if self._template is not None:
            return self._template.fill(fields)
        assert self._function is not None
        result = call_with_fields(self._function, fields)
        text = plain_text(result)
        if text is None:
            raise TypeError(f"the function must return a string, got {type(result).__name__}")
        return text


def naming_of(task: Any) -> RunNaming | None:
    """Return the `RunNaming` of a task; None if it has no ``task_run_name``."""
    return None if task.task_run_name is None else RunNaming(task.task_run_name)


def check_run_names(flow: Any) -> None:
    """Check the run names of all tasks of a flow; an error names an unknown field and the available ones."""
    called = labels_of_tasks(flow.slugs)
    for task in flow.tasks:
        wanted = task.task_run_name
        if isinstance(wanted, str):
            check_fields(flow, task, called[task], RUN_NAME, Template(wanted))
        elif wanted is not None:
            _check_function(flow, task, called[task], wanted)


def _check_function(flow: Any, task: Any, label: str, function: Callable[..., Any]) -> None:
    required, _ = arguments_of(function)
    known = known_fields(flow, task)
    unknown = sorted(required - known)
    if unknown:
        raise FlowDefinitionError(
            f"{label}: task_run_name takes an unknown field {unknown[0]!r}; available are {listed(known)}"
        )
