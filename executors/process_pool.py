"""A pool of worker processes that can be replaced when one dies, and that outlives a run.

Starting a process takes half a second, so the last idle pool of each size is kept. Before a process is used again it
takes over what has changed in this one since it started: the folder, the module search path, the environment.

Unlike other processes that are spawned, these do not begin by importing the main script: what is defined there is sent
by value. So a script needs no ``if __name__ == "__main__":``.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import parent_process, spawn
from typing import Any, NamedTuple

import psutil
from dask.multiprocessing import get_context

from prefectish.engine.scheduling.deaths import death_in_words
from prefectish.engine.worker.recall import Body, JobKey
from prefectish.executors import crash_log
from prefectish.executors.pool_session import CallsAhead
from prefectish.executors.process_queue import ProcessQueue, QueuedCall
from prefectish.executors.process_recall import Listener, Recall
from prefectish.process_tree import exit_evidence, exit_with_parent, process_name

#: Time between two measurements of the memory of a process that runs a suspect, in seconds.
_MEMORY_INTERVAL = 0.1


class ProcessEnv(NamedTuple):
    """What a process inherits when it starts, and what may have changed since.

    Attributes
    ----------
    environ
        Environment; in a difference, None for a name that is gone.
    """

    folder: str
    path: tuple[str, ...]
    environ: Mapping[str, str | None]

    @classmethod
    def now(cls) -> ProcessEnv:
        """Return that of this process."""
        try:
            folder = os.getcwd()
        except FileNotFoundError:  # it was deleted
            folder = ""
        return cls(folder, tuple(sys.path), dict(os.environ))

    def since(self, before: ProcessEnv) -> ProcessEnv | None:
        """Return what differs from `before`; None if nothing does."""
        if self == before:
            return None
        gone: dict[str, str | None] = dict.fromkeys(before.environ.keys() - self.environ.keys())
        new = {name: value for name, value in self.environ.items() if before.environ.get(name) != value}
        return ProcessEnv(self.folder, self.path, gone | new)


# -- in a worker process ---------------------------------------------------------------------------------------------


class _CurrentEnv:
    """The environment of this process: how it started, and what was applied since."""

    start: ProcessEnv
    applied: ProcessEnv | None = None


def prepare_worker(folder: str, listener: Listener) -> None:
    """Get a worker process ready; its crash log is written to a folder, and it hears what is recalled.

    Ctrl-C in a terminal reaches all processes of the program; the one that runs the flow decides what it means. A
    handler that does nothing, unlike an ignored signal, is not inherited by programs that a body starts.
    """
    signal.signal(signal.SIGINT, lambda number, frame: None)
    parent = parent_process()
    if parent is not None:  # nothing else would remove the folder
        exit_with_parent(parent.join, partial(shutil.rmtree, folder, ignore_errors=True))
    with suppress(OSError):
        crash_log.start(folder)
    listener.start()
    _CurrentEnv.start = ProcessEnv.now()


def call(env_changes: ProcessEnv | None, fn: Callable[..., Any], *args: Any) -> Any:
    """Call a function in the environment of the process that asked for it."""
    if env_changes != _CurrentEnv.applied:
        _apply(env_changes)
    return fn(*args)


def _apply(env_changes: ProcessEnv | None) -> None:
    start = _CurrentEnv.start
    _CurrentEnv.applied = env_changes
    now = env_changes or start
    environ = {**start.environ, **(env_changes.environ if env_changes else {})}
    os.environ.clear()
    os.environ.update((name, value) for name, value in environ.items() if value is not None)
    sys.path[:] = now.path
    with suppress(OSError):  # the folder was deleted: a body that needs it fails, and says so
        os.chdir(now.folder)


def _do_nothing() -> None:
    """Return at once: a process that makes calls is ready."""


# -- in the process that runs the flow -------------------------------------------------------------------------------


class PoolBroke(BrokenProcessPool):
    """Raised when a worker process dies.

    Attributes
    ----------
    was_ready
        False if the processes died before they could do anything.
    evidence
        How it ended, as far as is known; see :func:`prefectish.executors.worker_death.worker_evidence`.
    text
        The same in words, for a message.
    """

    def __init__(self, was_ready: bool, evidence: Mapping[str, Any]) -> None:
        super().__init__("a worker process died")
        self.was_ready = was_ready
        self.evidence = evidence
        self.text = death_in_words(evidence)


#: Held while the replacement below is in place.
_starting = threading.Lock()


@contextmanager
def _without_main_script() -> Iterator[None]:
    """Start processes that do not import the main script.

    multiprocessing offers no way to start the processes of a pool so, but asks a function of its own what to send to a
    new one. It is replaced only while a pool may start processes, and only for those of this thread: what other threads
    start meanwhile is not changed.
    """
    thread = threading.get_ident()

    def without_main(name: str) -> dict[str, Any]:
        data: dict[str, Any] = prepare(name)
        if threading.get_ident() == thread:
            data.pop("init_main_from_name", None)
            data.pop("init_main_from_path", None)
        return data

    with _starting:
        prepare = spawn.get_preparation_data
        spawn.get_preparation_data = without_main
        try:
            yield
        finally:
            spawn.get_preparation_data = prepare


class ProcessGroup:
    """The processes of a pool, from their start until one of them dies."""

    def __init__(self, size: int) -> None:
        self.pid = os.getpid()
        self.started = time.time()
        self.start = ProcessEnv.now()
        self.folder = tempfile.mkdtemp(prefix="prefectish_crash_log-")
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self.recall = Recall(get_context(), size, self.folder)
        self.executor = ProcessPoolExecutor(
            size, mp_context=get_context(), initializer=prepare_worker, initargs=(self.folder, self.recall.listener)
        )
        self.size = size
        self.queue = ProcessQueue(self.submit, size)
        self.peak = 0
        self.processes: Mapping[int, Any] = {}
        self.first_call = self.submit(_do_nothing)
        self.processes = getattr(self.executor, "_processes", None) or {}

    def submit(self, fn: Callable[..., Any], *args: Any) -> Future[Any]:
        """Submit a call; the executor starts processes in here, as they are needed."""
        if len(self.processes) == self.size:
            return self.executor.submit(fn, *args)
        with _without_main_script():
            return self.executor.submit(fn, *args)

    def works(self) -> bool:
        """Whether the processes can be used: this process started them, and none has died."""
        if self.pid != os.getpid():
            return False
        try:
            self.submit(_do_nothing)
        except (BrokenProcessPool, RuntimeError):
            return False
        return True

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Record the peak memory of a process that runs alone: it cannot be asked once it has died."""
        if self.size != 1:
            yield
            return
        ended = threading.Event()
        threading.Thread(target=self._watch, args=(ended,), name="prefectish-memory", daemon=True).start()
        try:
            yield
        finally:
            ended.set()

    def _watch(self, ended: threading.Event) -> None:
        while not ended.wait(_MEMORY_INTERVAL):
            for pid in list(self.processes):
                with suppress(psutil.Error):
                    self.peak = max(self.peak, psutil.Process(pid).memory_info().rss)

    def broke(self) -> PoolBroke:
        """Return what is known of the death of a process."""
        ready = self.first_call.done() and self.first_call.exception() is None
        return PoolBroke(ready, self._evidence() if self.size == 1 else {})

    def _evidence(self) -> dict[str, Any]:
        """Return what is known of the death of the only process."""
        end = time.monotonic() + 1
        for pid, process in list(self.processes.items()):
            # The pool's own thread waits for the process too, and whichever is second sees the code a moment later.
            while process.exitcode is None and time.monotonic() < end:
                time.sleep(0.005)
            found = {"worker": f"{process_name().rpartition(':')[0]}:{pid}", "pid": pid}
            ended = exit_evidence(process.exitcode) if process.exitcode is not None else {}
            known = {"peak_memory": self.peak or None, "log": crash_log.read(self.folder, pid) or None}
            return {**found, **ended, **{name: value for name, value in known.items() if value is not None}}
        return {}

    def kill(self) -> None:
        """Kill the processes."""
        self.executor.shutdown(wait=False, cancel_futures=True)  # first: no thread starts a process after it
        for process in list(self.processes.values()):
            process.kill()


