"""Tables of the history; a child takes far less than 200 bytes.

Repeated texts (messages, tracebacks, workers) are stored once and referenced by number. Neither arguments nor results
are stored: a state says *that* a child succeeded, and where its result is stored, if it is.

A resumed run continues in another *part*, in which its lists may have other items in another order. The rows of
all parts are kept, so that nothing of an earlier part is lost if a later one is aborted; the newest row of an
item counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import BigInteger, Column, Float, ForeignKey, Index, Integer, MetaData, String, Table, Text

from prefectish.history.cells import check_cells

#: Version of the tables; a history of a later version is not touched. It is increased with each change of a table;
#: `UPGRADES` has the statements to upgrade from the previous version.
VERSION = 4
#: Statements that upgrade a history of version n to version n + 1, by n; ``{at}`` is the schema of the tables and a
#: dot, or nothing. Tables that are missing are created besides.
UPGRADES: Mapping[int, Sequence[str]] = {
    1: (
        "ALTER TABLE {at}runs ADD COLUMN begun_by VARCHAR(20)",
        "ALTER TABLE {at}runs ADD COLUMN scheduled_for FLOAT",
        "ALTER TABLE {at}runs ADD COLUMN deployment TEXT",
        "ALTER TABLE {at}runs ADD COLUMN deployment_version INTEGER",
        "ALTER TABLE {at}runs ADD COLUMN agent TEXT",
        "ALTER TABLE {at}runs ADD COLUMN parent TEXT",
        "ALTER TABLE {at}runs ADD COLUMN returned TEXT",
        "ALTER TABLE {at}steps ADD COLUMN store TEXT",
        "ALTER TABLE {at}runs ADD COLUMN counts TEXT",
        "ALTER TABLE {at}children ADD COLUMN cpu FLOAT",
        "ALTER TABLE {at}children ADD COLUMN memory BIGINT",
        "ALTER TABLE {at}children ADD COLUMN size BIGINT",
    ),
    2: (
        "ALTER TABLE {at}steps ADD COLUMN progress TEXT",
        "ALTER TABLE {at}children ADD COLUMN taken BIGINT",
    ),
    3: ("ALTER TABLE {at}steps ADD COLUMN label TEXT",),
}
#: Marks a SQLite file as a prefectish history (PRAGMA application_id).
APPLICATION_ID = 0x70666873

#: States by their number in the tables; numbers are never reused.
STATES = (
    "Pending", "Scheduled", "Retrying", "Paused", "Resume", "Queued", "Submitted", "Running", "Cancelling", "Success",
    "Cached", "Skipped", "Mapped", "Looped", "Cancelled", "Failed", "TriggerFailed", "TimedOut", "ValidationFailed",
    "Crashed",
)  # fmt: skip
CODES = {name: code for code, name in enumerate(STATES)}
FAILED_CODES = frozenset(CODES[n] for n in ("Failed", "TriggerFailed", "TimedOut", "ValidationFailed", "Crashed"))

metadata = MetaData()

#: Properties of the history; "version" is the version of its tables, for databases without another place for it.
about = Table("about", metadata, Column("name", String(40), primary_key=True), Column("value", Text, nullable=False))

#: `holder` is the client process of the run, ``host:pid``, since `held`; `part` counts its resumptions. `asked` was a
#: request to the holder, before there was a table of them. `begun_by` is "schedule", "manual", "parent" or "resume";
#: `parent` is the run whose task asked for this one. `returned` says where the value of a flow function is stored, as
#: JSON. `counts` is JSON, too: of items and of tasks, by what they count as.
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
    Column("held", Float),
    Column("asked", String(20)),
    Column("part", Integer, nullable=False, default=0),
    Column("executor", Text),
    Column("source", Text),
    Column("begun_by", String(20)),
    Column("scheduled_for", Float),
    Column("deployment", Text),
    Column("deployment_version", Integer),
    Column("agent", Text),
    Column("parent", Text),
    Column("returned", Text),
    Column("counts", Text),
)

#: What was asked of runs, from any process, and what became of it: `answer` is JSON; `error` says why it was refused.
asks = Table(
    "asks",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("run", Integer, nullable=False, index=True),
    Column("verb", String(20), nullable=False),
    Column("arguments", Text, nullable=False),
    Column("asked_by", Text, nullable=False),
    Column("asked", Float, nullable=False),
    Column("answered", Float),
    Column("answer", Text),
    Column("error", Text),
    Column("signature", Text),
)

#: `since` is the first part whose records count: the task or its inputs changed before it.
#: `open` are the rows that were running at the last write, as ``0-7,12``.
#: `store` is the place of its results, as JSON, where it can be said in words.
#: `reads` are its upstream tasks, as JSON: slug, argument, and whether it is mapped over.
#: `progress` is what its running bodies said of themselves last, as JSON: map index, label, done, total, message.
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
    Column("since", Integer, nullable=False, default=0),
    Column("state", Integer),
    Column("width", Integer),
    Column("open", Text),
    Column("reads", Text),
    Column("store", Text),
    Column("progress", Text),
    Column("label", Text),
)

#: `cpu` is in seconds, `memory` the bytes by which the peak of its process grew, `size` that of the result in bytes,
#: `taken` that of its inputs as they came; each is None where it is not known. `made` is the part in which the task
#: ran: lower than `part` for a child that was kept when the run was resumed.
children = Table(
    "children",
    metadata,
    Column("run", Integer, primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("row", Integer, primary_key=True),
    Column("part", Integer, primary_key=True),
    Column("made", Integer, nullable=False),
    Column("state", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("seconds", Float),
    Column("at", Float, nullable=False),
    Column("worker", Integer),
    Column("item_key", Text),
    Column("name", Text),
    Column("message", Integer),
    Column("error", Integer),
    Column("location", Text),
    Column("cpu", Float),
    Column("memory", BigInteger),
    Column("size", BigInteger),
    Column("taken", BigInteger),
    sqlite_with_rowid=False,
)
_failed = children.c.error.is_not(None)
Index("children_failed", children.c.run, children.c.error, sqlite_where=_failed, postgresql_where=_failed)

#: Attempts that did not end a child: before a retry or a pause, or lost with their client. `due` is
#: when the next one may start; `context` of a pause is JSON.
attempts = Table(
    "attempts",
    metadata,
    Column("run", Integer, primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("row", Integer, primary_key=True),
    Column("part", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("state", Integer, nullable=False),
    Column("seconds", Float),
    Column("at", Float, nullable=False),
    Column("worker", Integer),
    Column("item_key", Text),
    Column("message", Integer),
    Column("error", Integer),
    Column("due", Float),
    Column("context", Text),
    sqlite_with_rowid=False,
)

texts = Table(
    "texts",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("digest", String(32), unique=True, nullable=False),
    Column("text", Text, nullable=False),
)

#: Log lines of task runs; `logger` is None for the logger of the task.
lines = Table(
    "lines",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("run", Integer, nullable=False),
    Column("step", Integer, nullable=False),
    Column("row", Integer, nullable=False),
    Column("part", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("at", Float, nullable=False),
    Column("level", Integer, nullable=False),
    Column("logger", Text),
    Column("text", Text, nullable=False),
    Column("traceback", Text),
)
Index("lines_of_child", lines.c.run, lines.c.step, lines.c.row)

#: Notifications and their delivery; `error` is None for those that were delivered.
notices = Table(
    "notices",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("run", Integer, nullable=False, index=True),
    Column("at", Float, nullable=False),
    Column("channel", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("error", Text),
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

check_cells(metadata.tables.values(), {"state": len(STATES) - 1, "mapped": 1})
