"""A pool of worker processes that can be replaced when one dies, and that outlives a run.

Starting a process takes half a second, so the last idle pool of each size is kept. A process that is used again is told
what has changed around it since it started: the folder, the module search path, the environment.

A process of ours does not begin by importing the program's main script, as others that are spawned do: what is defined
there travels by value. So a script needs no ``if __name__ == "__main__":``.
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
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import parent_process, spawn
from typing import Any, NamedTuple

import psutil
from dask.multiprocessing import get_context

from prefectish.engine.process_tree import exit_evidence, exit_with_parent, process_name
from prefectish.executors import crash_log
from prefectish.executors.worker_death import as_text

#: Time between looks at the memory of a process that runs a suspect, in seconds.
MEMORY_LOOK = 0.1


class ProcessEnv(NamedTuple):
    """What a process inherits when it starts, and a run may have changed since.

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
        """Return those of this process."""
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
    """Where this process is: how it started, and what is applied since."""

    start: ProcessEnv
    applied: ProcessEnv | None = None


def prepare_worker(folder: str) -> None:
    """Get a worker process ready; its last words go to a folder.

    Ctrl-C in a terminal reaches all processes of the program; the one that runs the flow decides what it means. A
    handler is not inherited by programs that a body starts, as ignoring the signal would be.
    """
    signal.signal(signal.SIGINT, lambda number, frame: None)
    parent = parent_process()
    if parent is not None:  # the folder would have nobody else to remove it
        exit_with_parent(parent.join, partial(shutil.rmtree, folder, ignore_errors=True))
    with suppress(OSError):
        crash_log.keep(folder)
    _CurrentEnv.start = ProcessEnv.now()


def call(changes: ProcessEnv | None, fn: Callable[..., Any], *args: Any) -> Any:
    """Call a function, with the surroundings of the process that wants it."""
    if changes != _CurrentEnv.applied:
        _apply(changes)
    return fn(*args)


def _apply(changes: ProcessEnv | None) -> None:
    start = _CurrentEnv.start
    _CurrentEnv.applied = changes
    now = changes or start
    environ = {**start.environ, **(changes.environ if changes else {})}
    os.environ.clear()
    os.environ.update((name, value) for name, value in environ.items() if value is not None)
    sys.path[:] = now.path
    with suppress(OSError):  # the folder is gone: bodies that need one will say so
        os.chdir(now.folder)


def _hello() -> None:
    """Do nothing: to be called means that the process is ready."""


# -- in the process that runs the flow -------------------------------------------------------------------------------


class PoolBroke(BrokenProcessPool):
    """Says that a worker process died.

    Attributes
    ----------
    was_ready
        False if the processes died before they could do anything.
    evidence
        How it ended, as far as that is known; see :func:`prefectish.executors.worker_death.worker_evidence`.
    last_words
        The same in a few words.
    """

    def __init__(self, was_ready: bool, evidence: Mapping[str, Any]) -> None:
        super().__init__("a worker process died")
        self.was_ready = was_ready
        self.evidence = evidence
        self.last_words = as_text(evidence)


class _Starting(threading.local):
    """Whether the processes that this thread starts now are ours."""

    ours = False


_starting = _Starting()
_prepare = spawn.get_preparation_data


def _preparation_data(name: str) -> dict[str, Any]:
    """Return what multiprocessing tells a new process, for ours without the main script."""
    data: dict[str, Any] = _prepare(name)
    if _starting.ours:
        data.pop("init_main_from_name", None)
        data.pop("init_main_from_path", None)
    return data


spawn.get_preparation_data = _preparation_data  # there is no other way to start a process of a pool without it


def _submit(executor: ProcessPoolExecutor, fn: Callable[..., Any], *args: Any) -> Future[Any]:
    """Submit a call; the pool starts its processes in here, as they are needed."""
    _starting.ours = True
    try:
        return executor.submit(fn, *args)
    finally:
        _starting.ours = False


