"""Check the names of results in a flow before it runs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from prefectish.errors import FlowDefinitionError
from prefectish.results.base import file_of, store_of
from prefectish.results.templates import CHILD_FIELDS, FIELDS, MAPPINGS, PARAMETER, UNIQUE_FIELDS, Field, Template
from prefectish.slugs import labels_of_tasks

#: Fields that no two tasks share.
_TASK_FIELDS = frozenset({"task_slug", "task_id", "task_run_id", "child_key"})
LOCATION = "the location of its result"


def check_names(flow: Any) -> None:
    """Check the templates and item keys of all tasks of a flow.

    Raises FlowDefinitionError as :func:`check_maps`; if a template has an unknown field; if two tasks would write to
    the same place; if an item key is not a mapped argument. The message names the task and a solution.
    """
    check_maps(flow)
    places: dict[Any, Any] = {}
    called = labels_of_tasks(flow.slugs)
    for task in _tasks_with_names(flow):
        for what, template in _templates(task, flow.result):
            check_fields(flow, task, called[task], what, template)
            if task.checkpoint is not False:
                _check_place(flow, task, template, places)
        _check_item_key(flow, task, called[task])


def check_maps(flow: Any) -> None:
    """Check that no mapped task would write the results of all children to the same place.

    The FlowDefinitionError names the task and fields to add to its template.
    """
    called = labels_of_tasks(flow.slugs)
    for task in _tasks_with_names(flow):
        names = _mapped_names(flow, task)
        if names is not None:
            check_map(called[task], task, flow.result, names)


def check_map(label: str, task: Any, store: Any, names: frozenset[str]) -> None:
    """Check that a mapped task, with mapped arguments of these names, would not write all results to the same place."""
    for what, template in _templates(task, store):
        if not (template.fields & (UNIQUE_FIELDS | names) or template.keys_of("context") & UNIQUE_FIELDS):
            raise FlowDefinitionError(_collision_text(label, what, template, sorted(names)))


def _tasks_with_names(flow: Any) -> Iterator[Any]:
    """Yield the tasks with user-defined names of results; skipping the others is cheap."""
    chosen = getattr(flow.result, "location", None) is not None
    parameters = flow.parameters()
    for task in flow.tasks:
        if chosen or task.result is not None or task.target is not None or task.item_key is not None:  # noqa: SIM102  the common case first
            if not task.auto_generated and task not in parameters:
                yield task


def _mapped_names(flow: Any, task: Any) -> frozenset[str] | None:
    """Return the names of a task's mapped arguments; None if it is not mapped."""
    keys = [edge.key for edge in flow.edges_to(task) if edge.mapped]
    return frozenset(key for key in keys if key is not None) if keys or task._fan_in is not None else None


def _check_item_key(flow: Any, task: Any, label: str) -> None:
    names = _mapped_names(flow, task)
    if names is not None and task.item_key is not None:
        check_item_key(label, task, names, any(_continues_map(flow, edge) for edge in flow.edges_to(task)))


def check_item_key(label: str, task: Any, names: frozenset[str], continues: bool) -> None:
    """Check that a map, with mapped arguments of these names, can have the item key of its task.

    It cannot if it `continues` another one item by item. The FlowDefinitionError says what to do.
    """
    if isinstance(task.item_key, str) and task.item_key not in names:
        known = " or ".join(map(repr, sorted(names))) or "a function of the item"
        raise FlowDefinitionError(f"{label}: item_key must be a mapped argument, got {task.item_key!r}; pass {known}")
    if continues:
        raise FlowDefinitionError(
            f"{label}: item_key={task.item_key!r} comes too late: its children continue the items of an "
            f"earlier map; put it on the first task that maps over them"
        )


def _continues_map(flow: Any, edge: Any) -> bool:
    """Whether a map continues the children of another map, one by one."""
    return edge.mapped and not edge.flattened and _mapped_names(flow, edge.upstream_task) is not None


