"""`prefect.serialization`: what writes flows and their parts as plain values, and makes them anew.

The forms are those of `serialize()`. A task that is made anew has the facts of the former one, and no body.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from prefectish.compat import run_configs, states, storage
from prefectish.compat.edges import serialize as edge_as_json
from prefectish.compat.flows import Flow
from prefectish.compat.parameters import Parameter, described_parameter
from prefectish.compat.schedules import Schedule
from prefectish.compat.task_helpers import import_object
from prefectish.compat.tasks import Task, described
from prefectish.edges import Edge
from prefectish.parameters import Parameter as OwnParameter
from prefectish.schedules.as_json import from_json


class Schema:
    """Base class of what writes and reads one kind of object; `many=True` means a list of them."""

    def __init__(self, **_: Any) -> None:
        pass

    def dump(self, obj: Any, many: bool = False) -> Any:
        """Return an object, or each of a list, as plain values."""
        return [self.written(each) for each in obj] if many else self.written(obj)

    def load(self, data: Any, many: bool = False, **_: Any) -> Any:
        """Return the object, or the list of objects, of plain values."""
        return [self.made(each) for each in data] if many else self.made(data)

    def written(self, obj: Any) -> dict[str, Any]:
        """Return an object as plain values."""
        told: dict[str, Any] = obj.serialize()
        return told

    def made(self, facts: Mapping[str, Any]) -> Any:
        """Return the object of plain values."""
        raise NotImplementedError(f"{type(self).__name__} has no made()")


class StateSchema(Schema):
    """Of states."""

    def made(self, facts: Mapping[str, Any]) -> Any:
        """Return the state."""
        return states.deserialize(dict(facts))


class TaskSchema(Schema):
    """Of tasks."""

    def written(self, obj: Any) -> dict[str, Any]:
        """Return a task as plain values."""
        if isinstance(obj, OwnParameter):
            return described_parameter(obj)
        return obj.serialize() if hasattr(obj, "serialize") else described(obj)

    def made(self, facts: Mapping[str, Any]) -> Any:
        """Return a task with these facts; a parameter is one, too.

        Raises
        ------
        ValueError
            Its trigger or its validator cannot be made anew: it is no function of a module.
        """
        if "required" in facts:
            return ParameterSchema().made(facts)
        plain = ("name", "slug", "tags", "max_retries", "timeout", "skip_on_upstream_skip", "cache_key")
        options = {name: facts[name] for name in plain if facts.get(name) is not None}
        for name in ("retry_delay", "cache_for"):
            if facts.get(name) is not None:
                options[name] = timedelta(seconds=facts[name])
        for name in ("trigger", "cache_validator") if options.get("cache_for") else ("trigger",):
            if facts.get(name):
                options[name] = _function(name, facts)
        task = Task(**options)
        task.auto_generated = bool(facts.get("auto_generated"))
        return task


def _function(name: str, facts: Mapping[str, Any]) -> Any:
    """Return the trigger or the validator that the facts of a task name."""
    place, options = facts[name]["fn"], facts[name].get("kwargs")
    where = f"{name} of task {facts.get('name')!r}"
    if options is None:
        raise ValueError(f"{where} cannot be made anew: it is an object of {place}; make it a function of a module")
    function = _imported(where, place)
    try:
        made = function(**options) if options or isinstance(function, type) else function
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} cannot be made anew: {place}(**{options}): {error}") from error
    if not callable(made):
        raise ValueError(f"{where} must be a function, got {place}, which is {made!r}")
    return made


def _imported(where: str, place: str) -> Any:
    try:
        return import_object(place)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{where} cannot be made anew: {place} cannot be imported: {error}") from error


class ParameterSchema(Schema):
    """Of parameters."""

    def written(self, obj: Any) -> dict[str, Any]:
        """Return a parameter as plain values."""
        return described_parameter(obj)

    def made(self, facts: Mapping[str, Any]) -> Any:
        """Return the parameter, of the class that it had.

        Raises
        ------
        ValueError
            There is no such class, or it takes other arguments.
        """
        where = f"parameter {facts['name']!r}"
        kind = _imported(where, facts["type"]) if "type" in facts else Parameter
        if not (isinstance(kind, type) and issubclass(kind, OwnParameter)):
            raise ValueError(f"type of {where} must be a class of parameters, got {facts['type']}")
        has_default = not facts.get("required") and facts.get("default") is not None
        default = {"default": facts["default"]} if has_default else {}
        try:
            return kind(facts["name"], required=bool(facts.get("required")), tags=facts.get("tags"), **default)
        except TypeError as error:
            raise ValueError(f"{where} cannot be made anew: {facts['type']}: {error}") from error


class EdgeSchema(Schema):
    """Of edges; their tasks are known by their slugs."""

    def written(self, obj: Any) -> dict[str, Any]:
        """Return an edge as plain values."""
        return edge_as_json(obj)

    def made(self, facts: Mapping[str, Any]) -> Any:
        """Return the edge between two tasks that have nothing but a slug."""
        ends = (Task(slug=facts[name]["slug"]) for name in ("upstream_task", "downstream_task"))
        return _edge(facts, *ends)


def _edge(facts: Mapping[str, Any], upstream: Any, downstream: Any) -> Edge:
    flags = (bool(facts.get(name)) for name in ("mapped", "flattened"))
    return Edge(upstream, downstream, facts.get("key"), *flags)


class ScheduleSchema(Schema):
    """Of schedules, made of the clocks, filters and adjustments that there are."""

    def made(self, facts: Mapping[str, Any]) -> Any:
        """Return the schedule."""
        found = from_json(dict(facts))
        return Schedule(found.clocks, found.filters, found.or_filters, found.not_filters, found.adjustments)


class _Kinds(Schema):
    """Of objects of several classes, whose name is the type."""

    #: The module that has the classes.
    module: Any = None

    def made(self, facts: Mapping[str, Any]) -> Any:
        """Return the object."""
        kind = getattr(self.module, str(facts["type"]), None)
        if kind is None:
            raise ValueError(f"type must be a class of {self.module.__name__}, got {facts['type']!r}")
        known = {field.name for field in dataclasses.fields(kind) if field.init}
        made = kind(**{name: value for name, value in facts.items() if name in known})
        if "flows" in facts:
            made.flows = dict(facts["flows"])
        return made


class StorageSchema(_Kinds):
    """Of storages."""

    module = storage


class RunConfigSchema(_Kinds):
    """Of run configs."""

    module = run_configs


class FlowSchema(Schema):
    """Of flows."""

    def made(self, facts: Mapping[str, Any]) -> Any:
        """Return a flow of tasks with these facts.

        Raises
        ------
        ValueError
            A task cannot be made anew, or the schedule, which has functions of the user's own.
        """
        tasks = {task["slug"]: task for task in facts.get("tasks", ())}
        for parameter in facts.get("parameters", ()):
            tasks[parameter["slug"]] = parameter
        made = {slug: TaskSchema().made(task) for slug, task in tasks.items()}
        ends = ("upstream_task", "downstream_task")
        edges = [_edge(edge, *(made[edge[end]["slug"]] for end in ends)) for edge in facts.get("edges", ())]
        references = [made[task["slug"]] for task in facts.get("reference_tasks", ())]
        parts = {"schedule": ScheduleSchema, "storage": StorageSchema, "run_config": RunConfigSchema}
        options = {}
        for name, schema in parts.items():
            if isinstance(facts.get(name), str):
                raise ValueError(f"{name} of flow {facts['name']!r} cannot be made anew: {facts[name]} is code")
            if facts.get(name) is not None:
                options[name] = schema().made(facts[name])
        return Flow(facts["name"], tasks=made.values(), edges=edges, reference_tasks=references or None, **options)
