"""Tables of the history, small enough that a child takes far less than 200 bytes.

Texts that repeat (messages, tracebacks, workers) are kept once and referred to by number. Neither arguments nor results
are kept: a state says *that* a child succeeded, and where its result lies if a result store keeps it.
"""

from __future__ import annotations

from sqlalchemy import Column, Float, ForeignKey, Index, Integer, MetaData, String, Table, Text

#: Version of the tables; a history of a later version is not touched.
VERSION = 1
#: Marks a SQLite file as ours (PRAGMA application_id).
APPLICATION_ID = 0x70666873

#: States by the number that stands for them in the tables; numbers are never reused.
STATES = (
    "Pending", "Scheduled", "Retrying", "Paused", "Resume", "Queued", "Submitted", "Running", "Cancelling", "Success",
    "Cached", "Skipped", "Mapped", "Looped", "Cancelled", "Failed", "TriggerFailed", "TimedOut", "ValidationFailed",
    "Crashed",
)  # fmt: skip
CODES = {name: code for code, name in enumerate(STATES)}
FAILED = frozenset(CODES[n] for n in ("Failed", "TriggerFailed", "TimedOut", "ValidationFailed", "Crashed"))

metadata = MetaData()

runs = Table(
    "runs",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", String(80), unique=True, nullable=False),
    Column("flow_name", Text, nullable=False, index=True),
    Column("flow_version", String(32)),
    Column("name", Text),
    Column("state", Integer, nullable=False),
    Column("message", Text),
    Column("exit_code", Integer),
    Column("started", Float, nullable=False),
    Column("ended", Float),
    Column("heartbeat", Float, nullable=False),
    Column("holder", Text),
    Column("part", Integer, nullable=False, default=0),
    Column("executor", Text),
)

steps = Table(
    "steps",
    metadata,
    Column("run", Integer, ForeignKey("runs.number"), primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("slug", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("version", String(32)),
    Column("inputs", String(32)),
    Column("mapped", Integer, nullable=False),
    Column("space", Integer),
    Column("state", Integer),
    Column("width", Integer),
)

children = Table(
    "children",
    metadata,
    Column("run", Integer, primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("row", Integer, primary_key=True),
    Column("state", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("seconds", Float),
    Column("at", Float, nullable=False),
    Column("worker", Integer),
    Column("item_key", Text),
    Column("message", Integer),
    Column("error", Integer),
    Column("location", Text),
    sqlite_with_rowid=False,
)
Index("children_failed", children.c.run, children.c.error, sqlite_where=children.c.error.is_not(None))

#: Attempts that did not end a child: those before a retry, pauses.
attempts = Table(
    "attempts",
    metadata,
    Column("run", Integer, primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("row", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("state", Integer, nullable=False),
    Column("seconds", Float),
    Column("at", Float, nullable=False),
    Column("worker", Integer),
    Column("message", Integer),
    sqlite_with_rowid=False,
)

texts = Table(
    "texts",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("digest", String(32), unique=True, nullable=False),
    Column("text", Text, nullable=False),
)

errors = Table(
    "errors",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("fingerprint", String(32), unique=True, nullable=False),
    Column("type", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("traceback", Text),
)
