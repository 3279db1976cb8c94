"""The value of a state: its result, or an exception that says why it has none."""

from __future__ import annotations

from collections.abc import MutableSet, Sequence
from typing import Any

from prefectish.engine.jobs.references import Held
from prefectish.engine.state import Failed, Mapped, State, TriggerFailed
from prefectish.engine.state_column import deferred_rows, plain_results, replaced
from prefectish.errors import TaskRunFailed, text_of
from prefectish.functions.settled import Settled
from prefectish.kinds import is_a


def value_of(state: State, label: str, sources: Sequence[Settled] = ()) -> Any:
    """Return the result of a successful state of `label`, else raise what the body raised.

    Raises :class:`TaskRunFailed` where no exception of the body's says why there is no result, with the first cause
    among its `sources` as its ``__cause__``.
    """
    if isinstance(state, Mapped):
        if (plain := plain_results(state.map_states)) is not None:
            return plain
        return [value_of(child, f"{label}[{i}]") for i, child in enumerate(state.map_states or ()) if child is not None]
    if state.is_successful():
        return state.result
    error = state.result if isinstance(state, Failed) and not isinstance(state, TriggerFailed) else None
    if is_a(error, Exception):
        raise error
    raise not_finished_error(state, label, sources) from (error if is_a(error, BaseException) else first_cause(sources))


def owned(state: State, copies: MutableSet[Held]) -> State:
    """Return a state for the user, who may read its result when the run has let go of it; `copies` are noted."""
    result = state._raw_result
    if is_a(result, Held):
        again = result.held_again()
        if again is None:
            return state
        copies.add(again)
        return state.replace(result=again)
    if isinstance(state, Mapped) and deferred_rows(state.map_states):
        return state.replace(map_states=replaced(state.map_states, lambda child: owned(child, copies)))
    return state


def not_finished_error(state: State, label: str, sources: Sequence[Settled] = ()) -> TaskRunFailed:
    """Return the error of a state that has neither a result nor an exception of its own."""
    text = f"{label} has no result: it is {type(state).__name__}"
    if state.message:
        text = f"{text}: {state.message}"
    failed = _first_failed(sources)
    if failed is not None and isinstance(state, TriggerFailed):
        cause = failed.state.result if failed.state is not None else None
        why = f": {type(cause).__name__}: {text_of(cause)}" if is_a(cause, BaseException) else ""
        text = f"{text} First cause: {failed.label} is {type(failed.state).__name__}{why}"
    return TaskRunFailed(text, state)


def first_cause(sources: Sequence[Settled]) -> BaseException | None:
    """Return the exception of the first thing that failed among sources, and theirs."""
    failed = _first_failed(sources)
    result = None if failed is None or failed.state is None else failed.state.result
    return result if is_a(result, BaseException) else None


def _first_failed(sources: Sequence[Settled]) -> Settled | None:
    """Follow the chain of what did not run because something else had failed."""
    for source in sources:
        state = source.state
        if isinstance(state, TriggerFailed):
            return _first_failed(source.sources) or source
        if isinstance(state, Mapped):
            failed = [(row, c) for row, c in enumerate(state.map_states or ()) if c is not None and c.is_failed()]
            if failed:
                row, child = next((pair for pair in failed if not isinstance(pair[1], TriggerFailed)), failed[0])
                found = Settled(f"{source.label}[{row}]")
                found.settle(child)
                return (isinstance(child, TriggerFailed) and _first_failed(source.sources)) or found
        elif state is not None and not state.is_successful():
            return source
    return None
