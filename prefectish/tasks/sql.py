"""Query databases with SQLAlchemy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from prefectish.optional_deps import load
from prefectish.tasks.options import TaskOptions
from prefectish.tasks.task import Task


class SQLTask(Task):
    """Execute a statement in its own transaction; return its rows as dicts, or the number of changed rows.

    Parameters
    ----------
    url
        URL of the database, ``sqlite:///data.db``, ``postgresql+psycopg://host/name``; its driver must be installed.
    query
        SQL statement, with parameters as ``:name``.
    name, **options
        As for :class:`~prefectish.tasks.task.Task`.

    Examples
    --------
    >>> SQLTask("sqlite://", "select :a + 1 as b").run(parameters={"a": 2})
    [{'b': 3}]
    """

    def __init__(
        self, url: str | None = None, query: str | None = None, name: str | None = None, **options: Unpack[TaskOptions]
    ) -> None:
        self.url = url
        self.query = query
        super().__init__(name, **options)

    def run(
        self,
        query: str | None = None,
        parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        url: str | None = None,
    ) -> list[dict[str, Any]] | int:
        """Execute the statement; arguments that are not None override those of the constructor.

        Parameters
        ----------
        parameters
            Values by name; a list of such executes the statement once for each.

        Raises
        ------
        ValueError
            If there is no URL or no statement.
        sqlalchemy.exc.SQLAlchemyError
            If the database refuses it; nothing of it is kept then.
        """
        url = self.url if url is None else url
        query = self.query if query is None else query
        if not url or not query:
            raise ValueError(f"{self.name}: no {'query' if url else 'url'}; pass one to the task or to its call")
        sqlalchemy = load("sqlalchemy", "sql", "SQLTask")
        engine = sqlalchemy.create_engine(url)
        try:
            with engine.begin() as connection:
                answer = connection.execute(sqlalchemy.text(query), parameters)
                return [dict(row) for row in answer.mappings()] if answer.returns_rows else int(answer.rowcount)
        finally:
            engine.dispose()
