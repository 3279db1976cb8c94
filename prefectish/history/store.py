"""The database of the history: a SQLite file in WAL mode with full synchronisation, or PostgreSQL by its URL."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, insert, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from prefectish import config
from prefectish.errors import (
    HistoryCorrupt,
    HistoryTooNew,
    HistoryUnavailable,
    HistoryUnsafe,
    HistoryWriteError,
    PrefectishError,
)
from prefectish.history import filesystems, schema
from prefectish.history.cells import BadCell
from prefectish.history.registry_tables import add_tables

logger = logging.getLogger("prefectish.history")
T = TypeVar("T")
#: Maximum time a writer waits for another one, in seconds.
BUSY_TIMEOUT = 30.0
#: Maximum time until a history that is locked, or whose server is away, is given up, in seconds.
PATIENCE = 300.0
#: Seconds between two attempts to use it.
RETRY_INTERVAL = 0.5
#: Schema of the tables on a server, so that they do not collide with others.
NAMESPACE = "prefectish"
JOURNALS = ("wal", "delete")
#: Histories that keep their connections, and statements made for them, at once; others open them again when used.
MOST_CONNECTED = 8
_stores: dict[tuple[int, str], HistoryStore] = {}
_connected: dict[HistoryStore, None] = {}  # those used last come last
_lock = threading.Lock()
_order = threading.Lock()  # of `_connected`; what is used again does not wait for one that is being opened


class HistoryStore(ABC):
    """An open history; cached by location and process."""

    location: str  # path of the file, or URL without its password
    is_file: bool  # whether it is a SQLite file; else it is on a server
    engine: Engine
    process = 0  # that opened it; a forked one must leave its connections alone
    is_connected = False  # whether it may keep connections

    @property
    def address(self) -> str:
        """Return the address that opens this history, including its password: must not be shown."""
        return self.engine.url.render_as_string(hide_password=False)

    def is_there(self) -> bool:
        """Whether its file is still the one that was opened: rows written to a deleted file are lost."""
        return True

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction that may write.

        Raises HistoryWriteError if the disk is full, or the history can no longer be written; earlier rows are intact.
        """
        if not self.is_there():
            raise HistoryWriteError(f"history {self.location} was deleted or replaced since it was opened")
        with self.translated_errors(), self._connecting().begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a transaction that only reads and does not block writers; HistoryWriteError if it cannot be reached."""
        with self.translated_errors(), self._connecting().connect() as connection:
            yield connection.execution_options(prefectish_reads=True)

    def _connecting(self) -> Engine:
        if not self.is_connected:
            _keep_connected(self)
        return self.engine

    def disconnect(self) -> None:
        """Let go of connections that are not in use, and of statements made for them, which take more memory."""
        self.is_connected = False
        used, self.engine = self.engine, self._new_engine()
        used.dispose()

    @abstractmethod
    def _new_engine(self) -> Engine:
        """Return what connects to it."""

    @contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Raise HistoryCorrupt for values that cannot be read, HistoryWriteError for errors of the database."""
        try:
            yield
        except BadCell as error:
            raise HistoryCorrupt(f"history {self.location} has a value that cannot be read: {error}") from error
        except DBAPIError as error:
            if _NO_TEXT in str(error.orig):
                raise HistoryCorrupt(f"history {self.location} has a text that is not UTF-8: {error.orig}") from error
            away = isinstance(error, OperationalError) and (not self.is_file or _is_locked(error.orig))
            kind = HistoryUnavailable if away else HistoryWriteError
            raise kind(f"history {self.location} could not be used: {' '.join(str(error.orig).split())}") from error

    def _check_version(self, version: int) -> None:
        if version > schema.VERSION:
            raise HistoryTooNew(
                f"schema {version}, this version knows {schema.VERSION}: {self.location} was left as it is"
            )


