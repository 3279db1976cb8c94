"""`prefect.tasks.templates`: texts with fields, which are filled in when the flow runs."""

from __future__ import annotations

from typing import Any

from prefectish.compat.tasks import Task
from prefectish.engine.context import current
from prefectish.optional_deps import load


class _Template(Task):
    """A text with fields.

    Parameters
    ----------
    template
        The text; None if each call gives one.
    **kwargs
        As for a task.
    """

    def __init__(self, template: str | None = None, **kwargs: Any) -> None:
        self.template = template or ""
        super().__init__(**kwargs)

    def _fields(self, given: dict[str, Any]) -> dict[str, Any]:
        return {**current(), **given}


class StringFormatter(_Template):
    """Fill in the fields ``{name}`` of a text, from arguments and from the context."""

    def run(self, template: str | None = None, **format_kwargs: Any) -> str:
        """Return the text."""
        return (self.template if template is None else template).format(**self._fields(format_kwargs))


class JinjaTemplate(_Template):
    """Fill in the fields ``{{ name }}`` of a text by Jinja, from arguments and from the context."""

    def run(self, template: str | None = None, **format_kwargs: Any) -> str:
        """Return the text."""
        jinja2 = load("jinja2", "ui", "JinjaTemplate")
        return str(
            jinja2.Template(self.template if template is None else template).render(**self._fields(format_kwargs))
        )
