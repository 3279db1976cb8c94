"""How jobs that worker processes have been given, and have not begun, are taken back.

Each process listens in a thread, at one end of a pipe. The jobs themselves are written to a file, which a process that
starts later reads before its first call; what goes through the pipe is small, and its sender never waits for a process
that does not read.
"""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

from prefectish.engine.worker import recall as recalls
from prefectish.engine.worker.recall import Body, JobKey

#: Seconds that processes have for an answer; a body that holds Python's lock holds it up.
PATIENCE = 1.0
_FILE = "recalled"


class Recall:
    """Takes back jobs from the processes of a pool.

    Parameters
    ----------
    context
        What the processes are started with.
    size
        Number of processes, at most.
    folder
        A folder of the pool.
    """

    def __init__(self, context: BaseContext, size: int, folder: str) -> None:
        pipes = [context.Pipe() for _ in range(size)]
        self.count = context.Value("i", 0)
        self._ends: list[Connection] = [ours for ours, _ in pipes]
        self._file = Path(folder, _FILE)
        self._number = 0
        self._lock = threading.Lock()
        #: What each process listens with.
        self.listener = Listener([theirs for _, theirs in pipes], self.count, str(self._file))

    def recall(self, jobs: Sequence[JobKey]) -> list[Body] | None:
        """Let no further body of these jobs begin; return those that have begun, None if not all processes answered."""
        with self._lock:
            self._number += 1
            with self._file.open("ab") as file:
                pickle.dump((self._number, list(jobs)), file)
            asked = self._ends[: self.count.value]
            for end in asked:
                with suppress(OSError):
                    end.send(self._number)
            return self._answers(asked)

    def _answers(self, asked: Sequence[Connection]) -> list[Body] | None:
        bodies: list[Body] = []
        left, until = list(asked), time.monotonic() + PATIENCE
        while left:
            ready = wait(left, max(0.0, until - time.monotonic()))
            if not ready:
                return None
            for end in left.copy():
                if end not in ready:
                    continue
                try:
                    number, found = end.recv()
                except (EOFError, OSError):
                    return None
                if number == self._number:  # else it is a late answer to the one before
                    bodies += found
                    left.remove(end)
        return bodies


class Listener:
    """The other side of a :class:`Recall`, as each process gets it."""

    def __init__(self, ends: list[Connection], count: Any, file: str) -> None:
        self.ends = ends
        self.count = count
        self.file = file

    def start(self) -> None:
        """Take a pipe of one's own, learn what was recalled so far, and listen; runs in a new process."""
        with self.count.get_lock():
            end = self.ends[self.count.value]
            self.count.value += 1
        for other in self.ends:
            if other is not end:
                other.close()
        jobs, read = _read(self.file, 0)
        recalls.recall(jobs)
        threading.Thread(target=self._listen, args=(end, read), name="prefectish-recall", daemon=True).start()

    def _listen(self, end: Connection, read: int) -> None:
        with suppress(EOFError, OSError):
            while True:
                number = end.recv()
                jobs, read = _read(self.file, read)
                recalls.forget_others(jobs)
                end.send((number, recalls.recall(jobs)))


def _read(path: str, start: int) -> tuple[list[JobKey], int]:
    """Return the jobs in a file from a place on, and where it ends."""
    jobs: list[JobKey] = []
    with suppress(FileNotFoundError), open(path, "rb") as file:
        file.seek(start)
        with suppress(EOFError):
            while True:
                jobs += pickle.load(file)[1]
                start = file.tell()
    return jobs, start
