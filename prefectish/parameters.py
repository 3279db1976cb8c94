"""Parameters: the arguments of a flow, and which values a run gives them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

from prefectish.engine.context import current
from prefectish.errors import FlowDefinitionError, ParameterError
from prefectish.tasks.task import Task

if TYPE_CHECKING:
    from prefectish.flows import Flow

_ABSENT: Any = object()


class Parameter(Task):
    """A value that is given when the flow is run.

    Parameters
    ----------
    name
        The keyword of `flow.run`; also its slug, so a flow has one parameter of a name.
    default
        The value of a run that gives none; without a default the parameter is required.
    required
        False: the value is None where no run and no default gives one.
    tags
        As for a task.

    Raises
    ------
    FlowDefinitionError
        If it is required and yet has a default.
    """

    def __init__(
        self, name: str, default: Any = _ABSENT, required: bool | None = None, tags: Iterable[str] | None = None
    ) -> None:
        if not name or not isinstance(name, str):
            raise FlowDefinitionError(f"a parameter needs a name, got {name!r}")
        if required and default is not _ABSENT and default is not None:
            raise FlowDefinitionError(f"parameter {name!r} is required, so its default {default!r} is never used")
        self.required = default is _ABSENT if required is None else required
        self.default = None if default is _ABSENT else default
        super().__init__(name, slug=name, tags=tags)

    def run(self) -> Any:
        """Return the value in the current run, else the default."""
        return (current().get("parameters") or {}).get(self.name, self.default)

    def __call__(self, /, *args: Any, flow: Flow | None = None, **kwargs: Any) -> Self:
        """Add the parameter itself to a flow: there is no second one of its name."""
        if args or kwargs:
            raise TypeError(f"{self!r} takes no arguments when it is called")
        self._flow(flow).add_task(self)
        return self

    def copy(self, name: str | None = None, **options: Any) -> Self:
        """Copy the parameter under a new name.

        Raises
        ------
        FlowDefinitionError
            If there is no new name.
        """
        if not name or name == self.name:
            raise FlowDefinitionError(f"a copy of {self!r} needs a name of its own: copy('other')")
        return super().copy(**{"slug": name, **options, "name": name})

    def __repr__(self) -> str:
        return f"<Parameter: {self.name}>"


def settle(parameters: Iterable[Parameter], given: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
    """Give every parameter its value for a run: given, else the context's, else its default.

    Returns
    -------
    dict
        A value for each parameter, by name.

    Raises
    ------
    ParameterError
        ``missing: x; unknown: y``.
    """
    known = {p.name: p for p in parameters}
    missing = sorted(n for n, p in known.items() if p.required and n not in given and n not in context)
    unknown = sorted(given.keys() - known.keys())
    faults = [f"{word}: {', '.join(names)}" for word, names in (("missing", missing), ("unknown", unknown)) if names]
    if faults:
        raise ParameterError("; ".join(faults))
    return {name: given[name] if name in given else context.get(name, p.default) for name, p in known.items()}
