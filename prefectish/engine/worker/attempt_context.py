"""What `prefectish.context` shows in a body: the context of the run, and of this attempt, computed when it is read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from prefectish import config
from prefectish.engine.context import get_logger
from prefectish.engine.deferred import Deferred
from prefectish.engine.jobs.log_lines import LogLine, LogLines
from prefectish.engine.pause import ANSWERS
from prefectish.engine.state import Paused, Pending, Resume, Retrying, State
from prefectish.engine.worker import body_progress
from prefectish.kinds import is_a
from prefectish.secrets.store import stand_ins

if TYPE_CHECKING:
    from prefectish.engine.jobs.job import StepSpec
    from prefectish.engine.worker.time_limit import Allowance


#: In the context of a state from which a run starts that was probed: how its cache was missed, not to look again.
MISS = "cache_miss"
#: In the context of a state that waits: the attempts that count as none of those that the user sees, because they were
#: made in former turns of a loop, or ended with the process of the body.
BEFORE_TURN = "task_loop_attempts"
#: Cause of the Crashed state of a body whose own process died.
KILLED_PROCESS = "killed-process"
#: In the context of a Crashed state of which the client decides whether it is retried: from where the retry continues.
CRASH_PROGRESS = "task_crash_progress"


class AttemptContext(Mapping[str, Any]):
    """The context of one attempt: that of the run, overlaid with keys of the attempt.

    One is made for every child, so it holds references only; names, identifiers and loggers are made when read.

    Attributes
    ----------
    run_count
        Number of this attempt, from 1, which no other attempt has.
    hook_seconds
        Time that code of the user around the body took so far, of a task with a `timeout`.
    before
        Of these, the attempts in former turns of a loop, and those that ended with the process of the body.
    allowance
        The time that the body may still take; None without a limit.
    """

    # What most attempts never set has its value from the class, and takes no time when they are made.
    __slots__ = ("__dict__", "index", "run", "spec", "start")

    inputs: Any = None
    allowance: Allowance | None = None
    is_timed = False  # a time limit around it may interrupt this thread at any moment
    key: str | None = None
    item_key: str | None = None
    lines: LogLines | None = None
    miss: Any = None
    due: tuple[datetime, float] | None = None
    name: str | None = None
    answers: Any = None
    run_count = 1
    hook_seconds = 0.0
    before = 0
    resume = False
    loop_count = 0
    loop_result: Any = None

    def __init__(self, run: Mapping[str, Any], spec: StepSpec, index: int, start: State) -> None:
        self.run = run
        self.spec = spec
        self.index = index
        self.start = start
        if start._context is not None:
            self.miss = start._context.get(MISS)
        if type(start) is not Pending:
            self._continue(start)
            return
        if "task_loop_count" in run:
            self.loop_count = run["task_loop_count"]
            self.loop_result = run.get("task_loop_result")

    @property
    def attempt(self) -> AttemptContext:
        """Return this context itself, which an overlay (``with context(...)``) passes on."""
        return self

    def log(self, line: LogLine) -> None:
        """Keep a line that the attempt logged."""
        if self.lines is None:
            self.lines = LogLines()
        self.lines.add(line)

    def progress(self, done: float, total: float | None, message: str | None) -> None:
        """Report how far the body is."""
        body_progress.report(self, done, total, message)

    @property
    def turn_count(self) -> int:
        """Return the number of this attempt in its turn of a loop, which is what the user sees and retries count."""
        return self.run_count - self.before

    def begin_turn(self, result: Any, count: int) -> None:
        """Begin the next turn of a loop, which has all its retries again.

        Parameters
        ----------
        count
            Number of the turn that ended, if it was the first of this run.
        """
        self.loop_count = (self.loop_count or count) + 1
        self.loop_result = result
        self.before = self.run_count - 1

    def _continue(self, start: State) -> None:
        is_retry = isinstance(start, Retrying)
        self.run_count = attempt_number(start) if is_retry else start.context.get("task_run_count", 1)
        self.resume = isinstance(start, Resume) or (isinstance(start, Paused) and start.start_time is not None)
        self.loop_count = start.context.get("task_loop_count", 0)
        self.loop_result = start.context.get("task_loop_result")
        self.before = start.context.get(BEFORE_TURN, 0)
        self.answers = start.context.get(ANSWERS)

    def get(self, name: str, default: Any = None) -> Any:
        """Return a value of the context, or the default; it runs several times a child."""
        try:
            own = _OWN.get(name)
            return self.run[name] if own is None else own(self)
        except KeyError:
            return default

    def __getitem__(self, name: str) -> Any:
        own = _OWN.get(name)
        return self.run[name] if own is None else own(self)

    def __iter__(self) -> Iterator[str]:
        yield from (name for name in self.run if name not in _OWN)
        for name in _OWN:
            try:
                self[name]
            except KeyError:
                continue
            yield name

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _item_key(ctx: AttemptContext) -> str:
    if ctx.item_key is None:
        raise KeyError("item_key")
    return ctx.item_key


def _loop_count(ctx: AttemptContext) -> int:
    if not ctx.loop_count:
        raise KeyError("task_loop_count")
    return ctx.loop_count


def _loop_result(ctx: AttemptContext) -> Any:
    if not ctx.loop_count:
        raise KeyError("task_loop_result")
    result = ctx.loop_result
    return result.get() if is_a(result, Deferred) else result


def _resume(ctx: AttemptContext) -> bool:
    if ctx.resume:
        return True
    return bool(ctx.run["resume"])


def _answers(ctx: AttemptContext) -> Any:
    answers = getattr(ctx, "answers", None)
    return ctx.run[ANSWERS] if answers is None else answers


def _full_name(ctx: AttemptContext) -> str:
    return f"{ctx.spec.name}[{ctx.index}]" if ctx.spec.mapped else ctx.spec.name


def _child_key(ctx: AttemptContext) -> str:
    return f"{ctx.run['flow_run_id']}-{ctx.spec.slug}-{ctx.index}-{ctx.run_count}"


def _logger(ctx: AttemptContext) -> logging.Logger:
    return child_logger(ctx.spec.name, ctx.index if ctx.spec.mapped else None)


def child_logger(name: str, index: int | None) -> logging.Logger:
    """Return a task's logger; that of a child has its index in the name and is not registered with the logging module.

    Parameters
    ----------
    index
        Position in the map, None for a single task.
    """
    parent = get_logger(name)
    if index is None:
        return parent
    child = logging.Logger(f"{parent.name}[{index}]")
    child.parent = parent
    return child


_OWN: dict[str, Callable[[AttemptContext], Any]] = {
    "task_name": lambda ctx: ctx.spec.name,
    "task_slug": lambda ctx: ctx.spec.slug,
    "task_label": lambda ctx: ctx.spec.label,
    "task_id": lambda ctx: ctx.spec.slug,
    "task_tags": lambda ctx: ctx.spec.task.tags,
    "task_full_name": _full_name,
    "task_run_name": lambda ctx: ctx.name or _full_name(ctx),
    "task_run_count": lambda ctx: ctx.turn_count,
    "task_run_id": lambda ctx: f"{ctx.run['flow_run_id']}-{ctx.spec.slug}-{ctx.index}",
    "item_key": _item_key,
    "map_index": lambda ctx: ctx.index if ctx.spec.mapped else None,
    "child_key": _child_key,
    "logger": _logger,
    "task_loop_count": _loop_count,
    "task_loop_result": _loop_result,
    "resume": _resume,
    ANSWERS: _answers,
}


def run_context(
    flow_name: str,
    run_id: str,
    run_name: str,
    parameters: Mapping[str, Any],
    now: datetime,
    given: Mapping[str, Any],
    scheduled: datetime | None = None,
) -> dict[str, Any]:
    """Return the context of a run, which every body can read.

    Parameters
    ----------
    now
        Start of the run, an aware datetime; `date` and its five text forms come from it.
    given
        The context that the caller passed; it wins, save for ``scheduled_start_time``.
    scheduled
        When the run was to start; None for now.
    """
    day = timedelta(days=1)
    return {
        "date": now,
        "today": now.strftime("%Y-%m-%d"),
        "yesterday": (now - day).strftime("%Y-%m-%d"),
        "tomorrow": (now + day).strftime("%Y-%m-%d"),
        "today_nodash": now.strftime("%Y%m%d"),
        "yesterday_nodash": (now - day).strftime("%Y%m%d"),
        "tomorrow_nodash": (now + day).strftime("%Y%m%d"),
        "scheduled_start_time": now if scheduled is None else scheduled,
        **{name: value for name, value in given.items() if name not in _ENGINE_ONLY},
        **({"secrets": stand_ins(given["secrets"])} if "secrets" in given else {}),
        "flow_name": flow_name,
        "flow_run_id": run_id,
        "flow_run_name": run_name,
        "parameters": {**given.get("parameters", {}), **parameters},
        "checkpointing": _checkpointing(given),
    }


def _checkpointing(given: Mapping[str, Any]) -> bool:
    """Whether a run stores results: by its context, else by the settings."""
    chosen = given.get("checkpointing")
    return config.switch("checkpointing", True) if chosen is None else bool(chosen)


#: Keys of a surrounding context that do not go into a run: the flow being built, and what the run decides itself.
_ENGINE_ONLY = frozenset(
    {"flow", "function_run", "block", "tags", "scheduled_start_time", "flow_run_id", "flow_name", "flow_run_name"}
)


def attempt_number(start: State | None) -> int:
    """Return the number of the attempt that begins from a state, from 1."""
    return start.run_count + 1 if isinstance(start, Retrying) else 1