class ProcessGroup:
    """The processes of a pool from their start until one of them dies."""

    def __init__(self, size: int) -> None:
        self.pid = os.getpid()
        self.start = ProcessEnv.now()
        self.folder = tempfile.mkdtemp(prefix="prefectish_words-")
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self.executor = ProcessPoolExecutor(
            size, mp_context=get_context(), initializer=prepare_worker, initargs=(self.folder,)
        )
        self.hello: Future[None] = _submit(self.executor, _hello)
        self.size = size
        self.peak = 0
        self.processes: Mapping[int, Any] = getattr(self.executor, "_processes", None) or {}

    def works(self) -> bool:
        """Whether the processes can be used: they are ours, not a fork's, and none has died meanwhile."""
        if self.pid != os.getpid():
            return False
        try:
            _submit(self.executor, _hello)
        except (BrokenProcessPool, RuntimeError):
            return False
        return True

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Note the largest memory of a process that is alone meanwhile: nobody can ask one that died of it."""
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
        while not ended.wait(MEMORY_LOOK):
            for pid in list(self.processes):
                with suppress(psutil.Error):
                    self.peak = max(self.peak, psutil.Process(pid).memory_info().rss)

    def broke(self) -> PoolBroke:
        """Return what is known of the death of a process."""
        ready = self.hello.done() and self.hello.exception() is None
        return PoolBroke(ready, self._evidence() if self.size == 1 else {})

    def _evidence(self) -> dict[str, Any]:
        """Return what is known of the only process."""
        end = time.monotonic() + 1
        for pid, process in list(self.processes.items()):
            # The pool's own thread waits for it too; whoever comes second learns the code a moment later.
            while process.exitcode is None and time.monotonic() < end:
                time.sleep(0.005)
            found = {"worker": f"{process_name().rpartition(':')[0]}:{pid}", "pid": pid}
            ended = exit_evidence(process.exitcode) if process.exitcode is not None else {}
            known = {"peak_memory": self.peak or None, "log": crash_log.find(self.folder, pid) or None}
            return {**found, **ended, **{name: value for name, value in known.items() if value is not None}}
        return {}

    def kill(self) -> None:
        """End the processes, whatever they do."""
        for process in list(self.processes.values()):
            process.kill()
        self.executor.shutdown(wait=False, cancel_futures=True)


class PoolView:
    """A pool as one ``get`` of Dask sees it: with room for some calls more than there are processes."""

    def __init__(self, generation: ProcessGroup, changes: ProcessEnv | None, room: int) -> None:
        self._max_workers = room
        self._executor = generation.executor
        self._changes = changes
        self.generation = generation

    def submit(self, fn: Callable[..., Any], *args: Any) -> Future[Any]:
        """Return the future of a call."""
        return _submit(self._executor, call, self._changes, fn, *args)


_idle: dict[int, ProcessGroup] = {}
_lock = threading.Lock()


class ProcessPool:
    """Worker processes of one run; they start with the first view."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._generation: ProcessGroup | None = None
        self._changes: ProcessEnv | None = None
        self._closed = False
        self._lock = threading.Lock()

    def view(self, room: int) -> PoolView:
        """Return a view of the processes there are now; start them if there are none."""
        with self._lock:
            if self._closed:
                raise RuntimeError("the run has ended")
            if self._generation is None:
                self._generation = _take(self.size) or ProcessGroup(self.size)
                self._changes = ProcessEnv.now().since(self._generation.start)
            return PoolView(self._generation, self._changes, room)

    def drop(self, view: PoolView) -> PoolBroke:
        """Give up processes of which one died; the next view starts others."""
        with self._lock:
            if self._generation is view.generation:
                self._generation = None
        return view.generation.broke()

    def close(self, keep: bool) -> None:
        """Keep the processes for another run, or end them; there are no more views."""
        with self._lock:
            self._closed = True
            generation, self._generation = self._generation, None
        if generation is None:
            return
        if keep:
            with _lock:
                former = _idle.get(self.size)
                _idle[self.size] = generation
            if former is not None:
                former.executor.shutdown(wait=False)
        else:
            generation.kill()


def _take(size: int) -> ProcessGroup | None:
    """Return an idle pool that works, if there is one."""
    with _lock:
        generation = _idle.pop(size, None)
    return generation if generation is not None and generation.works() else None
