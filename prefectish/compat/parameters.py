"""`prefect.Parameter`: a parameter with the arguments that it had there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from prefectish import parameters
from prefectish.compat.tasks import Task, described
from prefectish.engine.context import current
from prefectish.engine.signals import FAIL


class _NoDefault:
    """Stands for the default of a parameter that has none."""

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "no_default"

    def __reduce__(self) -> str:
        return "no_default"


no_default = _NoDefault()


class Parameter(parameters.Parameter, Task):
    """A parameter as in Prefect 1; see :class:`prefectish.Parameter`."""

    def __init__(
        self, name: str, default: Any = no_default, required: bool | None = None, tags: Iterable[str] | None = None
    ) -> None:
        self.__dict__["required"] = default is no_default if required is None else required
        given = {} if default is no_default or self.required else {"default": default}
        super().__init__(name, required=self.required, tags=tags, **given)
        self.default = None if default is no_default and not self.required else default

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "name" and value != self.__dict__.get("name", value):
            raise AttributeError(f"the name of {self!r} cannot be changed: it is its slug; make a copy('other')")
        super().__setattr__(name, value)

    def _change(self, options: Mapping[str, Any]) -> None:
        if options.get("name"):
            self.__dict__["name"] = options["name"]  # this is a copy that has no place yet
        super()._change(options)

    def run(self) -> Any:
        """Return the value in the current run, or the default; FAIL is raised if it is required and not there."""
        if self.required and self.name not in (current().get("parameters") or {}):
            raise FAIL(f'Parameter "{self.name}" was required but not provided.')
        return super().run()

    def serialize(self) -> dict[str, Any]:
        """Return what the parameter is as plain values."""
        return described_parameter(self)

    def map(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: a parameter has no arguments."""
        raise TypeError(f"{self!r} cannot be mapped; map a task over it")


def described_parameter(parameter: parameters.Parameter) -> dict[str, Any]:
    """Return what a parameter is as plain values; its default is None if it has none."""
    default = None if parameter.default is no_default else parameter.default
    return {**described(parameter), "required": parameter.required, "default": default}


class DateTimeParameter(parameters.DateTimeParameter, Parameter):
    """A parameter whose value is a date with time; see :class:`prefectish.DateTimeParameter`."""

    def __init__(self, name: str, required: bool = True, tags: Iterable[str] | None = None) -> None:
        Parameter.__init__(self, name, required=required, tags=tags)
