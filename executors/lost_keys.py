"""Translate lost Dask keys into `Lost` records, and detect keys that can never finish."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future as Answer
from typing import TYPE_CHECKING, Any

from distributed import Future

from prefectish.engine.capture import Error, capture
from prefectish.engine.context import get_logger
from prefectish.engine.jobs.job import Job
from prefectish.engine.jobs.protocol import LossCause, Lost, Share
from prefectish.engine.scheduling.deaths import death_in_words, is_of_memory
from prefectish.errors import SchedulerLost
from prefectish.executors.connect import Connection
from prefectish.executors.dask_api import asked_on_scheduler
from prefectish.executors.worker_death import worker_evidence

if TYPE_CHECKING:
    from prefectish.executors.open_keys import OpenKey

#: Time without any finished key after which the cluster is checked, and between two checks, in seconds.
_LOOK_INTERVAL = 1.0
#: Time the link to the scheduler may be down before it counts as lost, in seconds.
_LINK_TIMEOUT = 8.0
#: Time that the scheduler may take for an answer before a warning, in seconds.
_SLOW_ANSWER = 5.0
#: Time that a check waits for the answer of the cluster, in seconds; the next check reads an answer that comes later.
_ANSWER_WAIT = 0.05
#: Children that a warning names.
_MAX_SHOWN = 3
#: Reasons of Dask for a cancelled key that mean the scheduler is gone, and those that mean an input is.
_SCHEDULER_REASONS = ("scheduler-connection-lost", "scheduler-close")
#: A scattered value cannot be computed again: Dask forgets the keys that read it, or never finds it.
_INPUT_REASONS = ("lost dependencies", "already forgotten")
#: Dask gives no reason where such a value was lost, nor where another client cancelled the key.
_NO_REASON = "unknown"

logger = get_logger("engine")


class NoAnswer(Exception):
    """Raised when the cluster does not answer in time; the question was dropped."""


def describe_loss(future: Future, job: Job, watch: LossWatch, reads: bool, first_death: bool = False) -> Lost | None:
    """Return why a key has no value; None if it has one by now.

    Parameters
    ----------
    reads
        Whether it reads a value that was sent beside the calls.
    first_death
        Whether Dask was told to give it up at the first death of its worker.
    """
    outcome = capture(future.result, timeout=10)
    if not isinstance(outcome, Error):
        return None
    fault = outcome.exception
    name = type(fault).__name__
    if name == "KilledWorker":
        return _killed(fault, job, watch, first_death)
    reason = str(getattr(fault, "reason", fault))
    if reason in _SCHEDULER_REASONS:
        return watch.scheduler_lost()
    if reason in _INPUT_REASONS or (reason == _NO_REASON and reads):
        return Lost(LossCause.INPUT_LOST, detail="a value it reads was lost with its worker")
    if future.status in ("cancelled", "lost"):
        return Lost(LossCause.CANCELLED_BY_CLUSTER, detail=f"the cluster cancelled it ({reason})")
    return Lost(LossCause.CLUSTER_ERROR, detail=f"{name}: {fault}")


def _killed(fault: BaseException, job: Job, watch: LossWatch, first_death: bool) -> Lost:
    """Return the loss of a job whose workers died."""
    tolerated = int(getattr(fault, "allowed_failures", 0))
    last, key = getattr(fault, "last_worker", None), getattr(fault, "task", None)
    # A suspect runs again alone; only then did it cause the death of its worker. Unless it ran out of memory.
    evidence = watch.evidence(last, key) if job.solo or first_death else {}
    return Lost(
        LossCause.KILLED_WORKER,
        1 if first_death else tolerated + 1,
        _position_of(key, job),
        getattr(last, "address", None),
        death_in_words(evidence),
        evidence=evidence or None,
        tolerated=tolerated if first_death else 0,
        of_memory=first_death and is_of_memory(evidence),
        share=Share(evidence.get("share", Share.AMONG_OTHERS)),
    )


def _position_of(key: Any, job: Job) -> int | None:
    """Return the position of the step that Dask blames, which may be one before the key that was read."""
    if isinstance(key, tuple):
        for position in job.positions:
            if str(key[0]).startswith(f"{job.chain.steps[position].slug}-"):
                return position
    return None


class LossWatch:
    """Checks the cluster when nothing has ended for a while.

    Parameters
    ----------
    run_id
        Names the run.
    no_workers_timeout
        How long there may be no worker that can run what is open, in seconds; also how long the scheduler may leave a
        question unanswered.
    stall_warning
        After how many seconds in which nothing ends a warning says what runs; None for never.
    """

    def __init__(
        self, connection: Connection, run_id: str, no_workers_timeout: float, stall_warning: float | None
    ) -> None:
        self.connection = connection
        self.run_id = run_id
        self.no_workers_timeout = no_workers_timeout
        self.stall_warning = stall_warning
        self._quiet_since: float | None = None
        self._next_look = 0.0
        self._no_workers_since: float | None = None
        self._link_down_since: float | None = None
        self._pending_question: tuple[float, Answer[Any]] | None = None
        self._warned: set[str] = set()
        self._deaths: dict[tuple[Any, Any], dict[str, Any]] = {}
        self._lost = False

    def progressed(self, now: float) -> None:
        """Note that something ended."""
        self._quiet_since = None
        self._no_workers_since = None
        self._link_down_since = None
        self._warned.discard("stalled")

    def evidence(self, worker: Any, key: Any) -> dict[str, Any]:
        """Return what is known of a dead worker that had a key; its nanny is asked once."""
        place = getattr(worker, "address", None), getattr(worker, "pid", None)
        known = self._deaths.get(place)
        found = worker_evidence(self.connection.client, worker, key, ask_nanny=known is None)
        if known is None:
            self._deaths[place] = {name: value for name, value in found.items() if name != "share"}
            return found
        return {**known, **found}

    def scheduler_lost(self) -> Lost:
        """Return the loss of the scheduler: everything of the run is lost with it."""
        if not self._lost:
            self._lost = True
            logger.error("the scheduler was lost; if the run is recorded, flow.resume(%r) continues it", self.run_id)
        return Lost(LossCause.SCHEDULER_LOST, detail="the scheduler was lost", fatal=True)

    def wait(self, question: Coroutine[Any, Any, Any], limit: float | None = None) -> Any:
        """Return the answer of the cluster to a question, whatever it raises too.

        Parameters
        ----------
        limit
            How long to wait, in seconds; then the question is dropped, and can be asked again.

        Raises
        ------
        NoAnswer
            There was none within the limit.
        SchedulerLost
            There was none within `no_workers_timeout`.
        """
        answer, began = self.connection.begin(question), time.monotonic()
        while True:
            try:
                return answer.result(_LOOK_INTERVAL if limit is None else min(_LOOK_INTERVAL, limit))
            except TimeoutError:
                if answer.done():
                    return answer.result()  # a timeout of its own
            except BaseException:
                answer.cancel()
                raise
            silent = time.monotonic() - began
            self._note_silence(silent)
            if limit is not None and silent >= limit:
                answer.cancel()
                raise NoAnswer(f"no answer within {limit:g} s")
            if silent > self.no_workers_timeout:
                answer.cancel()
                self.scheduler_lost()
                raise SchedulerLost(f"the scheduler has not answered for {silent:.0f} s")

    def _note_silence(self, seconds: float) -> None:
        if seconds >= _SLOW_ANSWER and self.connection.client.status == "running":
            self._warn_once("silent", "the cluster has not answered for %.0f s; the run waits for it", seconds)

    def _warn_once(self, what: str, text: str, *args: Any) -> None:
        """Log a warning once."""
        if what not in self._warned:
            self._warned.add(what)
            logger.warning(text, *args)

    def look(self, now: float, open_keys: Mapping[Any, OpenKey]) -> dict[Any, Lost]:
        """Return the keys that will never end, and why.

        Parameters
        ----------
        now
            Seconds of the monotonic clock.
        """
        if not open_keys:
            self._quiet_since = None
            return {}
        if self._quiet_since is None:
            self._quiet_since = now
            self._next_look = now + _LOOK_INTERVAL
        if now < self._next_look:
            return {}
        self._next_look = now + _LOOK_INTERVAL
        if self._lost or self._link_is_down(now):
            self._pending_question = None
            return dict.fromkeys(open_keys, self.scheduler_lost())
        if self._link_down_since is not None:
            return {}
        return self._take_answer(now, open_keys)

    def _link_is_down(self, now: float) -> bool:
        if self.connection.client.status == "running":
            self._link_down_since = None
            return False
        self._link_down_since = self._link_down_since or now
        return now - self._link_down_since > _LINK_TIMEOUT

    def _take_answer(self, now: float, open_keys: Mapping[Any, OpenKey]) -> dict[Any, Lost]:
        """Read the answer to the question of the last check, and ask again."""
        if self._pending_question is None:
            self._pending_question = now, self.connection.begin(self.connection.ask_threads())
        asked, answer = self._pending_question
        outcome = capture(answer.result, _ANSWER_WAIT)
        if not answer.done():
            self._note_silence(now - asked)
            return dict.fromkeys(open_keys, self.scheduler_lost()) if now - asked > self.no_workers_timeout else {}
        self._pending_question = None
        if isinstance(outcome, Error):
            return {}  # the connection broke meanwhile; the next check reports it
        return self._judge(outcome.value, now, open_keys)

    def _judge(self, threads: int, now: float, open_keys: Mapping[Any, OpenKey]) -> dict[Any, Lost]:
        """Return what can never end, now that the number of threads is known."""
        if threads:
            self._no_workers_since = None
            self._note_stall(now, open_keys)
            return self._unrunnable(now, open_keys)
        self._no_workers_since = self._no_workers_since or now
        if now - self._no_workers_since < self.no_workers_timeout:
            return {}
        detail = f"the cluster had no workers for {self.no_workers_timeout:g} s"
        return dict.fromkeys(open_keys, Lost(LossCause.NO_WORKERS, detail=detail, fatal=True))

    def _unrunnable(self, now: float, open_keys: Mapping[Any, OpenKey]) -> dict[Any, Lost]:
        """Return the keys that no worker may run: a resource or a named worker is missing."""
        assert self._quiet_since is not None
        if now - self._quiet_since < self.no_workers_timeout:
            return {}
        keys = self._ask_scheduler(_no_worker_keys, list(open_keys))
        detail = (
            f"no worker may run it, for {self.no_workers_timeout:g} s: a resource or a worker it asks for is missing"
        )
        return {key: Lost(LossCause.NO_WORKERS, detail=detail) for key in keys or () if key in open_keys}

    def _note_stall(self, now: float, open_keys: Mapping[Any, OpenKey]) -> None:
        """Warn once if nothing has ended for a long time, and say what runs."""
        assert self._quiet_since is not None
        quiet = now - self._quiet_since
        if self.stall_warning is None or quiet < self.stall_warning or "stalled" in self._warned:
            return
        running = self._ask_scheduler(_running_keys, list(open_keys))
        if running is None:
            return
        shown = ", ".join(
            f"{entry.jobs[0].chain.steps[_step_of(key, entry)].label(entry.jobs[0].index)} on {worker}"
            for key, worker in running[:_MAX_SHOWN]
            if (entry := open_keys.get(key)) is not None
        )
        self._warn_once(
            "stalled",
            "nothing has ended for %.0f s; of %d open tasks %d run%s. One that never ends needs a timeout; one that "
            "waits for tasks of its own on this cluster needs distributed.worker_client()",
            quiet, len(open_keys), len(running), f": {shown}" if shown else "",
        )  # fmt: skip

    def _ask_scheduler(self, function: Callable[..., Any], keys: list[Any]) -> Any:
        """Return what a function returns on the scheduler; None if the scheduler does not run it, or not in time."""
        outcome = capture(self.wait, asked_on_scheduler(self.connection.client, function, keys=keys), _LOOK_INTERVAL)
        return None if isinstance(outcome, Error) else outcome.value


def _step_of(key: Any, entry: OpenKey) -> int:
    """Return the position of the step that a key stands for."""
    position = _position_of(key, entry.jobs[0])
    return entry.jobs[0].positions[0] if position is None else position


def _running_keys(keys: list[Any], dask_scheduler: Any = None) -> list[tuple[Any, str]]:
    """Return those of `keys` that a worker has, or one of their inputs, with its address; runs on the scheduler."""
    found = []
    for key in keys:
        todo = [dask_scheduler.tasks[key]] if key in dask_scheduler.tasks else []
        while todo:
            ts = todo.pop()
            if ts.processing_on is not None:
                found.append((key, ts.processing_on.address))
                break
            todo.extend(d for d in ts.dependencies if d.state in ("waiting", "processing"))
    return found


def _no_worker_keys(keys: list[Any], dask_scheduler: Any = None) -> list[Any]:
    """Return those of `keys` that wait for a worker which does not exist; runs on the scheduler."""
    found = []
    for key in keys:
        task = dask_scheduler.tasks.get(key)
        todo = [task] if task is not None else []
        while todo:
            ts = todo.pop()
            if ts.state == "no-worker":
                found.append(key)
                break
            todo.extend(d for d in ts.dependencies if d.state in ("waiting", "no-worker"))
    return found
