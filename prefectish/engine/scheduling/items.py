"""Where the items of a map come from: one reader for each input that differs by row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from prefectish.engine.capture import Error, Value, capture
from prefectish.engine.deferred import Deferred
from prefectish.engine.jobs.job import Pick
from prefectish.engine.jobs.references import Held
from prefectish.engine.plan.map_domain import Measure, element_width, measure
from prefectish.engine.plan.steps import Step
from prefectish.engine.scheduling.run_state import MapState, StepState
from prefectish.engine.state import Failed, Skipped, State, Success, TriggerFailed
from prefectish.engine.worker.decide import unread_item
from prefectish.errors import text_of
from prefectish.kinds import is_a
from prefectish.tasks.collections import List, Tuple, item_name
from prefectish.tasks.mapping import LISTS, item_at, pulled

#: Gives the item of a row: a value, a state, or a reference to an item that is elsewhere.
ItemReader = Callable[[int], Any]


class ListItems:
    """Items of a list that is here."""

    __slots__ = ("_values",)

    def __init__(self, values: Any) -> None:
        self._values = values

    def __call__(self, row: int) -> Any:
        """Return the item of a row."""
        values = self._values
        return as_success_if_ambiguous(values[row]) if row < len(values) else missing_item(row)


class ReferencedItems:
    """References to the items of a result that each child reads for itself, where it runs."""

    __slots__ = ("_state",)

    def __init__(self, state: State) -> None:
        self._state = state

    def __call__(self, row: int) -> Any:
        """Return the item of a row."""
        return Pick(self._state, (row,))


class IndexedItems:
    """Items of a value that is here as a whole, so that no child takes all of it along for one item."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def __call__(self, row: int) -> Any:
        """Return the item of a row."""
        outcome = capture(item_at, self._value, row)
        if isinstance(outcome, Error):
            return unread_item((row,), outcome.exception)
        return as_success_if_ambiguous(outcome.value)


class SameItem:
    """One item for all rows: None for a list that is gone, or the error of one that cannot be read."""

    __slots__ = ("_item",)

    def __init__(self, item: State | None) -> None:
        self._item = item

    def __call__(self, row: int) -> Any:
        """Return the item of a row."""
        return self._item


class FlattenedList:
    """Elements of a flattened list, by the path of each row."""

    __slots__ = ("_map_state", "_state")

    def __init__(self, state: State, map_state: MapState) -> None:
        self._state = state
        self._map_state = map_state

    def __call__(self, row: int) -> Any:
        """Return the item of a row."""
        assert self._map_state.paths is not None
        path = self._map_state.paths[row]
        value = self._state._raw_result
        if type(value) not in LISTS:
            return Pick(self._state, path)
        item = value[path[0]]
        if len(path) == 1:
            return as_success_if_ambiguous(item)
        if type(item) in LISTS and path[1] >= 0:
            return as_success_if_ambiguous(item[path[1]])
        return Pick(Success(None, item), path[1:])


class FlattenedChildren:
    """Elements of the results of a flattened map, by the path of each row."""

    __slots__ = ("_map_state", "_source")

    def __init__(self, source: StepState, map_state: MapState) -> None:
        self._source = source
        self._map_state = map_state

    def __call__(self, row: int) -> Any:
        """Return the item of a row."""
        assert self._map_state.paths is not None and self._source.children is not None
        path = self._map_state.paths[row]
        child = self._source.children[path[0]]
        assert child is not None
        if len(path) == 1:
            return child
        value = child._raw_result
        is_here = type(value) in LISTS and path[1] >= 0
        return as_success_if_ambiguous(value[path[1]]) if is_here else Pick(child, path[1:])


class ChildrenInRow:
    """The state of the child in the same row of another mapped step."""

    __slots__ = ("_source",)

    def __init__(self, source: StepState) -> None:
        self._source = source

    def __call__(self, row: int) -> Any:
        """Return the item of a row."""
        assert self._source.children is not None
        return self._source.children[row]


