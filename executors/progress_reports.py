"""How reports of bodies, ``context.progress(...)``, reach the client from another process."""

from __future__ import annotations

import os
import pickle
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefectish.engine.worker.body_progress import BodyProgress, board

if TYPE_CHECKING:
    from distributed import Client

#: Topic of the reports among the events of a cluster.
TOPIC = "prefectish-progress"
#: How often the files of processes are read, in seconds.
INTERVAL = 0.3


def send_by_cluster(run_id: str, report: BodyProgress) -> None:
    """Send a report from a worker through the scheduler; one that cannot be sent is dropped."""
    from distributed import get_worker

    with suppress(ValueError):  # not in a task of Dask
        get_worker().log_event(TOPIC, (run_id, tuple(report)))


@contextmanager
def heard_from_cluster(client: Client) -> Iterator[None]:
    """Note the reports of workers while a run is active."""

    def note(event: tuple[Any, Any]) -> None:
        run_id, values = event[1]
        board.put(run_id, BodyProgress(*values))

    client.subscribe_topic(TOPIC, note)
    try:
        yield
    finally:
        if client.status == "running":
            client.unsubscribe_topic(TOPIC)


class FileSender:
    """Leaves the latest report of each thread of a process in a file."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self, run_id: str, report: BodyProgress) -> None:
        """Replace the file of this thread; a folder that is gone belongs to a run that has ended."""
        name = f"{os.getpid()}-{threading.get_ident()}"
        path = Path(self.folder, name)
        with suppress(OSError):
            path.with_suffix(".new").write_bytes(pickle.dumps((run_id, tuple(report))))
            path.with_suffix(".new").replace(path)


@contextmanager
def read_from_files() -> Iterator[Callable[[str, BodyProgress], None]]:
    """Yield a sender for processes of this machine, and note what it leaves."""
    over = threading.Event()
    with tempfile.TemporaryDirectory(prefix="prefectish-", ignore_cleanup_errors=True) as folder:
        reader = threading.Thread(target=_read, args=(folder, over), name="prefectish-reports", daemon=True)
        reader.start()
        try:
            yield FileSender(folder)
        finally:
            over.set()
            reader.join()


def _read(folder: str, over: threading.Event) -> None:
    seen: dict[str, int] = {}
    while not over.wait(INTERVAL):
        for entry in os.scandir(folder):
            with suppress(OSError, pickle.UnpicklingError, EOFError):
                changed = entry.stat().st_mtime_ns
                if entry.name.endswith(".new") or seen.get(entry.name) == changed:
                    continue
                seen[entry.name] = changed
                run_id, values = pickle.loads(Path(entry.path).read_bytes())
                board.put(run_id, BodyProgress(*values))
