"""Whether a cached state can be used: functions of the state, the inputs and the parameters.

All of them reject a state that has expired. User-defined validators take the same arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC
from typing import Any

from prefectish.caching.keys import digests_of
from prefectish.engine import clock as clocks
from prefectish.engine.state import Cached, same_value

_ABSENT = object()


def never_use(state: Cached, inputs: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
    """Never use a cached state: the default of a task without `cache_for`."""
    return False


def duration_only(state: Cached, inputs: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
    """Use a state until it expires, for any inputs: the default of a task with `cache_for`."""
    expires = state.cached_result_expiration
    return expires is None or expires.astimezone(UTC) > clocks.now()


def all_inputs(state: Cached, inputs: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
    """Use a state if all inputs are the same."""
    names = {*(state.hashed_inputs or {}), *(state.cached_inputs or {}), *(inputs or {})}
    return duration_only(state, inputs, parameters) and _same_inputs(state, inputs or {}, names)


def all_parameters(state: Cached, inputs: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
    """Use a state if all parameters of the run are the same."""
    cached, given = state.cached_parameters or {}, parameters or {}
    return duration_only(state, inputs, parameters) and _equal_values(cached, given, {*cached, *given})


class partial_inputs_only:
    """Use a state if some inputs are the same.

    Parameters
    ----------
    validate_on
        Names to compare; None: none, like `duration_only`.
    """

    def __init__(self, validate_on: Iterable[str] | None = None) -> None:
        self.names = _names(validate_on)

    def __call__(self, state: Cached, inputs: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
        """Whether the state can be used."""
        return duration_only(state, inputs, parameters) and _same_inputs(state, inputs or {}, self.names)


class partial_parameters_only:
    """Use a state if some parameters of the run are the same.

    Parameters
    ----------
    validate_on
        Names to compare; None: none, like `duration_only`.
    """

    def __init__(self, validate_on: Iterable[str] | None = None) -> None:
        self.names = _names(validate_on)

    def __call__(self, state: Cached, inputs: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
        """Whether the state can be used."""
        cached = state.cached_parameters or {}
        return duration_only(state, inputs, parameters) and _equal_values(cached, parameters or {}, self.names)


def reads_inputs(validator: Any) -> bool:
    """Whether a validator may read inputs, so that cached states must record them."""
    return (
        validator not in (never_use, duration_only, all_parameters) and type(validator) is not partial_parameters_only
    )


def read_inputs_of(validator: Any, names: Iterable[str]) -> frozenset[str]:
    """Return which of the inputs decide alone whether a validator accepts a state; empty if there is more to it."""
    if validator is all_inputs:
        return frozenset(names)
    return validator.names if type(validator) is partial_inputs_only else frozenset()


def _names(given: Iterable[str] | None) -> frozenset[str]:
    return frozenset([given] if isinstance(given, str) else given or ())


def _same_inputs(state: Cached, inputs: Mapping[str, Any], names: Iterable[str]) -> bool:
    """Compare inputs by hash where the state has hashes, otherwise by value."""
    hashed = state.hashed_inputs or {}
    by_hash = [name for name in names if name in hashed]
    if by_hash and not _equal_values(hashed, digests_of(inputs), by_hash):
        return False
    return _equal_values(state.cached_inputs or {}, inputs, [name for name in names if name not in hashed])


def _equal_values(cached: Mapping[str, Any], given: Mapping[str, Any], names: Iterable[str]) -> bool:
    return all(same_value(cached.get(name, _ABSENT), given.get(name, _ABSENT)) for name in names)
