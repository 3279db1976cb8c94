"""Hooks, ``on_completion`` and ``on_failure``: functions of a task or flow, its state, and maybe facts of the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from prefectish.engine.context import current
from prefectish.engine.handlers import Handler, callback_factory
from prefectish.engine.state import State
from prefectish.tasks.arity import check_takes, taken_by_position

H = TypeVar("H", bound=Callable[..., Any])


class RunFacts(NamedTuple):
    """What a hook, or a condition of retries, receives about the run of a task or flow."""

    id: str
    name: str
    run_count: int
    map_index: int | None
    parameters: Mapping[str, Any]
    flow_run_id: str
    flow_name: str

    @classmethod
    def here(cls) -> RunFacts:
        """Return the facts of the task run whose attempt this is, or else of the flow run."""
        facts = current()
        kind = "flow" if getattr(facts, "attempt", None) is None else "task"
        return cls(
            facts.get(f"{kind}_run_id", ""),
            facts.get(f"{kind}_run_name", ""),
            facts.get("task_run_count", 1) if kind == "task" else facts.get("flow_run_part", 0) + 1,
            facts.get("map_index") if kind == "task" else None,
            facts.get("parameters") or {},
            facts.get("flow_run_id", ""),
            facts.get("flow_name", ""),
        )


class Hook:
    """Calls a function of (object, state), or of (object, run facts, state); a class, so that it can be pickled."""

    __slots__ = ("function", "takes_facts")

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        taken = taken_by_position(function)
        self.takes_facts = taken is not None and taken[0] >= 3

    def __call__(self, obj: Any, state: State) -> None:
        """Call the function; what it returns does not matter."""
        if self.takes_facts:
            self.function(obj, RunFacts.here(), state)
        else:
            self.function(obj, state)

    def __repr__(self) -> str:
        return repr(self.function)


class Hooked:
    """Mixin of tasks and flows, whose hooks can be given by decorators, too."""

    state_handlers: list[Callable[..., Any]]

    def on_completion(self, hook: H) -> H:
        """Add a function that is called when it has ended well, as the option `on_completion` does; a decorator."""
        self.state_handlers.extend(hook_handlers(hook, None))
        return hook

    def on_failure(self, hook: H) -> H:
        """Add a function that is called when it has failed, as the option `on_failure` does; a decorator."""
        self.state_handlers.extend(hook_handlers(None, hook))
        return hook


def hook_handlers(on_completion: Any, on_failure: Any) -> list[Handler]:
    """Return state handlers for hooks: a function or a list of functions each, or None.

    Raises
    ------
    TypeError
        One is not a function, or cannot be called with (task, state) or (task, run, state).
    """
    made: list[Handler] = []
    named = (("on_completion", on_completion, State.is_successful), ("on_failure", on_failure, State.is_failed))
    for name, hooks, check in named:
        for hook in hooks if isinstance(hooks, list | tuple) else [] if hooks is None else [hooks]:
            if not callable(hook):
                raise TypeError(f"{name} must be a function, got {hook!r}; several go into a list")
            check_takes(name, hook, "task, state", "task, run, state")
            made.append(callback_factory(Hook(hook), check))
    return made
