"""Limits that hold across runs: how much of each a run holds stands in the database of the history.

A run takes from a limit in blocks, as much as its children ask for, and gives back what it does not use, so that a
child of a run that holds enough costs nothing. What a run held whose client died is free again when it stands still
for a minute, or at once if its process is known to be dead.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from prefectish.engine.driver.control import RunControl, SetSharedLimit
from prefectish.engine.scheduling.admission import Limits
from prefectish.errors import HistoryWriteError
from prefectish.history.holders import Life, life_of, own_holder
from prefectish.history.registry_tables import leases
from prefectish.history.registry_tables import limits as table
from prefectish.history.store import HistoryStore, open_store

_l, _n = leases.c, table.c
#: Seconds between two looks at what is asked for.
POLL_INTERVAL = 0.05
#: Seconds between two signs of life, and until a run that gives none has lost what it held.
BEAT, STANDS_STILL_AFTER = 5.0, 60.0
#: Seconds until a run asks again for what others hold; looks until it gives back what it does not use.
AGAIN_AFTER, IDLE_LOOKS = 0.25, 4
logger = logging.getLogger("prefectish")


class SharedLimit(NamedTuple):
    """A limit across runs, and who holds how much of it."""

    name: str
    size: int
    is_set: bool  # by `prefectish limits set`; else by tasks
    held: int
    runs: tuple[str, ...]


def share(size: int, wanted: int, used: int, others: list[tuple[int, int]]) -> int:
    """Return how much of a limit a run may hold.

    Parameters
    ----------
    size
        Of the limit.
    wanted, used
        Slots that the run would use, and those that it uses.
    others
        Slots that each other run holds, and wants.

    Examples
    --------
    >>> share(10, wanted=10, used=0, others=[])
    10
    >>> share(10, wanted=10, used=10, others=[(0, 10)])  # it lets go as its children end
    10
    >>> share(10, wanted=10, used=6, others=[(2, 10)]), share(10, wanted=10, used=0, others=[(9, 10)])
    (6, 1)
    """
    free = size - sum(held for held, _ in others)
    wanting = [want for _, want in others if want]
    fair = size // (len(wanting) + 1) or 1
    reserved = sum(max(0, min(want, fair) - held) for held, want in others)
    return max(used, min(wanted, free, max(fair, free - reserved)))


class LeaseKeeper:
    """Keeps what a run holds of limits across runs; works in a thread of its own until the run ends."""

    def __init__(self, store: HistoryStore, control: RunControl, known: Limits) -> None:
        self._store = store
        self._control = control
        self._limits = known
        self._held: dict[str, int] = {}
        self._beat_at = self._again_at = 0.0
        self._idle = 0
        self._seen: dict[tuple[str, str], tuple[int, float]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="prefectish-limits", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Give everything back."""
        self._stop.set()
        self._thread.join()
        try:
            with self._store.writing() as connection:
                connection.execute(delete(leases).where(_l.run == self._run))
        except HistoryWriteError as error:  # others see that it does not move any more
            logger.warning("shared limits: %s; what this run held is free again after a while", error)

    @property
    def _run(self) -> str:
        assert self._control.run_id is not None
        return self._control.run_id

    def _keep(self) -> None:
        while not self._stop.is_set():
            try:
                self._look()
            except HistoryWriteError as error:
                logger.warning("shared limits: %s; trying again", error)
            self._stop.wait(POLL_INTERVAL)

    def _look(self) -> None:
        """Take what children wait for, and give back what is not used."""
        now = time.monotonic()
        beats = now - self._beat_at >= BEAT
        known = sorted(self._limits.shared.items())  # in one order: runs hold rows while they wait for others
        wishes = {name: limit.wish() for name, limit in known}
        more = any(wanted > self._held.get(name, 0) for name, (_, wanted) in wishes.items())
        less = any(wanted < self._held.get(name, 0) for name, (_, wanted) in wishes.items())
        self._idle = self._idle + 1 if less else 0
        if not (beats or (more and now >= self._again_at) or self._idle >= IDLE_LOOKS):
            return
        self._idle, self._beat_at = 0, now if beats else self._beat_at
        granted: dict[str, int] = {}
        with self._store.writing() as connection:
            for name, limit in known:
                granted[name] = self._lease(connection, name, *wishes[name], limit.declared, now)
        if any(granted[name] < wanted for name, (_, wanted) in wishes.items()):
            self._again_at = now + AGAIN_AFTER  # another run holds the rest
        for name, size in granted.items():
            if self._held.get(name) != size:
                self._held[name] = size
                self._control.mailbox.post(SetSharedLimit(name, size))

    def _lease(self, connection: Connection, name: str, used: int, wanted: int, declared: int, now: float) -> int:
        size = _size_of(connection, name, declared)
        rows = connection.execute(select(leases).where(_l.name == name)).all()
        others = [(r.size, r.wanted) for r in rows if r.run != self._run and self._lives(connection, r, now)]
        granted = share(size, max(wanted, size) if wanted > used else wanted, used, others)
        values = {"holder": own_holder(), "size": granted, "wanted": wanted, "seen": time.time()}
        own = (_l.name == name) & (_l.run == self._run)
        if not connection.execute(update(leases).where(own).values(beat=_l.beat + 1, **values)).rowcount:
            connection.execute(insert(leases).values(name=name, run=self._run, beat=0, **values))
        return granted

    def _lives(self, connection: Connection, row: Any, now: float) -> bool:
        """Whether another run still holds what it held; what a dead one held is given back for it.

        Clocks of other machines are not asked, which may be wrong.
        """
        key = row.name, row.run
        beat, since = self._seen.get(key, (-1, now))
        if beat != row.beat:
            since = now
        self._seen[key] = row.beat, since
        if now - since < STANDS_STILL_AFTER and life_of(row.holder, row.seen) is not Life.DEAD:
            return True
        connection.execute(delete(leases).where((_l.name == row.name) & (_l.run == row.run)))
        return False