class MembersInRow:
    """Members of a list of tasks of which one failed or was skipped: each child reads the state of its own."""

    __slots__ = ("_source", "_step_states")

    def __init__(self, source: StepState, step_states: Sequence[StepState]) -> None:
        self._source = source
        self._step_states = step_states

    def __call__(self, row: int) -> Any:
        """Return the item of a row."""
        step = self._source.step
        name = item_name(row)
        for i in step.inputs:
            if i.key == name:
                return self._step_states[i.source].state
        return as_success_if_ambiguous(step.constants[name])


def lacks_members(source: StepState) -> bool:
    """Whether a source is a list of tasks that was not made, since one of them failed or was skipped."""
    return isinstance(source.step.task, List | Tuple) and isinstance(source.state, TriggerFailed | Skipped)


def member_count(source: StepState) -> int:
    """Return the number of members of a list of tasks."""
    return sum(i.key is not None for i in source.step.inputs) + len(source.step.constants)


class PulledItems:
    """Items that were pulled from an iterator; they are kept only if they are read several times."""

    __slots__ = ("_is_read_once", "_map_state")

    def __init__(self, map_state: MapState, is_read_once: bool) -> None:
        self._map_state = map_state
        self._is_read_once = is_read_once

    def __call__(self, row: int) -> Any:
        """Return the item of a row."""
        items = self._map_state.items
        return items.pop(row) if self._is_read_once else items[row]


class YieldedItems:
    """Items that a generator yielded while it ran; those that were not sent by then are read from its result."""

    __slots__ = ("_is_read_once", "_map_state", "_source")

    def __init__(self, map_state: MapState, source: StepState, is_read_once: bool) -> None:
        self._map_state = map_state
        self._source = source
        self._is_read_once = is_read_once

    def __call__(self, row: int) -> Any:
        """Return the item of a row."""
        items = self._map_state.items
        if row in items:
            return items.pop(row) if self._is_read_once else items[row]
        state = self._source.state
        return Pick(state, (row,)) if state.is_successful() else state


def items_of(source: StepState, width: int) -> ItemReader:
    """Return the reader of the items of a finished step that is not mapped, for so many rows."""
    state = source.state
    value = state._raw_result
    if value is None:  # a list that is gone, of children that the caller gave
        return SameItem(None)
    if type(value) in LISTS:
        return value.__getitem__ if len(value) >= width and _is_plain(value) else ListItems(value)
    if source.step.literal is None or is_a(value, Held):
        return ReferencedItems(state)
    if is_a(value, Deferred):  # the result of a call, in its envelope: it is opened here once, not by each child
        opened = capture(value.get)
        if is_a(opened, Error):
            return SameItem(Failed(text_of(opened.exception), opened.exception))
        value = opened.value
    return IndexedItems(value)


def _is_plain(values: Any) -> bool:
    """Whether no item of a list would be taken for a state or a reference: then the list reads its items itself."""
    return type(values) is range or not any(issubclass(kind, State | Pick) for kind in set(map(type, values)))


def pulled_item(item: Any) -> Any:
    """Return an item that an iterator gave, or the error of one that no task takes."""
    outcome = capture(pulled, item)
    if isinstance(outcome, Error):
        return unread_item((), outcome.exception)
    return as_success_if_ambiguous(item)


def missing_item(row: int) -> Failed:
    """Return what stands for the item of a list that became shorter after its items were counted."""
    return unread_item((row,), IndexError("the list became shorter after the map began"))


def as_success_if_ambiguous(item: Any) -> Any:
    """Wrap a user's value that would be taken for a state or a reference of the engine."""
    return Success(None, item) if is_a(item, (State, Pick)) else item


def length_of(step: Step, state: State) -> Any:
    """Return the length of a result that was not made in this run, for a map over it; None if unknown or not needed."""
    depth = step.measure
    if not state.is_successful() or not depth or (step.mapped and depth < Measure.ELEMENTS):
        return None
    outcome = capture(lambda: element_width(state.result) if step.mapped else measure(state.result, depth))
    return outcome.value if isinstance(outcome, Value) else None