def _check_place(flow: Any, task: Any, template: Template, places: dict[Any, Any]) -> None:
    """Reject a second task whose results would overwrite those of another."""
    inputs = _inputs(flow, task)
    if template.fields & (_TASK_FIELDS | inputs) or template.keys_of("context") & set(FIELDS):
        return  # what is known in the run only is looked at there
    is_named = template.fields & {"task_full_name", "task_run_name"}
    store = store_of(task.result, flow.result)
    pieces = _with_name(template, task.name)
    begin = next((piece for piece in pieces[:1] if isinstance(piece, str)), "")
    key = file_of(store, begin), pieces[1:] if begin else pieces, task.name if is_named else None
    other = places.setdefault(key, task)
    if other is not task:
        called = labels_of_tasks(flow.slugs)
        raise FlowDefinitionError(
            f"{called[task]}: its result would overwrite the result of {called[other]}, at "
            f"{template.text!r}; add ${{task_slug}} to it"
        )


def _with_name(template: Template, name: str) -> tuple[str | Field, ...]:
    """Return the pieces of a template in which the name of the task is text."""
    pieces: list[str | Field] = []
    for piece in template.pieces:
        text = name if piece == Field("task_name") else piece
        if isinstance(text, str) and pieces and isinstance(pieces[-1], str):
            pieces[-1] += text
        else:
            pieces.append(text)
    return tuple(pieces)


def _templates(task: Any, store: Any) -> Iterator[tuple[str, Template]]:
    if isinstance(task.target, str):
        yield "target", Template(task.target)
        return  # the result is stored there only
    location = getattr(store_of(task.result, store), "location", None)
    if isinstance(location, Template) and task.checkpoint is not False:
        yield LOCATION, location


def _inputs(flow: Any, task: Any) -> set[str]:
    return {edge.key for edge in flow.edges_to(task) if edge.key} | set(flow.constants.get(task, ()))


def known_fields(flow: Any, task: Any) -> frozenset[str]:
    """Return the fields available to a template of a task in a flow, including the names of its inputs."""
    own = set(FIELDS) - (CHILD_FIELDS if _mapped_names(flow, task) is None else set())
    inputs = task._defaults.keys() | _inputs(flow, task)
    return frozenset(own | set(MAPPINGS) | parameter_fields(_parameters(flow)) | inputs)


def parameter_fields(names: Iterable[str]) -> set[str]:
    """Return the fields of parameters: their names, and these after `PARAMETER`."""
    return {name for known in names for name in (known, PARAMETER + known)}


def _parameters(flow: Any) -> set[str]:
    return {parameter.name for parameter in flow.parameters()}


def check_fields(flow: Any, task: Any, label: str, what: str, template: Template) -> None:
    """Check that a task has the fields of a template, which the error calls `what`, next to the available fields."""
    check_known(label, what, template, known_fields(flow, task), _parameters(flow))


def check_call(label: str, task: Any, store: Any, inputs: set[str], parameters: Collection[str]) -> None:
    """Check the fields of the templates of a task that a flow function calls, given the names of its inputs."""
    known = frozenset({*FIELDS, *MAPPINGS, *task._defaults, *inputs, *parameter_fields(parameters)})
    run_name = [("task_run_name", Template(task.task_run_name))] if isinstance(task.task_run_name, str) else []
    for what, template in (*_templates(task, store), *run_name):
        check_known(label, what, template, known, parameters)


def check_known(label: str, what: str, template: Template, known: frozenset[str], parameters: Collection[str]) -> None:
    """Check that a template has known fields only, and reads parameters that there are."""
    unknown = sorted(template.fields - known)
    if unknown:
        raise FlowDefinitionError(
            f"{label}: {what} {template.text!r} has an unknown field {unknown[0]!r}; available are {listed(known)}; "
            f"what is in the context is {{context[name]}}"
        )
    missing = sorted(template.keys_of("parameters") - set(parameters))
    if missing:
        raise FlowDefinitionError(
            f"{label}: {what} {template.text!r} has an unknown parameter {missing[0]!r}; there are "
            f"{', '.join(sorted(parameters)) or 'none'}"
        )


def listed(fields: Collection[str]) -> str:
    """Return fields as text: those of every task first."""
    own = [name for name in (*FIELDS, *MAPPINGS) if name in fields]
    return ", ".join([*own, *sorted(set(fields) - set(own))])


def _collision_text(label: str, what: str, template: Template, names: list[str]) -> str:
    fields = ", ".join(f"${{{name}}}" for name in ("item_key", "map_index", *names))
    return f"{label}: {what} {template.text!r} is the same for all children of the map; add one of {fields}"
