"""The fields of an attempt for its templates: of targets, locations and ``task_run_name``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from prefectish.results.checks import parameter_fields
from prefectish.results.templates import CHILD_FIELDS, FIELDS, MAPPINGS, PARAMETER, Items

if TYPE_CHECKING:
    from prefectish.engine.worker.attempt_context import AttemptContext


class TemplateFields(Mapping[str, Any]):
    """Fields by name: inputs, the context, parameters, defaults of the task function; each is made when it is read."""

    __slots__ = ("_ctx", "_inputs")

    def __init__(self, ctx: AttemptContext, inputs: Mapping[str, Any]) -> None:
        self._ctx = ctx
        self._inputs = inputs

    def __getitem__(self, name: str) -> Any:
        if name in self._inputs:
            return self._inputs[name]
        ctx = self._ctx
        if name in CHILD_FIELDS and ctx.index < 0:
            raise KeyError(name)
        if name == "map_index":
            return ctx.index
        if name == "item_key":
            return ctx.item_key if ctx.item_key is not None else str(ctx.index)
        if name == "task_loop_count":
            return ctx.loop_count or 1
        if name in FIELDS:
            return ctx[name]
        if name == "context":
            return ContextItems(ctx)
        if name == "parameters":
            return dict(ctx.run["parameters"])
        return self._parameter_or_default(name)

    def _parameter_or_default(self, name: str) -> Any:
        parameters = self._ctx.run["parameters"]
        for known in (name, name.removeprefix(PARAMETER)):
            if known in parameters:
                return parameters[known]
        return self._ctx.spec.task._defaults[name]

    def __iter__(self) -> Iterator[str]:
        own = set(FIELDS) - (CHILD_FIELDS if self._ctx.index < 0 else set())
        inputs = self._ctx.spec.task._defaults.keys() | self._inputs.keys()
        return iter(sorted(own | set(MAPPINGS) | parameter_fields(self._ctx.run["parameters"]) | inputs))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class ContextItems(Items):
    """The context of an attempt, of which a template reads items."""

    __slots__ = ("_ctx",)

    def __init__(self, ctx: AttemptContext) -> None:
        self._ctx = ctx

    def __getitem__(self, name: str) -> Any:
        return self._ctx[name]