class PoolView:
    """A pool as one ``get`` of Dask sees it: with room for more calls than there are processes."""

    def __init__(
        self, group: ProcessGroup, env_changes: ProcessEnv | None, room: int, first: CallsAhead | None
    ) -> None:
        self._max_workers = room
        self._first = first
        self._env_changes = env_changes
        self.group = group

    def submit(self, fn: Callable[..., Any], *args: Any) -> QueuedCall:
        """Return the future of a call."""
        return self.group.queue.submit(self._first, call, self._env_changes, fn, *args)


_idle: dict[int, ProcessGroup] = {}
_lock = threading.Lock()


class ProcessPool:
    """Worker processes of one run; they start with the first view."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._group: ProcessGroup | None = None
        self._env_changes: ProcessEnv | None = None
        self._closed = False
        self._newest = 0.0
        self._lock = threading.Lock()

    def renew(self, changed: float) -> None:
        """Use no process that began before a moment, in seconds since the epoch, at which a module changed."""
        with self._lock:
            self._newest = max(self._newest, changed)

    def view(self, room: int, first: CallsAhead | None) -> PoolView:
        """Return a view of the present processes, whose calls may go first; start processes if there are none."""
        with self._lock:
            if self._closed:
                raise RuntimeError("the run has ended")
            if self._group is not None and self._group.started < self._newest:
                self._group.executor.shutdown(wait=False)  # what it was given ends
                self._group = None
            if self._group is None:
                self._group = _take(self.size, self._newest) or ProcessGroup(self.size)
                self._env_changes = ProcessEnv.now().since(self._group.start)
            return PoolView(self._group, self._env_changes, room, first)

    def recall(self, jobs: Sequence[JobKey]) -> Sequence[Body] | None:
        """Let no further body of these jobs begin; return those that have begun, None if not all processes answered."""
        with self._lock:
            group = self._group
        return [] if group is None else group.recall.recall(jobs)

    def drop(self, view: PoolView) -> PoolBroke:
        """Discard the processes, of which one died; the next view starts others."""
        with self._lock:
            if self._group is view.group:
                self._group = None
        return view.group.broke()

    def close(self, keep: bool) -> None:
        """Keep the processes for another run, or kill them; no view is in use any more."""
        with self._lock:
            self._closed = True
            group, self._group = self._group, None
        if group is None:
            return
        if keep:
            with _lock:
                former = _idle.get(self.size)
                _idle[self.size] = group
            if former is not None:
                former.executor.shutdown(wait=False)
        else:
            group.kill()


def _take(size: int, newest: float) -> ProcessGroup | None:
    """Return an idle group of processes that works and is not older than a module that it may have imported."""
    with _lock:
        group = _idle.pop(size, None)
    if group is not None and group.started < newest:
        group.executor.shutdown(wait=False)
        return None
    return group if group is not None and group.works() else None
