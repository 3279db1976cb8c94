"""`prefect.engine.cache_validators`: inputs of a cached state may be results there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefectish.caching import validators
from prefectish.compat.results import Result
from prefectish.engine.state import Cached

Inputs = Mapping[str, Any] | None


def _values(inputs: Inputs) -> dict[str, Any]:
    return {name: value.value if isinstance(value, Result) else value for name, value in (inputs or {}).items()}


def all_inputs(state: Cached, inputs: Inputs, parameters: Inputs) -> bool:
    """Use a state if all inputs are the same."""
    plain = state.replace(cached_inputs=_values(state.cached_inputs))
    return validators.all_inputs(plain, _values(inputs), parameters or {})


class _Partial:
    """Lets a validator with options be called with a state at once, and not only by its options."""

    def __new__(cls, state: Any = None, inputs: Inputs = None, parameters: Inputs = None, **options: Any) -> Any:
        """Return a validator; of a state, whether it can be used."""
        if isinstance(state, Cached):
            return cls(**options)(state, inputs, parameters)
        return super().__new__(cls)


class partial_inputs_only(_Partial, validators.partial_inputs_only):
    """See :class:`prefectish.engine.cache_validators.partial_inputs_only`."""

    def __call__(self, state: Cached, inputs: Inputs, parameters: Inputs) -> bool:
        """Whether the state can be used."""
        plain = state.replace(cached_inputs=_values(state.cached_inputs))
        return super().__call__(plain, _values(inputs), parameters or {})


class partial_parameters_only(_Partial, validators.partial_parameters_only):
    """See :class:`prefectish.engine.cache_validators.partial_parameters_only`."""
