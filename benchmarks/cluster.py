"""A small cluster of processes of its own: a scheduler and workers of one thread, so that each can be weighed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil
from distributed import Client

ROOT = Path(__file__).parent.parent


class Cluster(NamedTuple):
    """Processes of a cluster, and a client of it in this process."""

    client: Client
    scheduler: psutil.Process
    workers: list[psutil.Process]


@contextmanager
def start_cluster(workers: int = 2, *options: str) -> Iterator[Cluster]:
    """Start a scheduler and workers with ``dask scheduler`` and ``dask worker --nthreads 1``, as a user would.

    `options` are further ones of the workers.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        where = ["--scheduler-file", str(folder / "scheduler.json")]
        scheduler = _start(stack, folder, "scheduler", *where, "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        started = [
            _start(stack, folder, "worker", *where, "--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1",
                   "--local-directory", str(folder), *options)
            for _ in range(workers)
        ]  # fmt: skip
        client = stack.enter_context(Client(scheduler_file=where[1], timeout=60, set_as_default=False))
        client.wait_for_workers(workers, timeout=60 + 5 * workers)
        yield Cluster(client, scheduler, started)


def _start(stack: ExitStack, folder: Path, kind: str, *options: str) -> psutil.Process:
    # `-m` from the checkout puts it on the path, for the bodies in workloads.
    with (folder / f"{kind}.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-m", "dask", kind, *options], cwd=ROOT, stdout=log, stderr=log)
    stack.callback(_end, process)
    return psutil.Process(process.pid)


def _end(process: subprocess.Popen[bytes]) -> None:
    children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for child in children:  # what a nanny could not end itself
        if child.is_running():
            child.kill()
