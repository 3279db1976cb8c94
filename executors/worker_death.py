"""What is known of a worker that died, for the state of the child that killed it.

The process itself is gone. Its nanny knows how it ended and who asked for it, the scheduler what it last heard of it
and what the nanny reported of its memory, and a temporary cluster keeps the crash logs of its workers.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from prefectish.engine.capture import Error, capture
from prefectish.engine.scheduling.deaths import share_of
from prefectish.executors import crash_log
from prefectish.executors.departures import departure
from prefectish.process_tree import exit_evidence

if TYPE_CHECKING:
    from distributed import Client

#: How long to wait until a nanny has seen the end of its worker, and between two queries, in seconds. On a busy machine
#: it takes seconds; a nanny that has already begun another worker is not waited for.
_PATIENCE = 15.0
LOOK_INTERVAL = 0.1
#: Newest lines of a nanny's log that are searched.
_MAX_SEARCHED = 500
#: Largest memory that was seen of each worker process of this machine, in bytes, by pid; filled by what watches them.
peak_memory: dict[int, int] = {}

_EXITED = re.compile(r"Worker process (\d+) exited with status (\d+)")
_KILLED = re.compile(r"Worker process (\d+) was killed by signal (\d+)")
_ASKED = re.compile(r"Nanny asking worker to close. Reason: (\S+)")


def worker_evidence(client: Client, last_worker: Any, key: Any = None, ask_nanny: bool = True) -> dict[str, Any]:
    """Return what is known of a dead worker.

    Parameters
    ----------
    last_worker
        What a ``KilledWorker`` of Dask says of it: its address, pid and nanny.
    key
        The key that was lost with it.
    ask_nanny
        Whether to ask its nanny, which on a busy machine takes seconds to see the end of its worker.

    Returns
    -------
    dict
        ``worker`` (address), ``pid``; as far as known ``exit_code`` (negative: a signal), ``signal`` (its name),
        ``peak_memory`` and ``memory_limit`` in bytes, ``out_of_memory`` (True if its nanny killed it for that), ``log``
        (last lines); ``silent_seconds`` if the scheduler gave it up because it did not answer, ``asked_to_end`` (the
        reason) if the cluster ended it, ``share`` (of :class:`~prefectish.engine.jobs.protocol.Share`) of the key.
    """
    address, pid = getattr(last_worker, "address", None), getattr(last_worker, "pid", None)
    known = {
        "worker": address,
        "pid": pid or None,
        "memory_limit": getattr(last_worker, "memory_limit", None) or None,
    }
    nanny = getattr(last_worker, "nanny", None) if ask_nanny else None
    if pid:
        found = capture(client.run_on_scheduler, _collect_evidence, pid=pid, address=address, nanny=nanny, key=key)
        if not isinstance(found, Error):
            known.update(found.value)
    return {name: value for name, value in known.items() if value is not None}


async def _collect_evidence(
    pid: int, address: str, nanny: str | None, key: Any = None, dask_scheduler: Any = None
) -> dict[str, Any]:
    """Return what scheduler and nanny know of a dead worker; runs on the scheduler."""
    import dask

    lines: list[str] = []
    if nanny is not None:
        lines = await _nanny_lines(dask_scheduler, nanny, pid, address)
    known = how_it_ended(lines, pid) | _last_heard(departure(dask_scheduler, address), key)
    for _, event in dask_scheduler.get_events("worker-restart-memory"):
        if event.get("pid") == pid and event.get("worker") == address:
            known |= {"out_of_memory": True, "peak_memory": event["rss"]}
    known["peak_memory"] = max(known.get("peak_memory") or 0, peak_memory.get(pid, 0)) or None
    if "silent_seconds" not in known and (asked := who_ended_it(lines, pid)):
        known["asked_to_end"] = asked
    folder = dask.config.get(crash_log.SETTING, None)
    said = crash_log.read(folder, pid) if folder is not None else []
    known["log"] = said or lines[-crash_log.MAX_LINES :] or None
    return {name: value for name, value in known.items() if value is not None}


def _last_heard(left: Mapping[str, Any], key: Any) -> dict[str, Any]:
    """Return of what the scheduler wrote down of a worker that left what belongs to the evidence."""
    if not left:
        return {}
    known = {"peak_memory": left["last_memory"], "silent_seconds": left["silent_seconds"]}
    if left["expected"]:
        known["asked_to_end"] = left["stimulus"]
    if key is not None:
        known["share"] = share_of(key, left["executing"], left["processing"], left["threads"]).value
    return {name: value for name, value in known.items() if value is not None}


async def _nanny_lines(scheduler: Any, nanny: str, pid: int, address: str) -> list[str]:
    """Return what a nanny logged of a worker, oldest first, once it has seen its end."""
    clock = asyncio.get_running_loop().time
    end = clock() + _PATIENCE
    lines: list[str] = []
    while (left := end - clock()) > 0:
        # A nanny logs the end of a worker before it begins another, and no end with exit code 0.
        seen = any(other.nanny == nanny and other.pid != pid for other in scheduler.workers.values())
        try:
            logged = await asyncio.wait_for(scheduler.rpc(nanny).get_logs(n=_MAX_SEARCHED), left)
        except (OSError, TimeoutError):  # it ended with its worker
            break
        lines = [line for _, line in reversed(logged) if str(pid) in line or address in line or _ASKED.search(line)]
        if seen or how_it_ended(lines, pid):
            break
        await asyncio.sleep(LOOK_INTERVAL)
    return lines


def how_it_ended(lines: Iterable[str], pid: int) -> dict[str, Any]:
    """Return the exit code of a process that its nanny logged; empty if it logged none.

    Examples
    --------
    >>> how_it_ended(["... Worker process 17 exited with status 7"], 17)
    {'exit_code': 7}
    >>> how_it_ended(["... Worker process 17 was killed by signal 11"], 17)
    {'exit_code': -11, 'signal': 'SIGSEGV'}
    """
    for line in lines:
        for pattern, sign in ((_EXITED, 1), (_KILLED, -1)):
            match = pattern.search(line)
            if match and int(match[1]) == pid:
                return exit_evidence(sign * int(match[2]))
    return {}


def who_ended_it(lines: Iterable[str], pid: int) -> str | None:
    """Return the reason for which a nanny was asked to end a process; None if it ended by itself.

    Examples
    --------
    >>> lines = ["... Nanny asking worker to close. Reason: restart-workers-1.5", "... Worker process 17 was killed"]
    >>> who_ended_it(lines, 17), who_ended_it(reversed(lines), 17)
    ('restart-workers-1.5', None)
    """
    asked: str | None = None
    for line in lines:
        if match := _ASKED.search(line):
            asked = match[1]
        elif f"process {pid} " in line:
            return asked
        elif _EXITED.search(line) or _KILLED.search(line):
            asked = None  # another process
    return None
