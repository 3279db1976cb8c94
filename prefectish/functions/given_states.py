"""States from which calls and maps of a flow function begin, as the caller of the flow gave them."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from prefectish.engine.driver.loop import unwrapped
from prefectish.engine.state import State
from prefectish.kinds import is_a
from prefectish.tasks.task import Task

#: By task: the state of each of its calls and maps, or those of one after another, None for one that runs.
StatesByTask = Mapping[Task, "State | Sequence[State | None]"]


class GivenStates:
    """The states that were given for the tasks of a run; those in a list are taken in the order of the calls."""

    def __init__(self, given: StatesByTask | None) -> None:
        self._given = dict(given or {})
        self._taken: dict[Task, int] = {}
        self._lock = threading.Lock()
        for task, states in self._given.items():
            if not is_a(task, Task):
                raise TypeError(f"task_states: keys must be the tasks that the function calls, got {task!r}")
            for state in states if is_a(states, (list, tuple)) else (states,):
                if not is_a(state, State) and not (state is None and state is not states):
                    raise TypeError(
                        f"task_states: the state of {task!r} must be a State such as Success(...), or a list with one "
                        f"for each call, None for those that run, got {state!r}"
                    )

    def take(self, task: Task) -> State | None:
        """Return the state of the next call or map of a task; None if it is to run as usual."""
        states = self._given.get(task)
        if states is None:
            return None
        with self._lock:
            number = self._taken[task] = self._taken.get(task, 0) + 1
        state = states if is_a(states, State) else next(iter(states[number - 1 : number]), None)
        return None if state is None else unwrapped(state)

    def unused(self) -> list[str]:
        """Return what was given for calls that were not made, in words."""
        found: list[str] = []
        for task, states in self._given.items():
            calls = self._taken.get(task, 0)
            if is_a(states, (list, tuple)) and calls < len(states):
                found.append(f"{task.name}: {len(states)} for {calls} calls")
            elif not calls:
                found.append(f"{task.name}, which it has not called")
        return found
