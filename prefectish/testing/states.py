"""Compare the states of a run with expected ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prefectish.engine.capture import Error, capture
from prefectish.engine.state import Mapped, State
from prefectish.engine.task_states import labels_of
from prefectish.errors import text_of
from prefectish.tasks.task import Task

#: Maximum number of children of one map in the message.
MAX_CHILDREN_LISTED = 5
#: Maximum length of a state in the message.
MAX_STATE_LENGTH = 200
#: The names of all states.
STATE_NAMES = frozenset((State.__name__, *(kind.__name__ for kind in State.children())))


def assert_states(state: State, expected: Mapping[Any, Any]) -> None:
    """Assert that the tasks of a run ended in the expected states.

    Parameters
    ----------
    state
        The state returned by ``flow.run(...)``.
    expected
        Expectations by task, slug or name (of all tasks with that name); None stands for the flow. Other tasks
        may be in any state. An expectation is

        * the name of a state, or its class: exactly that one, so ``"Failed"`` does not match TriggerFailed;
        * a state: equal to it, by class, result and public attributes;
        * a function of a state that returns whether it matches.

        For a map it applies to each child, unless it is

        * "Mapped", or a Mapped state, or a function: these are compared with the state of the whole map;
        * a list: one of the above for each child in map order, None for a child that was never started;
        * a dict from names of states to the number of children in them, for all children.

    Raises
    ------
    AssertionError
        With a list of all differences.
    ValueError
        If a task or a state is unknown.

    Examples
    --------
    >>> from prefectish import Flow, task
    >>> @task
    ... def load(x):
    ...     return 12 // x
    >>> @task
    ... def report(xs):
    ...     return len(xs)
    >>> with Flow("thumbnails") as flow:
    ...     loaded = load.map([1, 0, 3])
    ...     reported = report(loaded)
    >>> state = flow.run()
    >>> assert_states(state, {None: "Failed", loaded: ["Success", "Failed", "Success"], "report": "TriggerFailed"})
    >>> assert_states(state, {"load-1": {"Success": 2, "Failed": 1}, reported: lambda state: state.is_failed()})
    >>> assert_states(state, {loaded: "Success", reported: "Success"})
    Traceback (most recent call last):
    AssertionError: not as expected:
      load[1]: expected Success, got Failed("Error during execution of task: ZeroDivisionError(...)")
      report: expected Success, got TriggerFailed('Trigger was "all_successful" but some ...')
    """
    if not isinstance(state, State) or not issubclass(type(state._raw_result), Mapping):
        raise ValueError(f"state must be the state of a flow as returned by flow.run(...), got {state!r}")
    lines = [
        line
        for key, each in expected.items()
        for label, found in _named(state, key)
        for line in _differences(label, found, each)
    ]
    if lines:
        raise AssertionError("\n  ".join(["not as expected:", *lines]))


def _named(flow_state: State, key: Any) -> list[tuple[str, State]]:
    """Return label and state of the tasks with a key."""
    states: Mapping[Task, State] = flow_state._raw_result
    slugs: Mapping[Task, str] = getattr(states, "slugs", {})
    if key is None:
        return [("the flow", flow_state)]
    if isinstance(key, Task):
        found = [key] if key in states else []
    else:
        found = [task for task in states if slugs.get(task) == key] or [task for task in states if task.name == key]
    called = {task: label for task, label in zip(states, labels_of(states).values(), strict=True)}
    if not found:
        raise ValueError(f"unknown task {key!r}; the tasks of this run are: {', '.join(called.values())}")
    return [(called[task], states[task]) for task in found]


def _differences(label: str, state: State, expected: Any) -> Iterator[str]:
    """Yield a line for each difference of a task."""
    if isinstance(expected, list | tuple | dict):
        if not isinstance(state, Mapped):
            yield f"{label}: expected children, got {_shown(state)}, which is not mapped"
        elif isinstance(expected, dict):
            yield from _wrong_counts(label, state, expected)
        else:
            yield from _wrong_children(label, state, expected)
    elif isinstance(state, Mapped) and _is_of_children(expected):
        yield from _wrong_children(label, state, [expected] * len(state.map_states or ()))
    elif not _matches(state, expected):
        yield f"{label}: expected {_state_text(expected)}, got {_shown(state)}"


def _is_of_children(expected: Any) -> bool:
    """Whether an expectation for a map applies to each child."""
    if isinstance(expected, str):
        return expected != "Mapped"
    if isinstance(expected, type):
        return expected is not Mapped
    return isinstance(expected, State) and not isinstance(expected, Mapped)


def _wrong_children(label: str, state: Mapped, expected: Sequence[Any]) -> Iterator[str]:
    """Yield a line for each child that is not as expected."""
    children = state.map_states or []
    if len(children) != len(expected):
        yield f"{label}: expected {len(expected)} children, got {len(children)}"
        return
    wrong = [i for i, (child, each) in enumerate(zip(children, expected, strict=True)) if not _matches(child, each)]
    for i in wrong[:MAX_CHILDREN_LISTED]:
        yield f"{label}[{i}]: expected {_state_text(expected[i])}, got {_shown(children[i])}"
    if len(wrong) > MAX_CHILDREN_LISTED:
        yield f"{label}: and {len(wrong) - MAX_CHILDREN_LISTED} more of {len(children)} children"


def _wrong_counts(label: str, state: Mapped, expected: Mapping[Any, int]) -> Iterator[str]:
    """Yield the number of children in each state, if it is not as expected."""
    names = {_state_text(_checked(each)): count for each, count in expected.items()}
    found = Counter(type(child).__name__ for child in state.map_states or ())
    if {name: count for name, count in names.items() if count} != dict(found):
        yield f"{label}: expected {_counted(names)}, got {_counted(found)}"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()) if count) or "no child"


def _matches(state: State | None, expected: Any) -> bool:
    expected = _checked(expected)
    if state is None or expected is None:
        return state is expected
    if isinstance(expected, str):
        return type(state).__name__ == expected
    if isinstance(expected, type):
        return type(state) is expected
    return state == expected if isinstance(expected, State) else bool(expected(state))


def _checked(expected: Any) -> Any:
    """Return an expectation that is valid."""
    if isinstance(expected, str) and expected not in STATE_NAMES:
        raise ValueError(f"unknown state {expected!r}; states are: {', '.join(sorted(STATE_NAMES))}")
    if expected is None or isinstance(expected, str | State) or callable(expected):
        return expected
    raise ValueError(
        f"an expectation must be the name of a state, a state class, a state or a function of a state, got {expected!r}"
    )


def _state_text(expected: Any) -> str:
    if isinstance(expected, type):
        return expected.__name__
    if isinstance(expected, State):
        return _shown(expected, result=True)
    if expected is None:
        return "no state"
    return expected if isinstance(expected, str) else f"a state accepted by {getattr(expected, '__name__', expected)}"


def _shown(state: State | None, result: bool = False) -> str:
    """Return a state in one line."""
    if state is None:
        return "no state"
    if isinstance(state, Mapped):
        found = Counter("no state" if child is None else type(child).__name__ for child in state.map_states or ())
        return f"Mapped({_counted(found)})"
    name = type(state).__name__
    if result or state.is_successful():
        outcome = capture(repr, state._raw_result)
        text = f"result={text_of(outcome.exception) if isinstance(outcome, Error) else outcome.value}"
    else:
        text = repr(str(state.message))
    return f"{name}({text if len(text) <= MAX_STATE_LENGTH else text[:MAX_STATE_LENGTH] + '…'})"
