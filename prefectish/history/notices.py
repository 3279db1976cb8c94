"""Notifications of a run in the history, with their delivery."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection, insert, select

from prefectish.engine.scheduling.events import Notice
from prefectish.history import schema
from prefectish.history.rows import clean


def write_notice(connection: Connection, run: int, notice: Notice) -> None:
    """Write the delivery of a notification of a run, given the number of the run."""
    row = {
        "run": run,
        "at": notice.at.timestamp(),
        "channel": notice.channel,
        "subject": clean(notice.subject),
        "attempts": notice.attempts,
        "seconds": round(notice.seconds, 3),
        "error": None if notice.error is None else clean(notice.error),
    }
    connection.execute(insert(schema.notices).values(row))


def read_notices(connection: Connection, run: int) -> list[Notice]:
    """Return the notifications of a run, oldest first."""
    c = schema.notices.c
    query = select(c.at, c.channel, c.subject, c.attempts, c.seconds, c.error).where(c.run == run).order_by(c.number)
    rows = connection.execute(query)
    return [Notice(datetime.fromtimestamp(row.at, UTC), *row[1:]) for row in rows]
