"""What a cached result depends on, as later Prefects write it: ``@task(cache_policy=INPUTS + TASK_SOURCE)``.

Each is a function for ``cache_key_fn=``: of the context and the arguments, to the key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from prefectish.caching.keys import argument_digest, code_digest, key_of_parts, task_input_hash
from prefectish.engine.capture import Error, capture
from prefectish.missing_names import lead_out

__all__ = ["INPUTS", "NO_CACHE", "TASK_SOURCE", "CachePolicy"]

#: Defaults of tasks that count, by task: they are looked at once, and read by each child.
_defaults: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()


class CachePolicy:
    """What a key is made of; policies add up, and ``INPUTS - "client"`` leaves an argument out.

    Parameters
    ----------
    inputs
        The arguments count.
    source
        The code of the task counts.
    left_out
        Names of arguments that do not count.
    """

    __slots__ = ("inputs", "left_out", "source")

    def __init__(self, inputs: bool = False, source: bool = False, left_out: frozenset[str] = frozenset()) -> None:
        self.inputs = inputs
        self.source = source
        self.left_out = left_out

    def __call__(self, context: Any, arguments: Mapping[str, Any]) -> str | None:
        """Return the key, None for none; results of two tasks never share one."""
        of_inputs = None
        if self.inputs:
            if not self.source:  # of which the defaults are a part
                arguments = _with_defaults(context.get("task"), arguments)
            hashed = task_input_hash.without(*self.left_out) if self.left_out else task_input_hash
            of_inputs = hashed({**_facts(context), "task": None}, arguments)
            if of_inputs is None:
                return None
        parts = {"task": str(context.get("task_name")), "inputs": of_inputs or ""}
        task = context.get("task")
        if self.source and task is not None:
            parts["source"] = code_digest(task)
        return key_of_parts(parts)

    def __add__(self, other: CachePolicy) -> CachePolicy:
        if not isinstance(other, CachePolicy):
            return NotImplemented
        if NO_CACHE in (self, other):
            return self if other is NO_CACHE else other
        left_out = self.left_out | other.left_out
        return CachePolicy(self.inputs or other.inputs, self.source or other.source, left_out)

    def __sub__(self, name: str) -> CachePolicy:
        if not isinstance(name, str):
            raise TypeError(f"the name of an argument can be taken from a policy, got {name!r}")
        return CachePolicy(self.inputs, self.source, self.left_out | {name})

    def __repr__(self) -> str:
        names = [name for name, counts in (("INPUTS", self.inputs), ("TASK_SOURCE", self.source)) if counts]
        return " + ".join(names) or "NO_CACHE"


def _with_defaults(task: Any, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the arguments of a call with those that it leaves to their defaults."""
    defaults = {} if task is None else _counted(task)
    return arguments if defaults.keys() <= arguments.keys() else {**defaults, **arguments}


def _counted(task: Any) -> dict[str, Any]:
    """Return the defaults of a task by name, without those that have no stable hash, such as a lock or a sentinel."""
    found = _defaults.get(task)
    if found is None:
        hashes = {name: capture(argument_digest, name, value) for name, value in task._defaults.items()}
        found = {name: value for name, value in task._defaults.items() if not isinstance(hashes[name], Error)}
        _defaults[task] = found
    return found


def _facts(context: Any) -> dict[str, Any]:
    """Return what a warning about the arguments needs: in which run, and what the task is called."""
    return {name: context.get(name) for name in ("flow_run_id", "task_label", "task_slug", "task_name")}


def key_function(policy: Any) -> Callable[..., str | None] | None:
    """Return the function that makes keys by a policy; None if nothing is cached.

    Raises
    ------
    TypeError
        If it is not a policy.
    """
    if policy is NO_CACHE:
        return None
    if not isinstance(policy, CachePolicy):
        raise TypeError(
            f"cache_policy must be INPUTS, TASK_SOURCE, NO_CACHE or a sum of them, from prefectish.cache_policies, got "
            f"{policy!r}; for a function of your own write cache_key_fn="
        )
    return policy


#: The arguments: a result is used for calls of the task with equal ones.
INPUTS = CachePolicy(inputs=True)
#: The code of the task.
TASK_SOURCE = CachePolicy(source=True)
#: Nothing is cached.
NO_CACHE = CachePolicy()

if not TYPE_CHECKING:
    __getattr__ = lead_out(__name__)
