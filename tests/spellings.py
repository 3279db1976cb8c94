"""One program in both spellings: as `with Flow(...)`, and as a flow function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prefectish import Flow, flow, unmapped
from prefectish.engine.jobs.protocol import Executor
from prefectish.engine.state import State

SPELLINGS = ("graph", "function")


class Spelled:
    """Runs programs: functions that call tasks, by `call` and by `task.map`, and return what they called by name."""

    def __init__(self, spelling: str, executor: Executor) -> None:
        self.in_function = spelling == "function"
        self.executor = executor

    def call(self, task: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a task once: ``task(...)`` while a flow is built, ``task.submit(...)`` in a flow function."""
        return (task.submit if self.in_function else task)(*args, **kwargs)

    def waited(self, called: Iterable[Any]) -> dict[str, Any]:
        """Return the option of a mapped call that waits for all of what was called, not item by item."""
        return {"wait_for": list(called) if self.in_function else [unmapped(each) for each in called]}

    def states(self, program: Callable[[], Mapping[str, Any]], **options: Any) -> dict[str, State]:
        """Run a program and return the states of what it called."""
        return self.run(program, **options)[1]

    def run(self, program: Callable[[], Mapping[str, Any]], **options: Any) -> tuple[State, dict[str, State]]:
        """Run a program and return the state of the flow, and those of what it called."""
        if not self.in_function:
            with Flow("spelled", result=options.pop("result", None)) as graph:
                called = dict(program())
            state = graph.run(executor=self.executor, **{"history": False, **options})
            return state, {name: state.result[task] for name, task in called.items()}
        found: dict[str, State] = {}

        def spelled() -> None:
            for name, future in program().items():
                future.wait()
                found[name] = future.state

        function = flow(spelled, result=options.pop("result", None))
        state = function.run(executor=self.executor, **{"history": False, **options})
        if not found:
            raise state.result
        return state, found
