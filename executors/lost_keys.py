"""What a cluster lost, in the engine's words, and the watch for what would otherwise be waited for without end."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future as Answer
from typing import TYPE_CHECKING, Any

from distributed import Future

from prefectish.engine.capture import Error, capture
from prefectish.engine.context import get_logger
from prefectish.engine.jobs.job import Job
from prefectish.engine.jobs.protocol import LossCause, Lost
from prefectish.errors import SchedulerLost
from prefectish.executors.connect import Connection
from prefectish.executors.worker_death import as_text, worker_evidence

if TYPE_CHECKING:
    from prefectish.executors.session import OpenKey

#: Time without any finished key after which the cluster is looked at, and between two looks, in seconds.
QUIET = 1.0
#: Time the link to the scheduler may be down before it counts as lost, in seconds.
LINK_TIMEOUT = 8.0
#: Time that the scheduler may take for an answer before that is told, in seconds.
SLOW_ANSWER = 5.0
#: Time that a look at the cluster waits for the answer, in seconds; the next look takes it if it comes later.
ANSWER = 0.05
#: Children that a warning names.
SHOWN = 3
#: Reasons of Dask for a cancelled key that mean the scheduler is gone, and those that mean an input is.
_SCHEDULER_REASONS = ("scheduler-connection-lost", "scheduler-close")
#: A scattered value cannot be made again: what reads it is forgotten, or asked for in vain.
_INPUT_REASONS = ("lost dependencies", "already forgotten")
#: Dask gives no reason where such a value was lost, nor where another client cancelled the key.
_NO_REASON = "unknown"

logger = get_logger("engine")


class NoAnswer(Exception):
    """Says that the cluster did not answer in time; the question was dropped."""


def describe_loss(future: Future, job: Job, watch: LossWatch, reads: bool) -> Lost | None:
    """Say in our words why a key has no value; None if it has one by now.

    Parameters
    ----------
    reads
        Whether it reads a value that was sent by itself.
    """
    outcome = capture(future.result, timeout=10)
    if not isinstance(outcome, Error):
        return None
    fault = outcome.exception
    name = type(fault).__name__
    if name == "KilledWorker":
        deaths = int(getattr(fault, "allowed_failures", 0)) + 1
        last = getattr(fault, "last_worker", None)
        # A suspect runs again alone; only then is its worker's end its own.
        evidence = worker_evidence(watch.connection.client, last) if job.solo else {}
        position = _position_of(getattr(fault, "task", None), job)
        worker = getattr(last, "address", None)
        return Lost(LossCause.KILLED_WORKER, deaths, position, worker, as_text(evidence), evidence=evidence or None)
    reason = str(getattr(fault, "reason", fault))
    if reason in _SCHEDULER_REASONS:
        return watch.scheduler_lost()
    if reason in _INPUT_REASONS or (reason == _NO_REASON and reads):
        return Lost(LossCause.INPUT_LOST, detail="a value it reads was lost with its worker")
    if future.status in ("cancelled", "lost"):
        return Lost(LossCause.CANCELLED_BY_CLUSTER, detail=f"the cluster cancelled it ({reason})")
    return Lost(LossCause.CLUSTER_ERROR, detail=f"{name}: {fault}")


def _position_of(key: Any, job: Job) -> int | None:
    """Return the position of the step that Dask blames, which may be one before the key that was read."""
    if isinstance(key, tuple):
        for position in job.positions:
            if str(key[0]).startswith(f"{job.chain.steps[position].slug}-"):
                return position
    return None


class LossWatch:
    """Looks at the cluster when nothing ends for a while.

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
        self._question: tuple[float, Answer[Any]] | None = None
        self._told: set[str] = set()
        self._lost = False

    def progressed(self, now: float) -> None:
        """Note that something ended."""
        self._quiet_since = None
        self._no_workers_since = None
        self._link_down_since = None
        self._told.discard("stalled")

    def scheduler_lost(self) -> Lost:
        """Return the loss of the scheduler: everything of the run is lost with it."""
        if not self._lost:
            self._lost = True
            logger.error("the scheduler was lost; if the run is recorded, flow.resume(%r) goes on with it", self.run_id)
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
                return answer.result(QUIET if limit is None else min(QUIET, limit))
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
        if seconds >= SLOW_ANSWER and self.connection.client.status == "running":
            self._tell("silent", "the cluster has not answered for %.0f s; the run waits for it", seconds)

    def _tell(self, what: str, text: str, *args: Any) -> None:
        """Warn of something once."""
        if what not in self._told:
            self._told.add(what)
            logger.warning(text, *args)

    def look(self, now: float, opens: Mapping[Any, OpenKey]) -> dict[Any, Lost]:
        """Return the keys that will never end, and why.

        Parameters
        ----------
        now
            Seconds of the monotonic clock.
        """
        if not opens:
            self._quiet_since = None
            return {}
        if self._quiet_since is None:
            self._quiet_since = now
            self._next_look = now + QUIET
        if now < self._next_look:
            return {}
        self._next_look = now + QUIET
        if self._lost or self._link_is_down(now):
            self._question = None
            return dict.fromkeys(opens, self.scheduler_lost())
        if self._link_down_since is not None:
            return {}
        return self._hear(now, opens)

    def _link_is_down(self, now: float) -> bool:
        if self.connection.client.status == "running":
            self._link_down_since = None
            return False
        self._link_down_since = self._link_down_since or now
        return now - self._link_down_since > LINK_TIMEOUT

    def _hear(self, now: float, opens: Mapping[Any, OpenKey]) -> dict[Any, Lost]:
        """Take the answer to what was asked at the last look, and ask again."""
        if self._question is None:
            self._question = now, self.connection.begin(self.connection.ask_threads())
        asked, answer = self._question
        outcome = capture(answer.result, ANSWER)
        if not answer.done():
            self._note_silence(now - asked)
            return dict.fromkeys(opens, self.scheduler_lost()) if now - asked > self.no_workers_timeout else {}
        self._question = None
        if isinstance(outcome, Error):
            return {}  # the link broke while we asked; the next look tells
        return self._judge(outcome.value, now, opens)

    def _judge(self, threads: int, now: float, opens: Mapping[Any, OpenKey]) -> dict[Any, Lost]:
        """Return what can never end, now that the number of threads is known."""
        if threads:
            self._no_workers_since = None
            self._note_stall(now, opens)
            return self._unrunnable(now, opens)
        self._no_workers_since = self._no_workers_since or now
        if now - self._no_workers_since < self.no_workers_timeout:
            return {}
        detail = f"the cluster had no workers for {self.no_workers_timeout:g} s"
        return dict.fromkeys(opens, Lost(LossCause.NO_WORKERS, detail=detail, fatal=True))

    def _unrunnable(self, now: float, opens: Mapping[Any, OpenKey]) -> dict[Any, Lost]:
        """Return the keys that no worker may run: a resource or a named worker is missing."""
        assert self._quiet_since is not None
        if now - self._quiet_since < self.no_workers_timeout:
            return {}
        keys = self._ask_scheduler(_no_worker_keys, list(opens))
        detail = (
            f"no worker may run it, for {self.no_workers_timeout:g} s: a resource or a worker it asks for is missing"
        )
        return {key: Lost(LossCause.NO_WORKERS, detail=detail) for key in keys or () if key in opens}

    def _note_stall(self, now: float, opens: Mapping[Any, OpenKey]) -> None:
        """Warn once if nothing ends for long, and say what runs."""
        assert self._quiet_since is not None
        quiet = now - self._quiet_since
        if self.stall_warning is None or quiet < self.stall_warning or "stalled" in self._told:
            return
        running = self._ask_scheduler(_running_keys, list(opens))
        if running is None:
            return
        shown = ", ".join(
            f"{entry.jobs[0].chain.steps[_step_of(key, entry)].label(entry.jobs[0].index)} on {worker}"
            for key, worker in running[:SHOWN]
            if (entry := opens.get(key)) is not None
        )
        self._tell(
            "stalled",
            "nothing has ended for %.0f s; of %d open tasks %d run%s. One that never ends needs a timeout; one that "
            "waits for tasks of its own on this cluster needs distributed.worker_client()",
            quiet, len(opens), len(running), f": {shown}" if shown else "",
        )  # fmt: skip

    def _ask_scheduler(self, function: Callable[..., Any], keys: list[Any]) -> Any:
        """Return what a function finds out on the scheduler; None if it does not answer such questions."""
        outcome = capture(self.wait, self.connection.client._run_on_scheduler(function, keys=keys), QUIET)
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
