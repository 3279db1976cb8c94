"""How many items and tasks of a run succeeded, failed, or did not run: one way to count, and one way to say it.

An item is a child of a map; a task without children counts by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Self

#: The message of a child that a stopped run had not begun.
NOT_STARTED = "never started"
#: What a state counts as, by the name of its class, or of the nearest one above it.
KINDS = {
    "Success": "succeeded",
    "Skipped": "skipped",
    "TriggerFailed": "not run",
    "Failed": "failed",
    "Cancelled": "cancelled",
    "Crashed": "failed",
    "TimedOut": "failed",
    "ValidationFailed": "failed",
    "Cached": "succeeded",
    "Looped": "succeeded",
}
#: The name of its task, in the context of the state of a map.
TASK_NAME = "task_name"
#: The order in which counts are shown.
ORDER = ("failed", "not run", "skipped", "cancelled", "not started", "not finished")


def kind_of(state: Any) -> str:
    """Return what the state of a task counts as; None is one of which nothing is known yet."""
    for cls in type(state).__mro__:
        kind = KINDS.get(cls.__name__)
        if kind is not None:
            return "not started" if kind == "cancelled" and is_not_started(state.message) else kind
    return "not finished"


def is_not_started(message: Any) -> bool:
    """Whether the message of a cancelled task says that it had not begun."""
    return isinstance(message, str) and message == NOT_STARTED


class TaskCounts(NamedTuple):
    """Counts of a run, by what states count as: of the children of its maps, and of its other tasks."""

    items: Mapping[str, int]
    tasks: Mapping[str, int]

    @classmethod
    def of_states(cls, states: Iterable[Any]) -> Self:
        """Count the states of tasks; those of maps have children."""
        items: Counter[str] = Counter()
        tasks: Counter[str] = Counter()
        for state in states:
            if state.is_mapped():
                children = state.map_states or ()
                plain = sum(type(child).__name__ == "Success" for child in children)  # most of a large map
                items["succeeded"] += plain
                items.update(kind_of(child) for child in children if type(child).__name__ != "Success")
                items["not finished"] += state.n_map_states - len(children)
            else:
                tasks[kind_of(state)] += 1
        return cls(+items, +tasks)

    @classmethod
    def of_names(cls, found: Iterable[tuple[bool, Mapping[str, int], int]]) -> Self:
        """Count by the names of states: whether it is a map, its states, and how many of them were not started."""
        items: Counter[str] = Counter()
        tasks: Counter[str] = Counter()
        for is_map, numbers, not_started in found:
            counts = items if is_map else tasks
            for name, number in numbers.items():
                counts[KINDS.get(name, "not finished")] += number
            counts["cancelled"] -= not_started
            counts["not started"] += not_started
        return cls(+items, +tasks)

    @property
    def is_clean(self) -> bool:
        """Whether nothing failed, and everything ran."""
        return not any({**self.items, **self.tasks}.get(kind) for kind in ORDER)

    @property
    def failed(self) -> int:
        """Return how many items and tasks failed."""
        return self.items.get("failed", 0) + self.tasks.get("failed", 0)

    def text(self) -> str:
        """Return how the run went, in a line.

        Examples
        --------
        >>> TaskCounts({"succeeded": 450, "failed": 50}, {"succeeded": 1}).text()
        '450 of 500 items succeeded, 50 failed'
        >>> TaskCounts({"succeeded": 1500}, {"failed": 1}).text(), TaskCounts({}, {"succeeded": 2}).text()
        ('1,500 items succeeded; 1 task failed', '2 tasks succeeded')
        """
        if not self.items:
            return _sentence(self.tasks, "task")
        odd = {kind: self.tasks[kind] for kind in ORDER if self.tasks.get(kind)}
        beside = ", ".join(f"{number:,} {_plural('task', number)} {kind}" for kind, number in odd.items())
        return "; ".join(filter(None, (_sentence(self.items, "item"), beside)))

    def stopped_text(self) -> str:
        """Return how far a run came that was interrupted.

        Examples
        --------
        >>> TaskCounts({"succeeded": 382, "failed": 42, "not started": 1076}, {"not started": 1}).stopped_text()
        '382 done, 42 failed, 1,076 not started'
        """
        counts = dict(self.items or self.tasks)
        done = counts.pop("succeeded", 0)
        failed, left = counts.pop("failed", 0), counts.pop("not started", 0)
        others = {"interrupted": counts.pop("cancelled", 0), **counts}
        rest = "".join(f", {number:,} {kind}" for kind, number in others.items() if number)
        return f"{done:,} done, {failed:,} failed{rest}, {left:,} not started"


def _sentence(counts: Mapping[str, int], noun: str) -> str:
    total, good = sum(counts.values()), counts.get("succeeded", 0)
    if not total:
        return f"no {noun}s"
    whole = "" if good == total else f"of {total:,} "
    parts = [f"{good:,} {whole}{_plural(noun, total)} succeeded"]
    return ", ".join(parts + [f"{counts[kind]:,} {kind}" for kind in ORDER if counts.get(kind)])


def _plural(noun: str, number: int) -> str:
    return noun if number == 1 else f"{noun}s"