def patiently(use: Callable[[], T]) -> T:
    """Return what `use` does with a history, which is waited for if it is locked, or its server away."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return use()
        except HistoryUnavailable as error:
            if time.monotonic() >= end:
                raise
            logger.warning("%s; trying again", error)
        time.sleep(RETRY_INTERVAL)


def _is_locked(error: BaseException | None) -> bool:
    """Whether a file cannot be used because another process has locked it.

    "locking protocol" says that the locks of readers were held for ten seconds, by a process that got no processor.
    """
    return any(words in str(error) for words in ("locked", "locking protocol"))


def _has_content(path: str) -> bool:
    try:
        return os.path.getsize(path) > 0
    except FileNotFoundError:
        return False


class FileStore(HistoryStore):
    """A history in a SQLite file, in a folder that exists.

    The journal is "wal", or "delete" for file systems on which a write-ahead log is not safe.
    """

    is_file = True

    @property
    def address(self) -> str:
        """Return the address that opens this history."""
        if self._journal == JOURNALS[0]:
            return self.location
        return f"sqlite:///{os.path.abspath(self.location)}?journal={self._journal}"

    def __init__(self, path: str, journal: str) -> None:
        self.location = path
        self._journal = journal
        folder = os.path.dirname(os.path.abspath(path))
        if not os.path.isdir(folder):
            raise HistoryWriteError(f"history {path}: the folder {folder} does not exist")
        if os.path.isdir(path):
            raise HistoryWriteError(
                f"history {path} is a folder; pass a file in it, {os.path.join(path, 'history.db')}"
            )
        self._check_file_system(folder)
        if os.path.exists(path) and not os.path.isfile(path):  # who opens a FIFO waits for a writer
            raise HistoryWriteError(f"history {path} must be a file, and is a device, a socket or a FIFO")
        fresh = not os.path.exists(path) or not os.path.getsize(path)
        version = 0 if fresh else self._checked()
        if fresh:
            self._create_private()
        with self.translated_errors():
            if version < schema.VERSION:
                self._make()
            self.engine = self._new_engine()
            self.engine.connect().close()
        self._file = self._found()

    def is_there(self) -> bool:
        """Whether its file is still the one that was opened."""
        return self._found() == self._file

    def _found(self) -> tuple[int, int] | None:
        """Return what distinguishes the file from another one at the same path; None if there is none."""
        try:
            found = os.stat(self.location)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _check_file_system(self, folder: str) -> None:
        kind = filesystems.type_of(folder)
        if self._journal == "wal" and filesystems.is_network(kind):
            raise HistoryUnsafe(
                f"history {self.location} lies on a network file system ({kind}), where a write-ahead log is not safe; "
                f'keep it on a disk of this machine or in PostgreSQL, or set history_journal = "delete" in '
                f'config.toml, PREFECTISH_HISTORY_JOURNAL=delete, or history="sqlite:///PATH?journal=delete"'
            )

    def _checked(self) -> int:
        """Check an existing file before writing to it, and return the version of its tables."""
        name = os.path.basename(self.location)
        try:
            uri = f"{Path(self.location).absolute().as_uri()}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT)) as connection:
                version: int = connection.execute("PRAGMA user_version").fetchone()[0]
                is_history = connection.execute("PRAGMA application_id").fetchone()[0] == schema.APPLICATION_ID
        except sqlite3.OperationalError as error:  # its content is not at fault
            kind = HistoryUnavailable if _is_locked(error) else HistoryWriteError
            raise kind(f"history {self.location} could not be used: {error}") from error
        except sqlite3.DatabaseError as error:
            raise HistoryCorrupt(f"{name} is not a prefectish history: {error}") from error
        if not is_history:
            raise HistoryCorrupt(f"{name} is not a prefectish history")
        self._check_whole(name)
        self._check_version(version)
        if not os.access(self.location, os.W_OK):
            raise HistoryWriteError(f"history {self.location} is read-only")
        return version

    def _check_whole(self, name: str) -> None:
        """Refuse a file without its last pages: SQLite may find no rows in it, and say nothing.

        One that another process is writing to has a journal, until all of its pages are there; so the journal is looked
        for after the header is read, and before the length.
        """
        with open(self.location, "rb") as file:
            header = file.read(100)
            has_journal = any(_has_content(f"{self.location}-{kind}") for kind in ("wal", "journal"))
            length = file.seek(0, os.SEEK_END)
        page = int.from_bytes(header[16:18], "big")
        pages = int.from_bytes(header[28:32], "big")
        is_current = header[24:28] == header[92:96]  # else an old SQLite wrote it, without the number of pages
        if is_current and not has_journal:
            wanted = pages * (65_536 if page == 1 else page)
            if length < wanted:
                raise HistoryCorrupt(f"{name} was cut: it has {length:,} of {wanted:,} bytes")

    def _create_private(self) -> None:
        try:
            os.close(os.open(self.location, os.O_CREAT | os.O_WRONLY, 0o600))
        except OSError as error:
            raise HistoryWriteError(f"history {self.location} cannot be written: {error}") from error

    def _new_engine(self) -> Engine:
        return self._engine(self._tune)

    def _engine(self, tune: Callable[[sqlite3.Connection, Any], None], **options: Any) -> Engine:
        url = URL.create("sqlite", database=self.location)
        engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT}, **options)
        event.listen(engine, "connect", tune)
        event.listen(engine, "begin", _begin)
        return engine

    def _make(self) -> None:
        """Create or upgrade the tables in one transaction, so that no other process sees them incomplete."""
        with self._engine(_take_over_transactions, poolclass=NullPool).begin() as connection:
            found = int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
            _bring_up_to_date(connection, found)
            connection.exec_driver_sql(f"PRAGMA application_id = {schema.APPLICATION_ID}")
            connection.exec_driver_sql(f"PRAGMA user_version = {schema.VERSION}")

    def _tune(self, connection: sqlite3.Connection, record: Any) -> None:
        _take_over_transactions(connection, record)
        end = time.monotonic() + BUSY_TIMEOUT
        while True:
            try:
                connection.execute(f"PRAGMA journal_mode = {self._journal}").close()
                break
            except sqlite3.OperationalError as error:
                # SQLite does not wait for other connections when it changes the journal mode.
                if not _is_locked(error) or time.monotonic() > end:
                    raise
                time.sleep(0.01)
        connection.execute("PRAGMA synchronous = FULL").close()
        connection.text_factory = _text


class ServerStore(HistoryStore):
    """A history on a PostgreSQL server, in its own schema."""

    is_file = False

    def __init__(self, url: URL) -> None:
        self.location = without_password(url)
        self._url = url
        self.engine = self._new_engine()
        try:
            with self.translated_errors(), self.engine.begin() as connection:
                # If two clients start at once, one creates the tables and the other finds them.
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": schema.APPLICATION_ID})
                connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {NAMESPACE}"))
                self._make(connection)
        except PrefectishError:
            self.engine.dispose()
            raise

    def _new_engine(self) -> Engine:
        return _engine(self._url).execution_options(schema_translate_map={None: NAMESPACE})

    def _make(self, connection: Connection) -> None:
        schema.about.create(connection, checkfirst=True)
        known = connection.execute(select(schema.about.c.value).where(schema.about.c.name == "version")).scalar()
        version = 0 if known is None else int(known)
        self._check_version(version)
        if version < schema.VERSION:
            _bring_up_to_date(connection, version)
            connection.execute(schema.about.delete().where(schema.about.c.name == "version"))
            connection.execute(insert(schema.about).values(name="version", value=str(schema.VERSION)))


def _bring_up_to_date(connection: Connection, version: int) -> None:
    """Create the tables, or upgrade those of an older version; version 0 is an empty history."""
    at = "" if connection.dialect.name == "sqlite" else f"{NAMESPACE}."
    for older in range(version, schema.VERSION) if version else ():
        for statement in schema.UPGRADES[older]:
            connection.exec_driver_sql(statement.format(at=at))
    add_tables(connection)


def without_password(url: URL) -> str:
    """Return a URL to be shown. Drivers take a password in the query, too.

    Examples
    --------
    >>> without_password(make_url("postgresql://me:secret@host/runs?password=secret&sslpassword=secret&sslmode=require"))
    'postgresql://me:***@host/runs?sslmode=require'
    """
    secret = [name for name in url.query if "password" in name.lower()]
    return url.difference_update_query(secret).render_as_string(hide_password=True)


def _engine(url: URL) -> Engine:
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername=f"postgresql+{_driver()}")
    try:
        return create_engine(url, pool_pre_ping=True, pool_size=2)
    except (ModuleNotFoundError, ArgumentError) as error:
        raise HistoryWriteError(f"history {without_password(url)}: {error}") from error


def _driver() -> str:
    """Return the installed driver; psycopg if there is none, so that the import error names it."""
    from importlib.util import find_spec

    return next((name for name in ("psycopg", "psycopg2") if find_spec(name) is not None), "psycopg")


def _take_over_transactions(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # transactions are started by `_begin`, so that none is upgraded later


#: How the driver begins to say that it cannot decode a text.
_NO_TEXT = "Could not decode to UTF-8"
#: Bytes that are not UTF-8 make one text odd, but do not make the whole history unreadable.
_text = partial(str, encoding="utf-8", errors="replace")


@contextmanager
def strict_texts(connection: Connection) -> Iterator[None]:
    """Let SQLite decode texts by itself, which saves a third of the time of ten thousand runs.

    A text that is not UTF-8 raises then, HistoryCorrupt in the end; it has to be read again without this.
    """
    raw: Any = connection.connection.driver_connection
    if not isinstance(raw, sqlite3.Connection):
        yield
        return
    raw.text_factory = str
    try:
        yield
    finally:
        raw.text_factory = _text


def _begin(connection: Connection) -> None:
    reads = connection.get_execution_options().get("prefectish_reads", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def open_store(history: str | os.PathLike[str] | None) -> HistoryStore:
    """Return the history at a path or URL; None: the one in the home folder.

    Raises HistoryCorrupt or HistoryTooNew for a file that is something else or of a later version, which is not
    changed, HistoryUnsafe on a network file system, HistoryWriteError if it cannot be written; ValueError for False.
    """
    if isinstance(history, bool):
        raise ValueError(f"history must be the path or database URL of the history that has the run, got {history!r}")
    if history is not None and not isinstance(history, str | os.PathLike):
        raise TypeError(f"history must be a path, a database URL, None or False, got {history!r}")
    key, make = _journal_setting(os.fspath(history) if history is not None else os.path.join(_home(), "history.db"))
    with _lock:
        store = _stores.get((os.getpid(), key))
        if store is None or not store.is_there():
            if store is not None:
                with _order:
                    _connected.pop(store, None)
                store.disconnect()  # of the file that is gone, which its connections keep on the disk
            store = _stores[os.getpid(), key] = make()
            store.process = os.getpid()
        _keep_connected(store)
        return store


def _keep_connected(store: HistoryStore) -> None:
    """Let a history that is used keep its connections, in the place of the one whose last use is longest ago."""
    with _order:
        _connected.pop(store, None)
        _connected[store] = None
        store.is_connected = True
        while len(_connected) > MOST_CONNECTED:
            oldest = next(iter(_connected))
            del _connected[oldest]
            if oldest.process == os.getpid():
                oldest.disconnect()


def open_stores() -> list[HistoryStore]:
    """Return the histories opened by this process, the newest first."""
    with _lock:
        found = [store for (process, _), store in _stores.items() if process == os.getpid()]
    return [store for store in reversed(found) if store.is_there()]


def _journal_setting(place: str) -> tuple[str, Callable[[], HistoryStore]]:
    """Return the cache key of a history in this process, and a function that opens it."""
    if "://" not in place:
        journal = _journal(config.setting("history_journal"))
        return f"{journal} {os.path.abspath(place)}", lambda: FileStore(place, journal)
    try:
        url = make_url(place)
    except ArgumentError as error:
        raise HistoryWriteError(f"history: {error}") from error
    kind = url.get_backend_name() if url.drivername != "postgres" else "postgresql"
    if kind == "postgresql":
        return place, lambda: ServerStore(url)
    path = url.database
    if kind != "sqlite" or not path or path == ":memory:":
        shown = without_password(url)
        raise HistoryWriteError(f"history must be a path, sqlite:///PATH or postgresql://..., got {shown!r}")
    journal_option = url.query.get("journal")
    journal = _journal(journal_option if isinstance(journal_option, str) else config.setting("history_journal"))
    return f"{journal} {os.path.abspath(path)}", lambda: FileStore(path, journal)


def _journal(mode: Any) -> str:
    if mode is None:
        return JOURNALS[0]
    if mode not in JOURNALS:
        raise HistoryWriteError(f"history_journal must be one of {', '.join(JOURNALS)}, got {mode!r}")
    return str(mode)


def _home() -> str:
    home = config.home()
    try:
        os.makedirs(home, mode=0o700, exist_ok=True)
    except OSError as error:
        raise HistoryWriteError(f"history {home} cannot be created: {error}; set PREFECTISH_HOME") from error
    return home