def _size_of(connection: Connection, name: str, declared: int) -> int:
    """Return the size of a limit, and hold its row, so that runs look one after the other."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    values = {"name": name, "size": declared, "is_stored": 0}
    connection.execute(dialect.insert(table).values(values).on_conflict_do_nothing())
    row = connection.execute(select(table).where(_n.name == name).with_for_update()).one()
    return int(row.size) if row.is_stored else declared


def set_limit(name: str, size: int, store: str | os.PathLike[str] | None = None) -> None:
    """Set the size of a limit across runs; it beats what tasks say.

    Raises
    ------
    ValueError
        The size is negative, or the name is empty.
    """
    if not name or isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise ValueError(f"a limit must have a name and a size >= 0, got {name!r} and {size!r}")
    with open_store(store).writing() as connection:
        _size_of(connection, name, size)
        connection.execute(update(table).where(_n.name == name).values(size=size, is_stored=1))


def remove_limit(name: str, store: str | os.PathLike[str] | None = None) -> bool:
    """Forget the size that was set; return whether there was one."""
    with open_store(store).writing() as connection:
        stored = (_n.name == name) & (_n.is_stored == 1)
        return bool(connection.execute(delete(table).where(stored)).rowcount)


def limits(store: str | os.PathLike[str] | None = None) -> list[SharedLimit]:
    """Return the limits across runs, and what is held of each."""
    with open_store(store).reading() as connection:
        held: dict[str, dict[str, int]] = {}
        for row in connection.execute(select(leases).where(_l.size > 0)):
            held.setdefault(row.name, {})[row.run] = row.size
        rows = connection.execute(select(table).order_by(_n.name)).all()
    found: Mapping[str, Mapping[str, int]] = held
    return [
        SharedLimit(
            r.name, r.size, bool(r.is_stored), sum(found.get(r.name, {}).values()), tuple(found.get(r.name, ()))
        )
        for r in rows
    ]
