"""The text of messages: about a task or flow, or a digest of many children."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from prefectish.engine.driver import active_runs
from prefectish.engine.scheduling.causes import cause_of
from prefectish.engine.scheduling.verdict import expand
from prefectish.engine.state import Failed, Mapped, State, TriggerFailed
from prefectish.engine.task_states import labels_of
from prefectish.next_command import NextCommand
from prefectish.parameters import Parameter
from prefectish.secrets.masking import mask
from prefectish.slugs import child_label
from prefectish.tasks.secrets import SecretBase

#: Maximum number of tasks, causes, children named for each, and failures read.
MAX_TASKS, MAX_CAUSES, MAX_CHILDREN_NAMED, MAX_FAILURES_READ = 20, 5, 3, 10_000
#: Maximum length of the message of a cause.
MAX_MESSAGE_LENGTH = 200
_FAILED_NAMES = frozenset(("Failed", *(cls.__name__ for cls in Failed.children())))
#: Tasks that only provide values.
_SOURCES = (Parameter, SecretBase)


class Message(NamedTuple):
    """A message: a subject line and a text."""

    subject: str
    text: str

    def whole(self) -> str:
        """Return subject and text in one string."""
        return f"{self.subject}\n{self.text}" if self.text else self.subject


def of_change(obj: Any, state: State, run_id: str | None) -> Message:
    """Return the message about a state change of a flow or unmapped task; for a finished flow, with all its tasks."""
    what = type(state).__name__
    said = str(state.message or "")
    if not hasattr(obj, "reference_tasks"):
        return _message(f"Task {obj.name!r}: {what}", [said], {}, state, run_id)
    states = state.result if issubclass(type(state.result), Mapping) else {}
    return _message(f"Flow {obj.name!r}: {what}", [said, *_tasks(states)], states, state, run_id)


def of_map(task: Any, state: Mapped, run_id: str | None) -> Message:
    """Return the digest of a finished map."""
    return _message(f"Map {task.name!r}: {_counts_text(_counts(state))}", [], {task: state}, state, run_id)


def _message(subject: str, lines: list[str], states: Mapping[Any, State], state: State, run_id: str | None) -> Message:
    lines = [line for line in lines if line] + _causes(states)
    if run_id is not None:
        lines.append(f"run {run_id}")
        if state.is_failed() or any(child.is_failed() for own in states.values() for child in expand(own)):
            lines += _again(run_id)
    return Message(mask(subject), mask("\n".join(lines)))


def _again(run_id: str) -> list[str]:
    """Return the command that runs again what failed; none if no history records the run."""
    run = active_runs.find(run_id)
    if run is None:  # in another process than the client's, which does not know the history
        commands = NextCommand()
    elif run.recorder is None:
        return []
    else:
        commands = NextCommand.of_history(run.recorder.address)
    return [commands.resume_command("resume", run_id, "--retry-failed")]


def _tasks(states: Mapping[Any, State]) -> list[str]:
    """Return a line for each task, those with failures first, without parameters and secrets."""
    called = _called(states)
    rows = [(t, _counts(own)) for t, own in states.items() if not (t.auto_generated or isinstance(t, _SOURCES))]
    failed = {t: any(child.is_failed() for child in expand(states[t])) for t, _ in rows}
    rows.sort(key=lambda row: not failed[row[0]])
    lines = [f"{called[task]}: {_counts_text(counts)}" for task, counts in rows[:MAX_TASKS]]
    return lines + ([f"and {len(rows) - MAX_TASKS:,} more tasks"] if len(rows) > MAX_TASKS else [])


def _causes(states: Mapping[Any, State]) -> list[str]:
    """Return a line for each of the most frequent causes, without consequences of other failures."""
    failures = list(islice(_failures(states), MAX_FAILURES_READ))
    groups: dict[str, tuple[str, list[str]]] = {}
    for label, child in failures:
        cause = cause_of(child)
        text = mask(f"{cause.type}: {cause.message}")
        groups.setdefault(cause.fingerprint, (text, []))[1].append(label)
    largest = sorted(groups.values(), key=lambda group: -len(group[1]))
    lines = [f"{len(labels):,} x {_cut(text)} ({_labels_text(labels)})" for text, labels in largest[:MAX_CAUSES]]
    if len(largest) > MAX_CAUSES:
        lines.append(f"and {len(largest) - MAX_CAUSES:,} more causes")
    if len(failures) == MAX_FAILURES_READ:
        lines.append(f"causes of the first {MAX_FAILURES_READ:,} failures")
    return lines


def _called(states: Mapping[Any, State]) -> dict[Any, str]:
    """Return what each task is called."""
    return dict(zip(states, labels_of(states).values(), strict=True))


def _failures(states: Mapping[Any, State]) -> Iterator[tuple[str, State]]:
    called = _called(states)
    for task, state in states.items():
        children = state.map_states if isinstance(state, Mapped) else None
        for index, child in enumerate([state] if children is None else children):
            if child is not None and child.is_failed() and not isinstance(child, TriggerFailed):
                yield child_label(called[task], None if children is None else index), child


def _counts(state: State) -> Counter[str]:
    return Counter(type(child).__name__ for child in expand(state))


def _counts_text(counts: Mapping[str, int]) -> str:
    """Return counts as text: failures first, rare states before common ones.

    Examples
    --------
    >>> _counts_text({"Success": 9988, "Failed": 12000, "Skipped": 3})
    '12,000 Failed, 3 Skipped, 9,988 Success'
    """
    order = sorted(counts.items(), key=lambda count: (count[0] not in _FAILED_NAMES, count[1], count[0]))
    return ", ".join(f"{n:,} {kind}" for kind, n in order) or "no children"


def _labels_text(labels: Iterable[str]) -> str:
    labels = list(labels)
    return f"{', '.join(labels[:MAX_CHILDREN_NAMED])}{', ...' if len(labels) > MAX_CHILDREN_NAMED else ''}"


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_MESSAGE_LENGTH else f"{line[:MAX_MESSAGE_LENGTH]}…"
