"""Workers that cannot spill: their disk is full, so that results stay in their memory, until they die of it.

No child that runs there then has a part in that. Dask says of a full disk in the log of the worker only.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from typing import Any

from prefectish.engine.context import get_logger

TOPIC = "prefectish-spilling"
logger = get_logger("engine")

#: Seconds after which another worker may have the address; a worker that cannot spill says so each ten seconds.
_RECENT = 120.0
#: Workers that are remembered.
_MOST = 1000
#: What went wrong, and when that was last said, by address of the worker.
_told: OrderedDict[str, tuple[float, str]] = OrderedDict()


class _Teller(logging.Handler):
    """Tells the scheduler what a worker logs of spilling, which is at most one line in ten seconds."""

    def __init__(self, worker: Any) -> None:
        super().__init__(logging.ERROR)
        self.worker = worker

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, OSError):
            self.worker.log_event(TOPIC, {"worker": self.worker.address, "text": str(error)})


def tell_of(worker: Any) -> None:
    """Have a worker, where this runs, tell when it cannot spill."""
    if not getattr(worker, "prefectish_tells_of_spilling", False):
        worker.prefectish_tells_of_spilling = True
        logging.getLogger("distributed.spill").addHandler(_Teller(worker))


def note_trouble(event: tuple[float, dict[str, str]]) -> None:
    """Note what a worker tells, and warn once of it."""
    worker, text = event[1]["worker"], event[1]["text"]
    if trouble_of(worker) is None:
        logger.warning("worker %s cannot spill results to its disk, and keeps them in its memory: %s", worker, text)
    _told[worker] = time.monotonic(), text
    _told.move_to_end(worker)
    while len(_told) > _MOST:
        _told.popitem(last=False)


def trouble_of(worker: str | None) -> str | None:
    """Return why a worker could not spill lately; None if it could."""
    told = None if worker is None else _told.get(worker)
    return told[1] if told is not None and time.monotonic() - told[0] < _RECENT else None
