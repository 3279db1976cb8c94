"""How reports of bodies, ``context.progress(...)``, and what generators yield reach the client from another process."""

from __future__ import annotations

import os
import pickle
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefectish.engine.worker.body_progress import BodyProgress, board
from prefectish.engine.worker.yielding import Yielded, receive, receivers

if TYPE_CHECKING:
    pass

#: Topics of the reports, and of what is yielded, among the events of a cluster.
TOPIC, ITEMS = "prefectish-progress", "prefectish-items"
#: How often the files of processes are read, in seconds: those of reports, and those of what is yielded.
INTERVAL, ITEMS_INTERVAL = 0.3, 0.1
_SUFFIX = ".items"
#: Bytes that say how long a piece of such a file is.
_LENGTH = 8


def send_by_cluster(run_id: str, report: BodyProgress) -> None:
    """Send a report from a worker through the scheduler; one that cannot be sent is dropped."""
    from distributed import get_worker

    with suppress(ValueError):  # not in a task of Dask
        get_worker().log_event(TOPIC, (run_id, tuple(report)))


def yield_by_cluster(run_id: str) -> Callable[[Yielded], None] | None:
    """Return what sends the items of a body from a worker through the scheduler; None outside of a task of Dask."""
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:
        return None
    return lambda yielded: worker.log_event(ITEMS, (run_id, pickle.dumps(tuple(yielded), protocol=5)))


def note_report(event: tuple[Any, Any]) -> None:
    """Note a report of a worker, in the process of the client."""
    run_id, values = event[1]
    board.put(run_id, BodyProgress(*values))


def take_items(event: tuple[Any, Any]) -> None:
    """Take what a body on a worker yielded, if its run is active."""
    run_id, packed = event[1]
    if run_id in receivers:
        receive(run_id, Yielded(*pickle.loads(packed)))


class FileSender:
    """Leaves the latest report of each thread of a process in a file."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._read: dict[str, int] = {}
        self._lock = threading.Lock()

    def __call__(self, run_id: str, report: BodyProgress) -> None:
        """Replace the file of this thread; a folder that is gone belongs to a run that has ended."""
        name = f"{os.getpid()}-{threading.get_ident()}"
        path = Path(self.folder, name)
        with suppress(OSError):
            path.with_suffix(".new").write_bytes(pickle.dumps((run_id, tuple(report))))
            path.with_suffix(".new").replace(path)

    def items(self, run_id: str) -> Callable[[Yielded], None]:
        """Return what sends the items of a body of a process."""
        path = Path(self.folder, f"{uuid.uuid4().hex}{_SUFFIX}")

        def send(yielded: Yielded) -> None:
            packed = pickle.dumps((run_id, tuple(yielded)), protocol=5)
            with suppress(OSError), path.open("ab") as file:
                file.write(len(packed).to_bytes(_LENGTH, "little") + packed)

        return send

    def __reduce__(self) -> tuple[Any, ...]:
        return FileSender, (self.folder,)

    def read_items(self) -> None:
        """Take the items that have arrived, in the process of the client."""
        with self._lock, suppress(OSError):
            for entry in os.scandir(self.folder):
                if entry.name.endswith(_SUFFIX):
                    with suppress(OSError, pickle.UnpicklingError, EOFError):
                        self._read[entry.name] = _read_items(entry.path, self._read.get(entry.name, 0))


@contextmanager
def read_from_files() -> Iterator[FileSender]:
    """Yield a sender for processes of this machine, and note what it leaves."""
    over = threading.Event()
    with tempfile.TemporaryDirectory(prefix="prefectish-", ignore_cleanup_errors=True) as folder:
        sender = FileSender(folder)
        reader = threading.Thread(target=_read, args=(sender, over), name="prefectish-reports", daemon=True)
        reader.start()
        try:
            yield sender
        finally:
            over.set()
            reader.join()


def _read(sender: FileSender, over: threading.Event) -> None:
    seen: dict[str, int] = {}
    looks = round(INTERVAL / ITEMS_INTERVAL)
    look = 0
    while not over.wait(ITEMS_INTERVAL):
        look += 1
        sender.read_items()
        if look % looks:
            continue
        for entry in os.scandir(sender.folder):
            with suppress(OSError, pickle.UnpicklingError, EOFError):
                if not entry.name.endswith(_SUFFIX):
                    _read_report(entry, seen)


def _read_report(entry: os.DirEntry[str], seen: dict[str, int]) -> None:
    changed = entry.stat().st_mtime_ns
    if entry.name.endswith(".new") or seen.get(entry.name) == changed:
        return
    seen[entry.name] = changed
    run_id, values = pickle.loads(Path(entry.path).read_bytes())
    board.put(run_id, BodyProgress(*values))


def _read_items(path: str, begin: int) -> int:
    """Take the items of a file from a position on; return the position from which more is to be read."""
    with open(path, "rb") as file:
        file.seek(begin)
        while True:
            length = int.from_bytes(file.read(_LENGTH), "little")
            packed = file.read(length)
            if not length or len(packed) < length:  # all of it, or what follows is being written
                return begin
            begin += _LENGTH + length
            run_id, values = pickle.loads(packed)
            receive(run_id, Yielded(*values))
