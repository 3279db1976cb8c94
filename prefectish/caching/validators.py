"""Whether a cached state can be used: functions of the state, the inputs and the parameters.

All of them reject a state that has expired. User-defined validators take the same arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC
from typing import Any

from prefectish.caching.keys import digests_of
from prefectish.engine import clock as clocks
from prefectish.engine.capture import same_value
from prefectish.engine.state import Cached

_ABSENT = object()


def never_use(state: Cached, inputs: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
    """Never use a cached state: the default of a task without `cache_for`."""
    return False


def duration_only(state: Cached, inputs: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
    """Use a state until it expires, for any inputs: the default of a task with `cache_for`.

    Where several of a run share the cache (children, calls, tasks of one name) the inputs must be the same too.
    """
    expires = state.cached_result_expiration
    return expires is None or expires.astimezone(UTC) > clocks.now()


def all_inputs(state: Cached, inputs: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
    """Use a state if all inputs are the same."""
    names = {*(state.hashed_inputs or {}), *(state.cached_inputs or {}), *(inputs or {})}
    return duration_only(state, inputs, parameters) and _same_inputs(state, inputs or {}, names)


def all_parameters(state: Cached, inputs: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
    """Use a state if all parameters of the run are the same; of children and calls, which share a cache, inputs too."""
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


class _AllInputsAnd:
    """Use a state if all inputs are the same, and a validator that may not read them accepts it."""

    def __init__(self, validator: Any) -> None:
        self._validator = validator

    def __call__(self, state: Cached, inputs: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
        return all_inputs(state, inputs, parameters) and self._validator(state, inputs, parameters)


def for_several(validator: Any) -> Any:
    """Return the validator for a cache that several runs of a flow share, the children of a map for example.

    One that reads no inputs would give a child the value of another one's: all of them are compared too.

    Examples
    --------
    >>> for_several(duration_only) is for_several(partial_inputs_only()) is all_inputs
    True
    """
    if validator is duration_only or (type(validator) is partial_inputs_only and not validator.names):
        return all_inputs
    # Of a subclass, what it decides itself still counts.
    reads_none = isinstance(validator, partial_inputs_only) and not validator.names
    if reads_none or validator is all_parameters or isinstance(validator, partial_parameters_only):
        return _AllInputsAnd(validator)
    return validator


def compares_all_inputs(validator: Any) -> bool:
    """Whether a validator accepts states of the same inputs only."""
    return validator is all_inputs or type(validator) is _AllInputsAnd


def _reads_parameters_alone(validator: Any) -> bool:
    return validator is all_parameters or type(validator) is partial_parameters_only


def reads_inputs(validator: Any) -> bool:
    """Whether a validator may read inputs, so that cached states must record them."""
    return validator is not never_use and validator is not duration_only and not _reads_parameters_alone(validator)


def read_inputs_of(validator: Any, names: Iterable[str]) -> frozenset[str]:
    """Return which of the inputs decide alone whether a validator accepts a state; empty if there is more to it."""
    if compares_all_inputs(validator):  # parameters are the same in all of a run
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
