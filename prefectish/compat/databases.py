"""`prefect.tasks.database`: queries and scripts of SQLite."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

from prefectish.compat.task_helpers import defaults_from_attrs
from prefectish.compat.tasks import Task


class SQLiteQuery(Task):
    """Runs a query.

    Parameters
    ----------
    db
        Path of the database.
    query
        The query.
    data
        Its parameters.
    **kwargs
        As for a task.
    """

    def __init__(self, db: str | None = None, query: str | None = None, data: Any = (), **kwargs: Any) -> None:
        self.db = db
        self.query = query
        self.data = data
        super().__init__(**kwargs)

    @defaults_from_attrs("db", "query", "data")
    def run(self, db: str | None = None, query: str | None = None, data: Any = None) -> list[Any]:
        """Return the rows of the query."""
        if not db:
            raise ValueError("A database must be provided.")
        if not query:
            raise ValueError("A query string must be provided.")
        with closing(sqlite3.connect(db)) as connection, connection:
            return connection.execute(query, data).fetchall()


class SQLiteScript(Task):
    """Runs a script.

    Parameters
    ----------
    db
        Path of the database.
    script
        The script.
    **kwargs
        As for a task.
    """

    def __init__(self, db: str | None = None, script: str | None = None, **kwargs: Any) -> None:
        self.db = db
        self.script = script
        super().__init__(**kwargs)

    @defaults_from_attrs("db", "script")
    def run(self, db: str | None = None, script: str | None = None) -> None:
        """Run the script."""
        if not db:
            raise ValueError("A database must be provided.")
        if not script:
            raise ValueError("A script must be provided.")
        with closing(sqlite3.connect(db)) as connection, connection:
            connection.executescript(script)
