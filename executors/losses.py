"""What a cluster lost, in the engine's words, and the watch for what would otherwise be waited for without end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from distributed import Future

from prefectish.engine.capture import Error, capture
from prefectish.engine.executor import Job, Lost
from prefectish.executors.connect import Connection
from prefectish.executors.evidence import in_words, worker_evidence

if TYPE_CHECKING:
    from prefectish.executors.session import OpenKey

#: Time without any finished key after which the cluster is looked at, and between two looks, in seconds.
QUIET = 1.0
#: Time the link to the scheduler may be down before it counts as lost, in seconds.
LINK_TIMEOUT = 8.0
#: Reasons of Dask for a cancelled key that mean the scheduler is gone, and those that mean an input is.
_SCHEDULER_REASONS = ("scheduler-connection-lost", "scheduler-close")
#: A scattered value cannot be made again: what reads it is forgotten, or asked for in vain.
_INPUT_REASONS = ("lost dependencies", "already forgotten", "unknown")


def describe_loss(future: Future, job: Job, watch: Watch) -> Lost | None:
    """Say in our words why a key has no value; None if it has one by now."""
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
        return Lost("killed-worker", deaths, position, worker, in_words(evidence), evidence=evidence or None)
    reason = str(getattr(fault, "reason", fault))
    if reason in _SCHEDULER_REASONS:
        return watch.scheduler_lost()
    if reason in _INPUT_REASONS:
        return Lost("input-lost", detail="a value it reads was lost with its worker")
    if future.status in ("cancelled", "lost"):
        return Lost("cancelled-by-cluster", detail=f"the cluster cancelled it ({reason})")
    return Lost("cluster-error", detail=f"{name}: {fault}")


def _position_of(key: Any, job: Job) -> int | None:
    """Return the position of the step that Dask blames, which may be one before the key that was read."""
    if isinstance(key, tuple):
        for position in job.positions:
            if str(key[0]).startswith(f"{job.lane.steps[position].slug}-"):
                return position
    return None


class Watch:
    """Looks at the cluster when nothing ends for a while.

    Parameters
    ----------
    no_workers_timeout : how long there may be no worker that can run what is open, in seconds.
    """

    def __init__(self, connection: Connection, no_workers_timeout: float) -> None:
        self.connection = connection
        self.no_workers_timeout = no_workers_timeout
        self._quiet_since: float | None = None
        self._next_look = 0.0
        self._no_workers_since: float | None = None
        self._link_down_since: float | None = None
        self._lost = False

    def progressed(self, now: float) -> None:
        """Note that something ended."""
        self._quiet_since = None
        self._no_workers_since = None
        self._link_down_since = None

    def scheduler_lost(self) -> Lost:
        """Return the loss of the scheduler: everything of the run is lost with it."""
        self._lost = True
        return Lost("scheduler-lost", detail="the scheduler was lost", fatal=True)

    def look(self, now: float, opens: Mapping[Any, OpenKey]) -> dict[Any, Lost]:
        """Return the keys that will never end, and why.

        Parameters
        ----------
        now : seconds of the monotonic clock.
        """
        if not opens:
            return {}
        if self._quiet_since is None:
            self._quiet_since = now
            self._next_look = now + QUIET
        if now < self._next_look:
            return {}
        self._next_look = now + QUIET
        if self._lost or self._link_is_down(now):
            return dict.fromkeys(opens, self.scheduler_lost())
        if self._link_down_since is not None:
            return {}
        return self._without_workers(now, opens)

    def _link_is_down(self, now: float) -> bool:
        if self.connection.client.status == "running":
            self._link_down_since = None
            return False
        self._link_down_since = self._link_down_since or now
        return now - self._link_down_since > LINK_TIMEOUT

    def _without_workers(self, now: float, opens: Mapping[Any, OpenKey]) -> dict[Any, Lost]:
        outcome = capture(self.connection.total_threads)
        if isinstance(outcome, Error):
            return {}  # the link broke while we asked; the next look tells
        if outcome.value:
            self._no_workers_since = None
            return self._unrunnable(now, opens)
        self._no_workers_since = self._no_workers_since or now
        if now - self._no_workers_since < self.no_workers_timeout:
            return {}
        detail = f"the cluster had no workers for {self.no_workers_timeout:g} s"
        return dict.fromkeys(opens, Lost("no-workers", detail=detail, fatal=True))

    def _unrunnable(self, now: float, opens: Mapping[Any, OpenKey]) -> dict[Any, Lost]:
        """Return the keys that no worker may run: a resource or a named worker is missing."""
        assert self._quiet_since is not None
        if now - self._quiet_since < self.no_workers_timeout:
            return {}
        client = self.connection.client
        outcome = capture(client.run_on_scheduler, _no_worker_keys, keys=list(opens))
        if isinstance(outcome, Error):
            return {}
        detail = (
            f"no worker may run it, for {self.no_workers_timeout:g} s: a resource or a worker it asks for is missing"
        )
        return {key: Lost("no-workers", detail=detail) for key in outcome.value if key in opens}


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
