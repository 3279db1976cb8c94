"""Caches: reuse the result of an earlier run instead of running a task again.

There are two kinds. With `cache_for` the result becomes Cached and is kept in memory, under the task's name or
its `cache_key`; the `cache_validator` decides whether it is valid for other inputs. With `cache_key_fn` the result is
kept under the key that the function computes from the inputs, in memory and in the result store, until
`cache_expiration`.

This module has the public names; the engine reads and fills caches through `prefectish.caching.lookups`.
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
