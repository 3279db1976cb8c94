"""``task_run_name``: what a run of a task is called, by its inputs.

A name is made in the attempt, from the fields of a template or by a function, and travels in the context of the state.
It is for people: it says nothing about which child is which, so names may repeat, and one that cannot be made is
replaced by ``load[3]`` with a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from prefectish.engine.capture import Error, capture
from prefectish.errors import FlowDefinitionError, describe
from prefectish.results.checks import check_fields, known_fields
from prefectish.results.templates import Template, plain_text
from prefectish.safe_repr import printable

#: Where a state keeps the name of its run, in its context.
RUN_NAME = "task_run_name"
#: Characters of a name, at most.
MAX_NAME_LENGTH = 200


class RunNaming:
    """Makes the names of a task's runs.

    Parameters
    ----------
    wanted
        Text of a template, or a function that is called with those of the fields that it names.
    """

    __slots__ = ("_function", "_takes", "_template", "_warned")

    def __init__(self, wanted: str | Callable[..., Any]) -> None:
        self._template = Template(wanted) if isinstance(wanted, str) else None
        self._function = None if isinstance(wanted, str) else wanted
        self._takes: frozenset[str] | None = None
        self._warned = False

    def name(self, fields: Mapping[str, Any], warn: Callable[..., Any]) -> str | None:
        """Return the name of a run; None, and a warning for the first, if it cannot be made.

        Parameters
        ----------
        fields
            Of the run, its inputs among them.
        warn
            Called with a format and its arguments.
        """
        outcome = capture(self._made, fields)
        if not isinstance(outcome, Error):
            return printable(outcome.value, MAX_NAME_LENGTH)
        if not self._warned:
            self._warned = True
            warn("%s: its task_run_name could not be made: %s", fields["task_slug"], describe(outcome.exception))
        return None

    def _made(self, fields: Mapping[str, Any]) -> str:
        if self._template is not None:
            return self._template.fill(fields)
        assert self._function is not None
        if self._takes is None:
            _, accepted = _arguments(self._function)
            self._takes = frozenset(fields) if accepted is None else accepted
        made = self._function(**{name: value for name, value in fields.items() if name in self._takes})
        text = plain_text(made)
        if text is None:
            raise TypeError(f"it is to return text, and returned {type(made).__name__}")
        return text


def naming_of(task: Any) -> RunNaming | None:
    """Return what names the runs of a task; None if it has no ``task_run_name``."""
    return None if task.task_run_name is None else RunNaming(task.task_run_name)


def check_run_names(flow: Any) -> None:
    """Check the run names of all tasks of a flow.

    Raises
    ------
    FlowDefinitionError
        If a template, or a function, asks for what its task has not; it names the task, the field and those there are.
    """
    for task in flow.tasks:
        wanted = task.task_run_name
        if isinstance(wanted, str):
            check_fields(flow, task, RUN_NAME, Template(wanted))
        elif wanted is not None:
            _check_function(flow, task, wanted)


def _check_function(flow: Any, task: Any, function: Callable[..., Any]) -> None:
    required, _ = _arguments(function)
    known = known_fields(flow, task)
    unknown = sorted(required - known)
    if unknown:
        raise FlowDefinitionError(
            f"{flow.slugs[task]}: the function of its task_run_name takes {unknown[0]!r}, and there is none; there are "
            f"{', '.join(sorted(known))}"
        )


def _arguments(function: Callable[..., Any]) -> tuple[frozenset[str], frozenset[str] | None]:
    """Return the names that a function must be given, and those that it may be given, None for any."""
    from inspect import Parameter, signature

    takes = signature(function).parameters.values()
    named = [p for p in takes if p.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)]
    required = frozenset(p.name for p in named if p.default is Parameter.empty)
    anything = any(p.kind is Parameter.VAR_KEYWORD for p in takes)
    return required, None if anything else frozenset(p.name for p in named)
