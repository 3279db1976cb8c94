"""Translate lost Dask keys into `Lost` records, and detect keys that can never finish."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future as Answer
from typing import TYPE_CHECKING, Any

from distributed import Future

from prefectish.engine.capture import Error, capture
from prefectish.engine.context import get_logger
from prefectish.engine.jobs.job import Job
from prefectish.engine.jobs.protocol import LossCause, Lost, Share
from prefectish.engine.scheduling.deaths import MOST_RETIRED, death_in_words, is_asked, is_of_memory
from prefectish.engine.scheduling.stalls import idle_text, stall_text
from prefectish.errors import SchedulerLost
from prefectish.executors import spilling
from prefectish.executors.connect import Connection
from prefectish.executors.dask_api import asked_on_scheduler
from prefectish.executors.past_queue import NO_WORKER
from prefectish.executors.scheduler_view import Details, Summary, carry, is_of, label_of, look_at, summarize
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
#: Time without any finished key after which is looked at what waits for data, and between two looks, in seconds.
_FETCH_QUIET, _FETCH_LOOK_INTERVAL = 5.0, 2.0
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
        Whether Dask gives it up at the first death of its worker (``allowed-failures`` 0).
    """
    outcome = capture(future.result, timeout=10)
    if not isinstance(outcome, Error):
        return None
    fault = outcome.exception
    name = type(fault).__name__
    if name == "KilledWorker":
        return _killed(fault, future.key, job, watch, first_death)
    reason = str(getattr(fault, "reason", fault))
    if reason in _SCHEDULER_REASONS:
        return watch.scheduler_lost()
    if reason in _INPUT_REASONS or (reason == _NO_REASON and reads):
        return Lost(LossCause.INPUT_LOST, detail="a value it reads was lost with its worker")
    if future.status in ("cancelled", "lost"):
        return Lost(LossCause.CANCELLED_BY_CLUSTER, detail=f"the cluster cancelled it ({reason})")
    return Lost(LossCause.CLUSTER_ERROR, detail=f"{name}: {fault}")


