"""Views of runs without markup: tasks, counts by state, causes of failures, slowest children.

Views are built from states, or from the history (``recorded``); pages and reprs are rendered from views.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from prefectish.engine import state as states
from prefectish.engine.driver.interrupts import STOPS
from prefectish.engine.scheduling.causes import cause_of, described, normalised
from prefectish.engine.state import Mapped, State
from prefectish.engine.task_counts import TASK_NAME, TaskCounts
from prefectish.engine.task_states import Arrow, is_by_task, labels_of
from prefectish.parameters import Parameter
from prefectish.secrets.masking import mask
from prefectish.tasks.collections import Constant

#: Maximum number of children named per cause, of failures read, and of causes shown.
MAX_CHILDREN_NAMED, MAX_FAILURES_READ, MAX_CAUSES = 12, 200_000, 30

#: The state of tasks that failed only because of upstream failures.
CONSEQUENCE_STATE = "TriggerFailed"

#: States of children that did not run.
UNTRIED = frozenset({"TriggerFailed", "Skipped", "Cancelled", "Cached", "Pending"})

#: States of runs and maps that count as a success, whatever failed in them.
SUCCESSES = frozenset({"Success", "Mapped"})

#: Order in which states are shown; others come last.
STATE_ORDER = (
    "Success", "Cached", "Skipped", "Running", "Retrying", "Paused", "Queued", "Submitted", "Scheduled", "Pending",
    "Cancelled", "TriggerFailed", "ValidationFailed", "TimedOut", "Failed", "Crashed",
)  # fmt: skip


class Count(NamedTuple):
    """Number of children in a state, and their share, between 0 and 1."""

    kind: str
    color: str
    number: int
    share: float


class TaskView(NamedTuple):
    """A task of a run."""

    slug: str
    name: str  # what it is called
    kind: str  # what it is: "task", "map", "parameter", or "constant" for a value that is written in the flow
    state: str | None  # name of its state, None if nothing is known; `message` is that of a single task
    message: str
    counts: Sequence[Count]  # its children by state, or itself
    total: int  # how many children

    @property
    def failed(self) -> int:
        """Return how many of its children failed; those that only follow from others did not run."""
        return sum(c.number for c in self.counts if is_failure(c.kind) and c.kind != CONSEQUENCE_STATE)


class CauseView(NamedTuple):
    """Failures of one cause."""

    #: State, exception, its text and traceback, of the first of them.
    kind: str
    type: str
    message: str
    traceback: str | None
    number: int  # how many failed so
    named: Sequence[str]  # what the first of them are called


class SlowView(NamedTuple):
    """A child that took long; `worker` and `attempts` are known of a recorded run only."""

    name: str
    item: str | None
    state: str
    seconds: float
    worker: str | None
    attempts: int | None
    cpu: float | None = None  # seconds of the processor
    memory: int | None = None  # bytes by which the peak of its process grew


class RunView(NamedTuple):
    """A run, or a part of one."""

    title: str  # what it is called; `subtitle` says more
    #: How it ended.
    state: str
    color: str
    message: str
    #: What ran, and how it hangs together.
    tasks: Sequence[TaskView]
    arrows: Sequence[Arrow] = ()
    #: Why children failed, the most frequent first; `unseen` are failures of other causes, or not looked at.
    causes: Sequence[CauseView] = ()
    unseen: int = 0
    slowest: Sequence[SlowView] = ()  # children that took longest
    #: When it ran, if that is known.
    started: datetime | None = None
    ended: datetime | None = None
    seconds: float | None = None
    facts: Sequence[tuple[str, str]] = ()  # more to tell, by name
    counts: TaskCounts = TaskCounts({}, {})  # how many items and tasks succeeded
    lists_failures: str = ""  # the command that names every failed item; empty without a record

    @property
    def counts_text(self) -> str:
        """Return how many items and tasks succeeded, or how far an interrupted run came; empty if there are none."""
        if not (self.counts.items or self.counts.tasks):
            return ""
        return self.counts.stopped_text() if self.message in STOPS.values() else self.counts.text()

    @property
    def is_mixed(self) -> bool:
        """Whether it is a success in which something failed, or did not run: it does not look like any other."""
        return self.state in SUCCESSES and bool(self.counts.failed)


def is_failure(kind: str) -> bool:
    """Whether the state of this name is a failure."""
    found = getattr(states, kind, None)
    return isinstance(found, type) and issubclass(found, states.Failed)


def color_of(kind: str) -> str:
    """Return the colour of the states of this name."""
    found = getattr(states, kind, None)
    return found.color if isinstance(found, type) and issubclass(found, State) else State.color


def counted(numbers: Mapping[str, int]) -> list[Count]:
    """Return counts by state in display order, with their shares.

    Examples
    --------
    >>> [(count.kind, count.number, count.share) for count in counted({"Failed": 1, "Success": 3})]
    [('Success', 3, 0.75), ('Failed', 1, 0.25)]
    """
    total = sum(numbers.values()) or 1
    known = {kind: place for place, kind in enumerate(STATE_ORDER)}
    return [
        Count(kind, color_of(kind), number, number / total)
        for kind, number in sorted(numbers.items(), key=lambda item: known.get(item[0], len(known)))
        if number
    ]


def of_run(flow_state: State) -> RunView:
    """Return the view of the state of a flow run."""
    result = flow_state.result
    assert is_by_task(result)
    slugs = {task: _slug(result, task) for task in result}
    named = labels_of(result)
    tasks = [
        of_task(named[slugs[task]], slugs[task], task_state, _kind(result, task, task_state))
        for task, task_state in result.items()
    ]
    causes, unseen = causes_of((named[slugs[task]], state) for task, state in result.items())
    return RunView(
        getattr(result, "flow_name", "flow"),
        type(flow_state).__name__,
        flow_state.color,
        text_of(flow_state.message),
        tasks,
        getattr(result, "arrows", ()),
        causes,
        unseen,
        _slowest(result, named),
        facts=_facts(flow_state),
        counts=flow_state.counts() or TaskCounts({}, {}),
    )


def _slowest(result: Any, named: Mapping[str, str]) -> list[SlowView]:
    """Return the slowest children among those that ran."""
    by_slug = {_slug(result, task): state for task, state in result.items()}
    views = []
    for slow in getattr(result, "slowest", ()):
        state = by_slug[slow.slug]
        state = state if slow.map_index is None else state[slow.map_index]
        if state is not None and type(state).__name__ not in UNTRIED:
            label = named[slow.slug] if slow.map_index is None else f"{named[slow.slug]}[{slow.map_index}]"
            name = run_name(state)
            text = label if name is None else f"{label} ({name})"
            views.append(SlowView(text, None, type(state).__name__, slow.seconds, None, None))
    return views


def of_map(state: Mapped) -> RunView:
    """Return the view of the state of a map."""
    name = str(state.context.get(TASK_NAME) or "")
    causes, unseen = causes_of([(name, state)])
    task = of_task("children", name, state, "map")
    counts = state.counts() or TaskCounts({}, {})
    return RunView(
        name or "Map", "Mapped", state.color, text_of(state.message), [task], (), causes, unseen, counts=counts
    )


def _facts(state: State) -> list[tuple[str, str]]:
    run_id = state.context.get("flow_run_id")
    return [("run", str(run_id))] if run_id else []


def _slug(result: Any, task: Any) -> str:
    slug: str = getattr(result, "slugs", {}).get(task) or task.name
    return slug


def _kind(result: Any, task: Any, state: State) -> str:
    if isinstance(task, Constant):
        return "constant"
    if isinstance(task, Parameter):
        return "parameter"
    return "map" if state.is_mapped() or _slug(result, task) in getattr(result, "mapped", ()) else "task"


def of_task(name: str, slug: str, state: State, kind: str) -> TaskView:
    """Return the view of a task and its state."""
    if not isinstance(state, Mapped):
        known = type(state).__name__
        return TaskView(slug, name, kind, known, text_of(state.message), counted({known: 1}), 1)
    numbers = Counter("Pending" if child is None else type(child).__name__ for child in state.map_states)
    numbers["Pending"] += state.n_map_states - len(state.map_states)
    return TaskView(slug, name, kind, "Mapped", "", counted(numbers), state.n_map_states)


def causes_of(found: Iterable[tuple[str, State]]) -> tuple[list[CauseView], int]:
    """Group failures by cause: same type, and messages that differ only in details.

    The causes come with the most frequent first, and those that only follow from others at the end; the number is that
    of failures that are not among them. `found` is the label and state of each task; children are labelled with their
    index.
    """
    first: dict[tuple[str, str, str], State] = {}
    named: dict[tuple[str, str, str], list[str]] = {}
    counts: Counter[tuple[str, str, str]] = Counter()
    unseen = 0
    for number, (label, state) in enumerate(_failures(found)):
        if number >= MAX_FAILURES_READ:
            unseen += 1
            continue
        kind, text = described(state)
        key = type(state).__name__, kind, normalised(text)
        counts[key] += 1
        first.setdefault(key, state)
        names = named.setdefault(key, [])
        if len(names) < MAX_CHILDREN_NAMED:
            names.append(label)
    ranked = sorted(counts.items(), key=lambda item: (item[0][0] == CONSEQUENCE_STATE, -item[1]))
    views = [_cause(key, first[key], count, named[key]) for key, count in ranked[:MAX_CAUSES]]
    return views, unseen + counts.total() - sum(view.number for view in views)


def _cause(key: tuple[str, str, str], state: State, count: int, named: Sequence[str]) -> CauseView:
    cause = cause_of(state)
    return cause_view(key[0], cause.type, cause.message, cause.traceback, count, named)


def cause_view(
    kind: str, type: str, message: str, traceback: str | None, number: int, named: Sequence[str]
) -> CauseView:
    """Return the view of a cause; consequences of other failures have no traceback and exception."""
    if kind == CONSEQUENCE_STATE:
        return CauseView(kind, kind, message, None, number, named)
    return CauseView(kind, type, message, None if traceback is None else mask(traceback), number, named)


def _failures(found: Iterable[tuple[str, State]]) -> Iterator[tuple[str, State]]:
    for label, state in found:
        if not isinstance(state, Mapped):
            if state.is_failed():
                yield _named(label, state), state
            continue
        for index, child in enumerate(state.map_states):
            if child is not None and child.is_failed():
                yield _named(f"{label}[{index}]", child), child


def _named(label: str, state: State) -> str:
    name = run_name(state)
    return label if name is None else f"{label} ({name})"


def run_name(state: State) -> str | None:
    """Return the name of a task run, if it has one."""
    name = state.context.get("task_run_name")
    return None if name is None else str(name)


def text_of(message: Any) -> str:
    """Return the text of a message, even if its `__str__` raises."""
    if message is None:
        return ""
    try:
        return str(message)
    except Exception as broken:  # `__str__` is user code
        return f"<{type(message).__name__} whose str raises {type(broken).__name__}>"
