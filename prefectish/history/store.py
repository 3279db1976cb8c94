"""The database behind the history: SQLite in WAL mode with full synchronisation by default, any other by its URL."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import OperationalError

from prefectish import config
from prefectish.errors import HistoryCorrupt, HistoryTooNew, HistoryWriteError
from prefectish.history import schema

#: How long a writer waits for another one, in seconds.
BUSY_TIMEOUT = 30.0
_stores: dict[tuple[int, str], Store] = {}
_lock = threading.Lock()


class Store:
    """An open history. Objects are cached by location and process."""

    def __init__(self, location: str) -> None:
        self.location = location
        self.is_file = "://" not in location
        self.engine = self._open()

    def _open(self) -> Engine:
        if not self.is_file:
            engine = create_engine(self.location)
            schema.metadata.create_all(engine)
            return engine
        folder = os.path.dirname(os.path.abspath(self.location))
        if not os.path.isdir(folder):
            raise HistoryWriteError(f"history {self.location}: the folder {folder} does not exist")
        fresh = not os.path.exists(self.location) or not os.path.getsize(self.location)
        self._check(fresh)
        if fresh:
            self._create_private()
        engine = create_engine(f"sqlite:///{self.location}", connect_args={"timeout": BUSY_TIMEOUT})
        event.listen(engine, "connect", _tune)
        event.listen(engine, "begin", _begin)
        if fresh:
            self._create_tables(engine)
        return engine

    def _create_private(self) -> None:
        try:
            os.close(os.open(self.location, os.O_CREAT | os.O_WRONLY, 0o600))
        except OSError as error:
            raise HistoryWriteError(f"history {self.location} cannot be written: {error}") from error

    def _check(self, fresh: bool) -> None:
        """Look at an existing file before anything is written to it."""
        name = os.path.basename(self.location)
        if fresh:
            return
        try:
            with closing(sqlite3.connect(f"{Path(self.location).absolute().as_uri()}?mode=ro", uri=True)) as connection:
                version = connection.execute("PRAGMA user_version").fetchone()[0]
                ours = connection.execute("PRAGMA application_id").fetchone()[0] == schema.APPLICATION_ID
        except sqlite3.DatabaseError as error:
            raise HistoryCorrupt(f"{name} is not a prefectish history: {error}") from error
        if not ours:
            raise HistoryCorrupt(f"{name} is not a prefectish history")
        if version > schema.VERSION:
            raise HistoryTooNew(f"schema {version}, this version knows {schema.VERSION}: {name} was left as it is")
        if not os.access(self.location, os.W_OK):
            raise HistoryWriteError(f"history {self.location} is read-only")

    def _create_tables(self, engine: Engine) -> None:
        with engine.begin() as connection:
            schema.metadata.create_all(connection)
            connection.exec_driver_sql(f"PRAGMA application_id = {schema.APPLICATION_ID}")
            connection.exec_driver_sql(f"PRAGMA user_version = {schema.VERSION}")

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction that may write.

        Raises
        ------
        HistoryWriteError : the disk is full, or the file cannot be written any more; earlier rows are intact.
        """
        try:
            with self.engine.begin() as connection:
                yield connection
        except OperationalError as error:
            raise HistoryWriteError(f"history {self.location} could not be written: {error.orig}") from error

    def reading(self) -> Connection:
        """Open a connection for reading; to be used in a `with` block."""
        return self.engine.connect()


def _tune(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # transactions are begun by `_begin`, so that none is upgraded in the middle
    cursor = connection.cursor()
    try:
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
    finally:
        cursor.close()


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("write", True) else "BEGIN")


def open_store(history: str | os.PathLike[str] | None) -> Store:
    """Return the history at a path or URL; None stands for the one in the home folder.

    Raises
    ------
    HistoryCorrupt, HistoryTooNew : the file is something else, or of a later version; it is left as it is.
    HistoryWriteError : it cannot be written.
    """
    location = os.fspath(history) if history is not None else os.path.join(_home(), "history.db")
    key = (os.getpid(), location)
    with _lock:
        store = _stores.get(key)
        if store is None or (store.is_file and not os.path.exists(location)):
            store = _stores[key] = Store(location)
        return store


def _home() -> str:
    home = config.home()
    os.makedirs(home, mode=0o700, exist_ok=True)
    return home
