"""The tasks of a reduction: the one that combines, and the one that stands for what came of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefectish.edges import Annotation
from prefectish.kinds import is_a
from prefectish.tasks.signatures import inputs_of
from prefectish.tasks.task import Task, task

#: Results that one call combines, by default.
FAN_IN = 16


class Reduced(Task):
    """Stands for what a map was combined to; its state is that of the last call, and it never runs."""

    auto_generated = True

    def run(self, value: Any) -> Any:
        """Return the value."""
        return value


def combining(combine: Task | Callable[[list[Any]], Any], fan_in: int) -> Task:
    """Return a copy of a task, or a task of a function, that combines the results of a map in groups.

    Raises
    ------
    TypeError
        If it is neither a task nor a function, or has no argument for a list of results; if `fan_in` is not a whole
        number.
    ValueError
        If `fan_in` is below 2.
    """
    if not isinstance(fan_in, int) or isinstance(fan_in, bool):
        raise TypeError(f"reduce: fan_in must be a whole number, got {fan_in!r}")
    if fan_in < 2:
        raise ValueError(f"reduce: fan_in must be at least 2, got {fan_in}; a call has to combine several results")
    if not is_a(combine, Task):
        if not callable(combine):
            raise TypeError(f"reduce: the first argument must be a task or a function, got {combine!r}")
        combine = task(combine)
    if not inputs_of(combine.run, combine.name).positional:
        raise TypeError(f"reduce: {combine.name} must take a list of results as its first argument")
    made = combine._copy({"nout": None} if combine.nout is not None else {})
    made._fan_in = fan_in
    return made


def no_map(name: str, value: Any, is_task: bool) -> TypeError:
    """Return the error of a reduction of something that is not a map; `is_task`: of one task, or its future."""
    if is_a(value, Annotation):
        way_out = "reduce a map over it"
    elif is_task:
        way_out = f"a task that is not mapped gives one value: call {name}(...) with it"
    else:
        way_out = f"call {name}(...) with a list, or map a task over it first"
    return TypeError(f"reduce({name}, ...): a map must be given, as from .map(...), got {value!r}; {way_out}")
