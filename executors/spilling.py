"""Workers that cannot spill: their disk is full, so that results stay in their memory, until they die of it.

No child that runs there then has a part in that. Dask says of a full disk in the log of the worker only.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from traceback import walk_tb
from typing import Any
from weakref import WeakSet, finalize

from distributed import Status

from prefectish.engine.context import get_logger

TOPIC = "prefectish-spilling"
logger = get_logger("engine")
#: Where Dask says of spilling.
_LOGGER = logging.getLogger("distributed.spill")
_CLOSED = (Status.closing, Status.closed, Status.failed, Status.closing_gracefully)

#: Seconds after which another worker may have the address; a worker that cannot spill says so each ten seconds.
_RECENT = 120.0
#: Workers that are remembered.
_MOST = 1000
#: What went wrong, and when that was last said, by address of the worker.
_told: OrderedDict[str, tuple[float, str]] = OrderedDict()


class _Teller(logging.Handler):
    """Tells the scheduler what the workers of this process log of spilling, at most one line in ten seconds.

    It keeps no worker alive, and what goes wrong in it is not the worker's concern.

    Attributes
    ----------
    workers
        Those that have opened a chain of a run.
    """

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.workers: WeakSet[Any] = WeakSet()

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info is None or not isinstance(record.exc_info[1], OSError):
            return
        try:
            worker = self._worker_of(record.exc_info[1])
            if worker is not None:
                worker.log_event(TOPIC, {"worker": worker.address, "text": str(record.exc_info[1])})
        except Exception:
            self.handleError(record)

    def _worker_of(self, error: OSError) -> Any:
        """Return the worker that could not spill, None if that is not known.

        A line does not name the worker. Of several in a process it is the one whose data the error comes from.
        """
        workers = [worker for worker in list(self.workers) if worker.status not in _CLOSED]
        if len(workers) <= 1:
            return next(iter(workers), None)
        spillers = [frame.f_locals.get("self") for frame, _ in walk_tb(error.__traceback__)]
        return next((w for w in workers if any(w.data is spiller for spiller in spillers)), None)


_teller = _Teller()


def tell_of(worker: Any) -> None:
    """Have a worker, where this runs, tell when it cannot spill."""
    if worker not in _teller.workers:
        _teller.workers.add(worker)
        finalize(worker, _leave).atexit = False
    _LOGGER.addHandler(_teller)


def _leave() -> None:
    """Listen no longer once no worker is left; one that came meanwhile is still listened to."""
    _LOGGER.removeHandler(_teller)
    if list(_teller.workers):  # without the one that is going
        _LOGGER.addHandler(_teller)


def note_trouble(event: tuple[float, dict[str, str]]) -> None:
    """Note what a worker tells, and warn once of it."""
    worker, text = event[1]["worker"], event[1]["text"]
    if trouble_of(worker) is None:
        # Whose they are a worker does not tell: they may all be those of another client.
        said = "worker %s cannot spill results to its disk, and keeps them in its memory: %s (results of any run on it)"
        logger.warning(said, worker, text)
    _told[worker] = time.monotonic(), text
    _told.move_to_end(worker)
    while len(_told) > _MOST:
        _told.popitem(last=False)


def trouble_of(worker: str | None) -> str | None:
    """Return why a worker could not spill lately; None if it could."""
    told = None if worker is None else _told.get(worker)
    return told[1] if told is not None and time.monotonic() - told[0] < _RECENT else None