def _killed(fault: BaseException, own: Any, job: Job, watch: LossWatch, first_death: bool) -> Lost:
    """Return the loss of a job whose workers died, or those of what it reads; `own` is its key."""
    tolerated = int(getattr(fault, "allowed_failures", 0))
    last = getattr(fault, "last_worker", None)
    key: Any = getattr(fault, "task", None)
    address = getattr(last, "address", None)
    if is_of(key, watch.run_id) and key != own and _position_of(key, job) is None:
        read = label_of(key, watch.run_id, watch.labels)
        detail = f"{read}, which it reads, was lost with its worker, and {tolerated + 1} workers died making it again"
        return Lost(LossCause.INPUT_LOST, detail=detail)
    full = spilling.trouble_of(address)
    # A suspect runs again alone; only then did it cause the death of its worker. Unless it ran out of memory.
    evidence = watch.evidence(last, key) if job.solo or first_death or full else {}
    if full and is_of_memory(evidence):
        text = f"its worker {address} ran out of memory, because it could not spill results to its disk: {full}"
        cause, deaths, of_memory = LossCause.CLUSTER_ERROR, 0, False  # no need of the child's own, nor its doing
    else:
        cause, deaths, text = LossCause.KILLED_WORKER, 1 if first_death else tolerated + 1, death_in_words(evidence)
        of_memory = first_death and is_of_memory(evidence)
    return Lost(
        cause,
        deaths,
        _position_of(key, job),
        address,
        text,
        evidence=evidence or None,
        tolerated=tolerated if first_death else 0,
        of_memory=of_memory,
        share=Share(evidence.get("share", Share.AMONG_OTHERS)),
        asked=is_asked(evidence),
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
        self.labels: dict[str, str] = {}  # what the steps of its keys are called, by slug
        self.no_workers_timeout = no_workers_timeout
        self.stall_warning = stall_warning
        self._quiet_since: float | None = None
        self._next_look = 0.0
        self._no_workers_since: float | None = None
        self._link_down_since: float | None = None
        self._pending_question: tuple[float, Answer[Any]] | None = None
        self._warned: set[str] = set()
        self._idle_since: float | None = None
        self._idle_timeout: float | None = None
        self._next_fetch_look = 0.0
        self._fetching: dict[tuple[Any, str, tuple[Any, ...]], float] = {}
        self._carried: dict[tuple[Any, str, tuple[Any, ...]], float] = {}
        self._unread: dict[tuple[Any, tuple[str, ...]], float] = {}
        self._deaths: dict[tuple[Any, Any], dict[str, Any]] = {}
        self._lost = False

    def progressed(self, now: float) -> None:
        """Note that something ended."""
        self._quiet_since = None
        self._no_workers_since = None
        self._idle_since = None
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
            why = f" (it ends itself after {self._idle_timeout:g} s without a task)" if self._idle_timeout else ""
            logger.error(
                "the scheduler was lost%s; if the run is recorded, flow.resume(%r) continues it", why, self.run_id
            )
        return Lost(LossCause.SCHEDULER_LOST, detail="the scheduler was lost", fatal=True)

    def begin(self, question: Coroutine[Any, Any, Any]) -> Answer[Any]:
        """Ask the cluster, and wait for its answer later."""
        return self.connection.begin(question)

    def wait(self, question: Coroutine[Any, Any, Any] | Answer[Any], limit: float | None = None) -> Any:
        """Return the answer of the cluster to a question, whatever it raises too.

        Parameters
        ----------
        question
            Or the answer to one that was asked before.
        limit
            How long to wait, in seconds; then the question is dropped, and can be asked again. None for a question that
            the scheduler answers by itself; others may hang on a worker, which is not its silence.

        Raises
        ------
        NoAnswer
            There was none within the limit.
        SchedulerLost
            There was none within `no_workers_timeout`, and the scheduler answers nothing else either.
        """
        answer = question if isinstance(question, Answer) else self.connection.begin(question)
        began = time.monotonic()
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
            if silent > self.no_workers_timeout and (limit is None or not self._answers()):
                answer.cancel()
                self.scheduler_lost()
                raise SchedulerLost(f"the scheduler has not answered for {silent:.0f} s")

    def _answers(self) -> bool:
        """Whether the scheduler answers what it knows by itself."""
        answer = self.connection.begin(self._question())
        if isinstance(capture(answer.result, _SLOW_ANSWER), Error):
            answer.cancel()
            return False
        return True

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
        self._next_look = self._next_look or now + _LOOK_INTERVAL  # what is short ends before the first question
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
            self._pending_question = now, self.connection.begin(self._question())
        asked, answer = self._pending_question
        is_quiet = self._quiet_since is not None and now - self._quiet_since >= _LOOK_INTERVAL
        outcome = capture(answer.result, _ANSWER_WAIT if is_quiet else 0.0)
        if not answer.done():
            self._note_silence(now - asked)
            return dict.fromkeys(open_keys, self.scheduler_lost()) if now - asked > self.no_workers_timeout else {}
        self._pending_question = None
        if isinstance(outcome, Error):
            return {}  # the connection broke meanwhile; the next check reports it
        return self._judge(outcome.value, now, open_keys)

    async def _question(self) -> Summary:
        """Ask how the cluster is; of a scheduler that runs no functions, how many threads it has."""
        try:
            asking = asked_on_scheduler(self.connection.client, summarize, run_id=self.run_id)
            summary: Summary = await asking
        except ValueError:
            threads = await self.connection.ask_threads()
            return Summary(threads, threads, {}, None)
        return summary

    def _judge(self, summary: Summary, now: float, open_keys: Mapping[Any, OpenKey]) -> dict[Any, Lost]:
        """Return what can never end, now that it is known how the cluster is."""
        self._idle_timeout = summary.idle_timeout
        if not summary.threads:
            self._no_workers_since = self._no_workers_since or now
            if now - self._no_workers_since < self.no_workers_timeout:
                return {}
            detail = f"the cluster had no workers for {self.no_workers_timeout:g} s"
            return dict.fromkeys(open_keys, Lost(LossCause.NO_WORKERS, detail=detail, fatal=True))
        self._no_workers_since = None
        self._note_stall(now, open_keys)
        given_up = self._retired(summary.begun_often, open_keys)
        if summary.taking:
            self._idle_since = None
            return given_up | self._unreachable(now, open_keys) | self._unrunnable(now, open_keys)
        self._idle_since = self._idle_since or now
        if now - self._idle_since < self.no_workers_timeout:
            return given_up
        return given_up | self._all_idle(open_keys)

    def _all_idle(self, open_keys: Mapping[Any, OpenKey]) -> dict[Any, Lost]:
        """Return the loss of all keys because no worker takes anything; of none while a body still runs."""
        details: Details | None = self._ask_scheduler(look_at, run_id=self.run_id, labels=self.labels)
        if details is None or details.stall.running or not details.stall.all_idle:
            return {}
        detail = f"for {self.no_workers_timeout:g} s {idle_text(details.stall.idle)}"
        return dict.fromkeys(open_keys, Lost(LossCause.NO_WORKERS, detail=detail, fatal=True))

    def _retired(self, begun_often: Mapping[Any, int], open_keys: Mapping[Any, OpenKey]) -> dict[Any, Lost]:
        """Return the keys that were begun too often on workers that left on purpose while they ran them."""
        lost: dict[Any, Lost] = {}
        for key, count in begun_often.items():
            wanted = key if key in open_keys else _wanted_key(key, open_keys)
            if wanted is None:
                continue
            label = label_of(key, self.run_id, self.labels)
            if count < MOST_RETIRED:
                text = "%s was begun %d times on workers that left on purpose while it ran; at %d it is given up"
                self._warn_once(f"retired {key}", text, label, count, MOST_RETIRED)
                continue
            detail = f"it was begun {count} times, and each time its worker was retired, or at its end, while it ran"
            position = _position_of(key, open_keys[wanted].jobs[0])
            lost[wanted] = Lost(LossCause.WORKERS_RETIRED, position=position, detail=detail)
        return lost

    def _unreachable(self, now: float, open_keys: Mapping[Any, OpenKey]) -> dict[Any, Lost]:
        """Bring values to workers that could not fetch them for long; return the keys for which that was in vain."""
        assert self._quiet_since is not None
        if now - self._quiet_since < _FETCH_QUIET or now < self._next_fetch_look:
            return {}
        self._next_fetch_look = now + _FETCH_LOOK_INTERVAL
        details: Details | None = self._ask_scheduler(look_at, run_id=self.run_id, labels=self.labels)
        if details is None:
            return {}
        lost: dict[Any, Lost] = {}
        waiting = {(key, worker, tuple(values)): values for key, worker, values in details.fetching}
        self._fetching = {place: self._fetching.get(place, now) for place in waiting}
        for place, since in self._fetching.items():
            key, worker, values = place
            if now - since < self.no_workers_timeout:
                continue
            if place not in self._carried:
                self._carried[place] = now
                labels = ", ".join(label_of(value, self.run_id, self.labels) for value in values[:_MAX_SHOWN])
                logger.warning("%s could not fetch %s for %.0f s; they are brought there", worker, labels, now - since)
                asking = asked_on_scheduler(self.connection.client, carry, keys=values, worker=worker)
                capture(self.connection.begin, asking)
            elif now - self._carried[place] >= self.no_workers_timeout:
                wanted = key if key in open_keys else _wanted_key(key, open_keys)
                if wanted is not None:
                    what = label_of(values[0], self.run_id, self.labels)
                    detail = f"{worker} could not fetch {what} for {now - since:.0f} s"
                    lost[wanted] = Lost(LossCause.INPUT_LOST, detail=detail)
        return lost

    def unread(self, holders: Mapping[Any, Sequence[str]], now: float) -> dict[Any, Lost]:
        """Note values that the scheduler cannot fetch from the workers that have them; return those to be given up.

        A worker that is alive and cannot be connected to: behind a firewall, or with an address of another network.

        Parameters
        ----------
        holders
            Addresses of these workers, by key.
        """
        lost: dict[Any, Lost] = {}
        for key, workers in holders.items():
            if not workers:  # the value was lost with its worker, and is computed anew
                continue
            where, since = ", ".join(workers), self._unread.setdefault((key, tuple(workers)), now)
            text = "the scheduler cannot connect to %s, which has the result of %s"
            self._warn_once(f"unread {where}", text, where, label_of(key, self.run_id, self.labels))
            if now - since >= self.no_workers_timeout:
                detail = f"for {now - since:.0f} s the scheduler could not connect to {where}, which has its result"
                lost[key] = Lost(LossCause.CLUSTER_ERROR, detail=detail)
        return lost

    def _unrunnable(self, now: float, open_keys: Mapping[Any, OpenKey]) -> dict[Any, Lost]:
        """Return the keys that no worker may run: a resource or a named worker is missing."""
        assert self._quiet_since is not None
        if now - self._quiet_since < self.no_workers_timeout:
            return {}
        keys = self._ask_scheduler(_no_worker_keys, keys=list(open_keys))
        detail = (
            f"no worker may run it, for {self.no_workers_timeout:g} s: a resource or a worker it asks for is missing"
        )
        return {key: Lost(LossCause.NO_WORKERS, detail=detail) for key in keys or () if key in open_keys}

    def _note_stall(self, now: float, open_keys: Mapping[Any, OpenKey]) -> None:
        """Warn once if nothing has ended for a long time, and say what runs, and what waits for what."""
        assert self._quiet_since is not None
        quiet = now - self._quiet_since
        if self.stall_warning is None or quiet < self.stall_warning or "stalled" in self._warned:
            return
        details: Details | None = self._ask_scheduler(look_at, run_id=self.run_id, labels=self.labels)
        if details is not None:
            self._warn_once("stalled", "%s", stall_text(quiet, len(open_keys), details.stall))

    def _ask_scheduler(self, function: Callable[..., Any], **about: Any) -> Any:
        """Return what a function returns on the scheduler; None if the scheduler does not run it, or not in time."""
        outcome = capture(self.wait, asked_on_scheduler(self.connection.client, function, **about), _LOOK_INTERVAL)
        return None if isinstance(outcome, Error) else outcome.value


def _wanted_key(key: Any, open_keys: Mapping[Any, OpenKey]) -> Any:
    """Return the key that the client reads of the job of a key, None if there is none."""
    for wanted, entry in open_keys.items():
        job = entry.jobs[0]
        if wanted[1:] == key[1:] and not entry.asks and _position_of(key, job) is not None:
            return wanted
    return None


def _no_worker_keys(keys: list[Any], dask_scheduler: Any = None) -> list[Any]:
    """Return those of `keys` that wait for a worker which does not exist; runs on the scheduler.

    What a plugin there holds for a while is let go by it.
    """
    found = []
    for key in keys:
        task = dask_scheduler.tasks.get(key)
        todo = [task] if task is not None else []
        while todo:
            ts = todo.pop()
            if ts.state == "no-worker" and ts.worker_restrictions != {NO_WORKER}:
                found.append(key)
                break
            todo.extend(d for d in ts.dependencies if d.state in ("waiting", "no-worker"))
    return found
