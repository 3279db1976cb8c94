"""The log of failures and retries: what failed, why, and what happens next, logged once for each cause.

The client logs them, as it is the one place that knows of all: what bodies raise in whatever process, what the engine
decides (inputs that cannot be mapped over, results that cannot be pickled), and workers that died. The first failure
of a cause comes with its traceback; those after it are counted. Where a live view counts the causes, nothing of it is
written to the error output. The history has a line for each.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection
from itertools import islice
from typing import NamedTuple

from prefectish.engine.context import get_logger
from prefectish.engine.jobs.envelope import EncodedError
from prefectish.engine.jobs.failures import WHOLE_OF_CAUSE
from prefectish.engine.jobs.log_lines import LogLine, block, one_line
from prefectish.engine.scheduling.causes import described, normalised
from prefectish.engine.scheduling.events import FailureEvent
from prefectish.engine.state import Crashed, Retrying, State
from prefectish.engine.worker.attempt_context import child_logger
from prefectish.engine.worker.decide import BODY_FAILED
from prefectish.engine.worker.logs import digest
from prefectish.engine.worker.logs.capture import handler, safely
from prefectish.engine.worker.logs.relay import AttemptLog
from prefectish.exception_pickling import traceback_of
from prefectish.kinds import is_a
from prefectish.next_command import NextCommand
from prefectish.process_tree import process_name
from prefectish.secrets.masking import mask
from prefectish.slugs import child_label

#: Distinct causes that are logged for each task; failures by other causes are counted together.
MAX_CAUSES = 10
#: Attempts that failed for one cause and are retried: so many are logged one by one.
RETRIES = 10
#: Last lines of a dead process that are logged.
LAST_WORDS = 10
#: Tasks of one name that a line names.
MAX_TASKS = 3
#: Longest reason in a line, in characters.
LONGEST_REASON = 500
_FRAME = re.compile(r'^ *File "(?P<file>[^"]+)", line (?P<line>\d+), in ', re.MULTILINE)


class CauseCount(NamedTuple):
    """Failures of one cause, for a live view.

    Attributes
    ----------
    task
        What the tasks are called that failed by it.
    reason
        Type and text of the first of them.
    number
        How many there are.
    first
        The label of the first of them: ``load[3] (eu.csv)``.
    is_final
        Whether they failed for good; else they were retried.
    """

    task: str
    reason: str
    number: int
    first: str
    is_final: bool


class FailureLog:
    """Logs the failures of a run, and counts them by cause."""

    def __init__(
        self, run_id: str, commands: NextCommand | None, is_live: Callable[[], bool | None] = lambda: False
    ) -> None:
        self._run_id = run_id
        self._commands = commands  # about the run; None if no history records it
        # Whether a live view shows the causes; None as long as that is not known, which keeps the first lines back.
        self._is_live = is_live
        self._counts: dict[tuple[str, bool, str], CauseCount] = {}
        # What the tasks are called that failed by a cause, in order of appearance.
        self._labels: dict[tuple[str, bool, str], dict[str, None]] = {}
        self._held: list[logging.LogRecord] = []

    def causes(self) -> list[CauseCount]:
        """Return what failed, and what was retried, by cause, in order of appearance."""
        return list(self._counts.values())

    def note(self, failure: FailureEvent) -> AttemptLog:
        """Log a failure, unless enough of its kind have been; return it as a line of its child, for the history."""
        state, is_final = failure.state, not isinstance(failure.state, Retrying)
        level = logging.ERROR if is_final else logging.WARNING
        text, traceback = text_of(failure), _traceback(state)
        count = self._count(failure, is_final)
        if count.number <= (1 if is_final else RETRIES):
            shown = traceback if is_final else None
            self._log(failure, level, f"{one_line(text)}{_last_words(state)}", shown)
        elif is_power_of_ten(count.number):
            self._log(failure, level, _so_far(count), None, count.task)
        index = failure.row if failure.step.mapped else None
        # Later ones share the traceback of the first of their cause, which has its line.
        below = None if traceback is None or count.number > WHOLE_OF_CAUSE else block(traceback)
        line = LogLine(failure.wall.timestamp(), level, None, one_line(text), below)
        step, name = failure.step, _run_name(state)
        return AttemptLog(
            step.number, step.slug, step.name, step.label, failure.row, index, failure.attempt, None, name, (line,)
        )

    def end(self) -> None:
        """Log how many failures were left out, and what was held back for a live view that did not come."""
        is_live = self._is_live()
        held, self._held = self._held, []
        for record in () if is_live else held:
            digest.show(record)
        for key, count in self._counts.items():
            if count.number > (1 if count.is_final else RETRIES) and not is_live:
                left_out = count.number - (1 if count.is_final else RETRIES)
                what = "failures" if count.is_final else "attempts that failed and were retried"
                if left_out == 1:
                    what = "failure" if count.is_final else "attempt that failed and was retried"
                were = "was" if left_out == 1 else "were"
                text = f"{one_line(count.task)}: {left_out:,} more {what} {were} not logged one by one: {count.reason}"
                where = _children_of(self._labels[key])
                if self._commands is not None:
                    where = f"`{self._commands.command('failures', self._run_id)}` and `logs` show them"
                hint = f"; {where}" if count.is_final else ""
                safely(get_logger("engine").warning, "%s (%s in all)%s", text, f"{count.number:,}", hint)

    def _count(self, failure: FailureEvent, is_final: bool) -> CauseCount:
        """Count a failure with others of its cause, of all calls of a task by this name."""
        name = failure.step.name
        key = name, is_final, normalised(reason_of(failure.state))
        if key not in self._counts and sum(k[:2] == key[:2] for k in self._counts) >= MAX_CAUSES:
            key = name, is_final, ""
        called = self._labels.setdefault(key, {})
        called[failure.step.label] = None
        before = self._counts.get(key)
        if before is not None:
            count = before._replace(number=before.number + 1, task=_listed(called))
        else:
            reason = reason_of(failure.state) if key[2] else "other causes"
            count = CauseCount(failure.step.label, reason, 1, label_of(failure), is_final)
        self._counts[key] = count
        return count

    def _log(
        self, failure: FailureEvent, level: int, text: str, traceback: str | None, of_all: str | None = None
    ) -> None:
        """Pass a line of a child, or of all of a task, to the handlers; a live view replaces the error output."""
        logger = get_logger(failure.step.name)
        if not logger.isEnabledFor(level):
            return
        record = _record(failure, level, text, traceback, of_all)
        record.flow_run_id = self._run_id
        is_live = self._is_live()
        record.is_shown_live = is_live is not False
        if is_live is None and not digest.is_handled(logger.name, but=handler):
            self._held.append(record)
        safely(logger.handle, record)


def text_of(failure: FailureEvent) -> str:
    """Return what is logged of a failure: which attempt of how many, why, and what comes next."""
    state, attempts = failure.state, failure.step.task.max_retries + 1
    if isinstance(state, Crashed):
        return f"crashed: {state.message}"
    which = ""
    if failure.attempt and (failure.attempt > 1 or attempts > 1 or isinstance(state, Retrying)):
        which = f"attempt {failure.attempt}{f' of {attempts}' if 1 < attempts >= failure.attempt else ''} "
    if not isinstance(state, Retrying):
        stops = "; not retried" if 0 < failure.attempt < attempts else ""
        return f"{which}failed: {reason_of(state)}{stops}"
    next_one = f"; retrying in {_seconds(failure.due_in_seconds)}" if failure.due_in_seconds else ""
    said = described(state)[0] == Retrying.__name__  # by a RETRY signal, or after the death of its own process
    return f"{which.rstrip()}: {state.message}{next_one}" if said else f"{which}failed: {reason_of(state)}{next_one}"


def reason_of(state: State) -> str:
    """Return why a task failed, in a line: the exception of its body, or what the engine says."""
    kind, text = described(state)
    message = str(state.message or "")
    if isinstance(state, Retrying) or message.startswith(BODY_FAILED) or not message:
        message = f"{kind}: {text}" if text else kind
    return one_line(mask(message), LONGEST_REASON)


def label_of(failure: FailureEvent) -> str:
    """Return what failed: ``load[3] (eu.csv)``."""
    step, name = failure.step, _run_name(failure.state)
    label = child_label(step.label, failure.row if step.mapped and failure.row >= 0 else None)
    return one_line(label if name is None else f"{label} ({name})")


def is_power_of_ten(number: int) -> bool:
    """Whether a count is logged: 10, 100, 1000 ...

    Examples
    --------
    >>> [number for number in range(2, 2000) if is_power_of_ten(number)]
    [10, 100, 1000]
    """
    return str(number).rstrip("0") == "1" and number > 1


def _listed(labels: Collection[str]) -> str:
    """Return what tasks are called, the first of them."""
    more = f" and {len(labels) - MAX_TASKS} more" if len(labels) > MAX_TASKS else ""
    return f"{', '.join(islice(labels, MAX_TASKS))}{more}"


def _children_of(labels: Collection[str]) -> str:
    """Return which expressions have the failed children of tasks."""
    shown = " and ".join(f"state.children({label!r}, failed=True)" for label in islice(labels, MAX_TASKS))
    more = f" and {len(labels) - MAX_TASKS} more" if len(labels) > MAX_TASKS else ""
    return f"{shown}{more} {'has' if len(labels) == 1 else 'have'} them"


def _so_far(count: CauseCount) -> str:
    what = "failures" if count.is_final else "attempts that failed and are retried"
    return f"{count.number:,} {what} so far: {count.reason}"


def _seconds(seconds: float) -> str:
    return f"{round(seconds, 2):.2g} s" if seconds < 10 else f"{seconds:,.0f} s"


def _traceback(state: State) -> str | None:
    """Return the traceback of a failure, also of one that is retried."""
    text: str | None = getattr(state, "traceback", None)
    if text is None:
        error = state._raw_result
        text = error.traceback_text if is_a(error, EncodedError) else traceback_of(error)
    return mask(text).rstrip() if text else None


def _run_name(state: State) -> str | None:
    name: str | None = state.context.get("task_run_name")
    return name


def _last_words(state: State) -> str:
    """Return the last lines of a process that died, which cannot log them any more."""
    lines = (state.evidence or {}).get("log") or () if isinstance(state, Crashed) else ()
    return "".join(f"\n  {one_line(line)}" for line in lines[-LAST_WORDS:])


def _record(
    failure: FailureEvent, level: int, text: str, traceback: str | None, of_all: str | None
) -> logging.LogRecord:
    """Return a record for the handlers, with the place in the user's code where the failure was raised."""
    step, run_name = failure.step, None if of_all else _run_name(failure.state)
    index = failure.row if step.mapped and failure.row >= 0 and not of_all else None
    error = failure.state._raw_result
    raised = is_a(error, BaseException) and error.__traceback__ is not None and bool(traceback)
    frames = list(_FRAME.finditer(traceback or ""))
    file, line = (frames[-1]["file"], int(frames[-1]["line"])) if frames else ("", 0)
    values = {
        "name": child_logger(step.name, index).name,
        "levelno": level,
        "levelname": logging.getLevelName(level),
        "pathname": file,
        "filename": file.replace("\\", "/").rpartition("/")[2],
        "lineno": line,
        "msg": text if run_name is None else f"{one_line(run_name)}: {text}",
        "text": text,
        "created": failure.wall.timestamp(),
        "msecs": failure.wall.microsecond // 1000,
        "exc_info": (type(error), error, error.__traceback__) if raised else None,
        "exc_text": block(traceback) if traceback else traceback,  # no text in it can pass for a line of the log
        "task_name": step.name,
        "task_slug": step.slug,
        "task_label": of_all or step.label,
        "map_index": index,
        "task_run_name": run_name,
        "processName": failure.worker or process_name(),
    }
    return logging.makeLogRecord(values)
