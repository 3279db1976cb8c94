"""Kill workers of a cluster at seeded random times, and record it."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from prefectish.engine.capture import Error, capture
from prefectish.engine.jobs.protocol import Session
from prefectish.engine.plan.steps import Plan

#: Signal of each mode.
MODES = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "segfault": signal.SIGSEGV, "terminate": signal.SIGTERM}
#: Maximum time to wait for a response of the cluster, in seconds.
ANSWER_SECONDS = 10.0


class Kill(NamedTuple):
    """A signal that was sent to a worker.

    Attributes
    ----------
    seconds
        Time since the start.
    worker
        Address of the worker.
    pid
        Id of its process.
    mode
        "kill", "stop", "segfault" or "terminate".
    """

    seconds: float
    worker: str
    pid: int
    mode: str


class WorkerKiller:
    """Kills real worker processes of a cluster at seeded random times.

    Created with an executor, it is an executor: it runs flows and kills workers during the runs. Created with
    a client, it kills in its ``with`` block. The processes are killed through their nannies, so the cluster must
    have nannies, as local clusters of processes do by default; it can be on other machines.

    Parameters
    ----------
    target
        A ``DaskExecutor``, or a ``Client`` of distributed.
    mode
        "kill" (SIGKILL), "segfault" (SIGSEGV), "terminate" (SIGTERM) or "stop" (SIGSTOP, and SIGCONT later); or
        several, of which one is drawn each time.
    most
        Maximum number of kills.
    interval
        Minimum and maximum time between two kills, and before the first, in seconds.
    stopped
        Time after which a stopped process is continued, in seconds.
    seed
        Seed of times and choices. Workers are sorted by name, so a seed gives the same choices on a new cluster.

    Attributes
    ----------
    killed
        The kills, in order.

    Raises
    ------
    ValueError
        For an unknown mode or an invalid interval.

    Examples
    --------
    >>> from prefectish import Flow, task
    >>> from prefectish.executors import DaskExecutor
    >>> @task(crash_retries=3)
    ... def work(x):
    ...     return 2 * x
    >>> with Flow("survives") as flow:
    ...     doubled = work.map(range(100))
    >>> executor = DaskExecutor(cluster_kwargs={"n_workers": 2})
    >>> with WorkerKiller(executor, seed=1, most=1, interval=(0.1, 0.5)) as killer:  # doctest: +SKIP
    ...     state = flow.run(executor=killer)
    >>> state.is_successful(), killer.killed  # doctest: +SKIP
    (True, [Kill(seconds=0.31, worker='tcp://127.0.0.1:40123', pid=4711, mode='kill')])
    """

    def __init__(
        self,
        target: Any,
        *,
        mode: str | tuple[str, ...] = "kill",
        most: int = 3,
        interval: tuple[float, float] = (0.2, 1.0),
        stopped: float = 1.0,
        seed: int = 0,
    ) -> None:
        self.modes = (mode,) if isinstance(mode, str) else tuple(mode)
        for name in self.modes or ("",):
            if name not in MODES:
                raise ValueError(f"mode must be one of {', '.join(map(repr, MODES))}, got {name!r}")
        if not 0 <= interval[0] <= interval[1]:
            raise ValueError(f"interval must be the shortest and the longest time in seconds, >= 0, got {interval!r}")
        if most < 0:
            raise ValueError(f"most must be >= 0, got {most!r}")
        self._client = target if hasattr(target, "scheduler_info") else None  # a Client has a start() too
        if self._client is None and not hasattr(target, "start"):
            raise TypeError(f"target must be a DaskExecutor or a Client, got {target!r}")
        self.target = target
        self.most = most
        self.interval = interval
        self.stopped = stopped
        self.seed = seed
        self.killed: list[Kill] = []
        self._random = random.Random(seed)
        self._began: float | None = None
        self._work: _Work | None = None

    @property
    def tag_limits(self) -> Mapping[str, int] | None:
        """The tag limits of the executor."""
        limits: Mapping[str, int] | None = getattr(self.target, "tag_limits", None)
        return limits

    @contextmanager
    def start(self, plan: Plan, run: Mapping[str, Any]) -> Iterator[Session]:
        """Open a session of the executor and kill while it is open.

        Raises
        ------
        TypeError
            If the executor has no cluster.
        """
        if self._client is not None:
            raise TypeError("this WorkerKiller was created with a client: run the flow with DaskExecutor(client=...)")
        with self.target.start(plan, run) as session:
            connection = getattr(session, "connection", None)
            if connection is None:
                raise TypeError(f"{self.target!r} has no cluster with workers to kill; use a DaskExecutor")
            with self._killing(connection.client):
                yield session

    def __enter__(self) -> WorkerKiller:
        """Start to kill, if it was created with a client."""
        if self._client is not None:
            self._work = _Work(self, self._client)
        return self

    def __exit__(self, *error: object) -> None:
        """Stop killing; continue stopped processes."""
        work, self._work = self._work, None
        if work is not None:
            work.end()

    @contextmanager
    def _killing(self, client: Any) -> Iterator[None]:
        work = _Work(self, client)
        try:
            yield
        finally:
            work.end()

    def pause(self) -> float:
        """Draw the time until the next kill, in seconds."""
        return self._random.uniform(*self.interval)

    def strike(self, client: Any) -> Kill | None:
        """Send a random signal to a random worker; None if there are no workers."""
        if self._began is None:
            self._began = time.monotonic()
        names = {str(worker["name"]): address for address, worker in _workers(client).items()}
        mode = self._random.choice(self.modes)
        draw = self._random.random()
        if not names:
            return None
        address = names[sorted(names)[int(draw * len(names))]]
        pid = _signal(client, address, MODES[mode], None)
        if pid is None:
            return None
        kill = Kill(time.monotonic() - self._began, address, pid, mode)
        self.killed.append(kill)
        return kill

    def __repr__(self) -> str:
        return f"<WorkerKiller of {self.target!r}, seed {self.seed}, {len(self.killed)} of {self.most} killed>"


class _Work:
    """The thread that kills.

    Raises
    ------
    TypeError
        If the workers have no nannies.
    """

    def __init__(self, killer: WorkerKiller, client: Any) -> None:
        workers = _workers(client).values()
        if workers and not any(worker.get("nanny") for worker in workers):
            raise TypeError(f"the workers of {client!r} have no nannies, which are needed to kill and restart them")
        self.killer = killer
        self.client = client
        self._stopped: list[tuple[float, Kill]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prefectish-killer", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        killer = self.killer
        due = time.monotonic() + killer.pause()
        while len(killer.killed) < killer.most or self._stopped:
            times = [when for when, _ in self._stopped] + [due] * (len(killer.killed) < killer.most)
            if self._ended.wait(max(0.0, min(times) - time.monotonic())):
                return
            self._continue_stopped(time.monotonic())
            if len(killer.killed) < killer.most and time.monotonic() >= due:
                kill = killer.strike(self.client)
                if kill is not None and kill.mode == "stop":
                    self._stopped.append((time.monotonic() + killer.stopped, kill))
                due = time.monotonic() + killer.pause()

    def _continue_stopped(self, now: float) -> None:
        """Continue processes that were stopped long enough."""
        for _, kill in [each for each in self._stopped if each[0] <= now]:
            _signal(self.client, kill.worker, signal.SIGCONT, kill.pid)
        self._stopped = [each for each in self._stopped if each[0] > now]

    def end(self) -> None:
        """Stop killing, and continue all processes."""
        self._ended.set()
        self._thread.join(2 * ANSWER_SECONDS)
        self._continue_stopped(float("inf"))


def _workers(client: Any) -> Mapping[str, Mapping[str, Any]]:
    """Return the workers known to the scheduler, by address; empty if it does not respond."""
    outcome = capture(_ask_workers, client)
    return {} if isinstance(outcome, Error) else outcome.value


def _ask_workers(client: Any) -> Mapping[str, Mapping[str, Any]]:
    workers: Mapping[str, Mapping[str, Any]] = client.sync(client.scheduler.identity, n_workers=-1)["workers"]
    return workers


def _signal(client: Any, address: str, number: int, pid: int | None) -> int | None:
    """Send a signal to the process of a worker, if it is still `pid`; return its number, None if nothing was sent."""

    async def ask() -> Any:
        import asyncio

        call = client._run(_send, number, pid, workers=[address], nanny=True, on_error="ignore")
        return await asyncio.wait_for(call, ANSWER_SECONDS)

    outcome = capture(client.sync, ask)
    if isinstance(outcome, Error) or not issubclass(type(outcome.value), Mapping):
        return None  # it no longer exists
    sent: int | None = next(iter(outcome.value.values()), None)
    return sent


def _send(number: int, pid: int | None, dask_worker: Any = None) -> int | None:
    """Send a signal to a nanny's process; runs in the nanny."""
    own: int | None = dask_worker.pid
    if own is None or (pid is not None and own != pid):
        return None
    os.kill(own, number)
    return own
