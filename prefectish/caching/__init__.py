"""Caches: results of earlier runs that stand for a new one, and why they do not.

A task has one of two kinds. With `cache_for` its result becomes Cached and is kept in memory, under the task's name or
its `cache_key`; the `cache_validator` says whether it stands for other inputs. With `cache_key_fn` the result is kept
under the key that the function makes of the inputs, in memory and in the result store, until `cache_expiration`.

Here are the names for users; the engine asks and fills caches through `prefectish.caching.lookups`.
"""

from prefectish.caching.keys import task_input_hash
from prefectish.caching.validators import (
    all_inputs,
    all_parameters,
    duration_only,
    never_use,
    partial_inputs_only,
    partial_parameters_only,
)

__all__ = [
    "all_inputs",
    "all_parameters",
    "duration_only",
    "never_use",
    "partial_inputs_only",
    "partial_parameters_only",
    "task_input_hash",
]
