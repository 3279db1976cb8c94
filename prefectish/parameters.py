"""Parameters: the arguments of a flow and their values in a run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Any, Self

from prefectish.engine.context import current
from prefectish.errors import FlowDefinitionError, ParameterError
from prefectish.safe_repr import printable
from prefectish.tasks.task import Task
from prefectish.validation import adapter_for, checked, closest, refusal

if TYPE_CHECKING:
    from prefectish.tasks.recording import RecordingFlow

_ABSENT: Any = object()


class Parameter(Task):
    """An argument of a flow, with a value for each run.

    Parameters
    ----------
    name
        The keyword of `flow.run` and the slug of the task, so names of parameters are unique in a flow.
    default
        The value if a run passes none; without a default the parameter is required.
    required
        False: the value is None if neither the run nor a default gives one.
    tags
        As for a task.
    type
        Type of the value: any annotation (`int`, `list[str]`, `int | None`, a pydantic
        model). The value of a run is converted to it if that is lossless (``"3"`` to 3), else the run is rejected.
        Needs the extra `typed`.

    Raises
    ------
    FlowDefinitionError
        If it is required and has a default, or the type is not supported.
    ParameterError
        If the default does not have the type.
    """

    def __init__(
        self,
        name: str,
        default: Any = _ABSENT,
        required: bool | None = None,
        tags: Iterable[str] | None = None,
        type: Any = None,
    ) -> None:
        if not name or not isinstance(name, str):
            raise FlowDefinitionError(f"name of a parameter must be a non-empty string, got {name!r}")
        if required and default is not _ABSENT and default is not None:
            raise FlowDefinitionError(f"parameter {name!r} is required, so its default {default!r} is never used")
        self.required = default is _ABSENT if required is None else required
        self.default = None if default is _ABSENT else default
        self.type = type
        super().__init__(name, slug=name, tags=tags)
        if type is not None:
            adapter_for(name, type)
        if self.default is not None:
            self._converted(self.default)

    @property
    def annotation(self) -> Any:
        """Return the type that forms ask for; None if any value will do."""
        return self.type

    def accept(self, value: Any) -> Any:
        """Convert a value to the type of the parameter; None passes unchecked if it is the default.

        Raises
        ------
        ParameterError
            ``parameter 'n' must be int, got 'many': ...``.
        """
        if value is None and self.default is None and not self.required:
            return None
        return self._converted(value)

    def _converted(self, value: Any) -> Any:
        return value if self.type is None else checked(self.name, self.type, value)

    def run(self) -> Any:
        """Return the value in the current run, or the default."""
        return self.accept((current().get("parameters") or {}).get(self.name, self.default))

    def __call__(self, /, *args: Any, flow: RecordingFlow | None = None, **kwargs: Any) -> Self:
        """Add the parameter itself, not a copy, to a flow."""
        if args or kwargs:
            raise TypeError(f"{self!r} takes no arguments when called")
        self._flow(flow).add_task(self)
        return self

    def copy(self, name: str, **options: Any) -> Self:  # type: ignore[override]  # a flow has one parameter of a name
        """Copy the parameter under a new name.

        Raises
        ------
        FlowDefinitionError
            If the name is the same.
        """
        if not name or name == self.name:
            raise FlowDefinitionError(f"a copy of {self!r} must have another name, got {name!r}; pass copy('other')")
        return super().copy(**{"slug": name, **options, "name": name})

    def __repr__(self) -> str:
        return f"<Parameter: {printable(self.name)}>"


class DateTimeParameter(Parameter):
    """A parameter whose value is a date with time: a datetime, or a string in ISO 8601.

    Tasks receive an aware datetime. Without a time zone the value is read as UTC, without a time of day as midnight.

    Parameters
    ----------
    name, default, required, tags
        As for :class:`Parameter`.

    Examples
    --------
    >>> DateTimeParameter("since").accept("2026-03-01T12:00+02:00").isoformat()
    '2026-03-01T12:00:00+02:00'
    >>> DateTimeParameter("since").accept("2026-03-01").isoformat()
    '2026-03-01T00:00:00+00:00'
    """

    def __init__(
        self, name: str, default: Any = _ABSENT, required: bool | None = None, tags: Iterable[str] | None = None
    ) -> None:
        super().__init__(name, default, required, tags)

    @property
    def annotation(self) -> Any:
        """Return the type that forms ask for."""
        return datetime

    def _converted(self, value: Any) -> datetime:
        moment = self._parsed(value) if isinstance(value, str) else value
        if isinstance(moment, date) and not isinstance(moment, datetime):
            moment = datetime.combine(moment, time())
        if not isinstance(moment, datetime):
            raise refusal(self.name, value, "a date with time", "pass a datetime or a string")
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)

    def _parsed(self, text: str) -> datetime:
        try:
            return datetime.fromisoformat(text.strip())
        except ValueError:
            raise refusal(self.name, text, "a date with time", "pass a string like 2026-03-01T12:00+02:00") from None


#: Options of a run, by keyword beside its parameters: one that is misspelt is taken for a parameter.
RUN_OPTIONS = (
    "check_inputs", "context", "detach", "executor", "flow_run_name", "history", "keep_results", "on_pause", "page",
    "parameters", "progress", "refresh_cache", "run_on_schedule", "state", "story", "task_states", "timeout",
)  # fmt: skip


def settle(parameters: Iterable[Parameter], given: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of all parameters for a run, converted to their types: given, from the context, or the default.

    A ParameterError says ``missing: x; unknown: y``, or the fault of each value.
    """
    known = {p.name: p for p in parameters}
    missing = sorted(n for n, p in known.items() if p.required and n not in given and n not in context)
    unknown = sorted(given.keys() - known.keys())
    faults = [f"{word}: {', '.join(names)}" for word, names in (("missing", missing), ("unknown", unknown)) if names]
    if faults:
        meant = [
            f"did you mean {near!r}, not {name!r}?"
            for name in unknown
            if (near := closest(name, (*known, *RUN_OPTIONS)))
        ]
        raise ParameterError("; ".join([*faults, *meant]))
    values = {name: given[name] if name in given else context.get(name, p.default) for name, p in known.items()}
    return _accept_all(known, values)


def settle_run(
    parameters: Collection[Parameter],
    given: Mapping[str, Any] | None,
    more: Mapping[str, Any],
    run_context: Mapping[str, Any] | None,
    defaults: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the values of all parameters for a run: given, from a context, a default of its event, or their own."""
    for name, values in (("parameters", given), ("context", run_context)):
        if values is not None and not isinstance(values, Mapping):
            raise TypeError(f"{name} must be a dict of values by name, got {values!r}")
    unknown = sorted(defaults.keys() - {parameter.name for parameter in parameters})
    if unknown:
        raise ParameterError(f"parameter_defaults of the schedule: unknown: {', '.join(unknown)}")
    around = {**defaults, **(current().get("parameters") or {}), **((run_context or {}).get("parameters") or {})}
    return settle(parameters, {**(given or {}), **more}, around)


def _accept_all(parameters: Mapping[str, Parameter], values: Mapping[str, Any]) -> dict[str, Any]:
    accepted, faults = {}, []
    for name, value in values.items():
        try:
            accepted[name] = parameters[name].accept(value)
        except ParameterError as error:
            faults.append(str(error))
    if faults:
        raise ParameterError("; ".join(faults))
    return accepted
