"""Tables of deployments, of the runs that are asked for, of agents and of limits across runs.

They are in the database of the history: any process that can connect to it can ask for a run, and an agent begins it.
"""

from __future__ import annotations

from sqlalchemy import Column, Connection, Float, ForeignKey, Integer, String, Table, Text, UniqueConstraint

from prefectish.history.schema import metadata

#: States of a requested run: it waits for its time and an agent, a driver was started for it, is driven, has ended.
WAITING, CLAIMED, DRIVEN, ENDED = "waiting", "claimed", "driven", "ended"

#: `source`, `environment`, `parameters`, `schedules`, `labels` and `options` are JSON; `digest` is the hash of the
#: first four. `planned` is the time up to which the events of its schedules have become requested runs.
deployments = Table(
    "deployments",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("project", String(200), nullable=False),
    Column("name", String(200), nullable=False),
    Column("version", Integer, nullable=False),
    Column("flow_name", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("source", Text, nullable=False),
    Column("environment", Text, nullable=False),
    Column("parameters", Text, nullable=False),
    Column("schedules", Text, nullable=False),
    Column("labels", Text, nullable=False),
    Column("options", Text, nullable=False),
    Column("active", Integer, nullable=False),
    Column("archived", Float),
    Column("created", Float, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("planned", Float, nullable=False),
    Column("signature", Text),
    UniqueConstraint("project", "name", "version"),
)

#: Runs that were asked for, by hand or by a schedule. `run` is the identifier that the run will have. `event` is its
#: event of a schedule, so that no two agents plan it twice. `claim` is the secret of the driver that may drive it,
#: `beat` counts while it does; `resumes` counts drivers that were lost. No driver is started before `not_before`.
requested = Table(
    "requested",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("run", String(80), unique=True, nullable=False),
    Column("deployment", Integer, ForeignKey("deployments.number"), nullable=False, index=True),
    Column("parameters", Text, nullable=False),
    Column("begun_by", String(20), nullable=False),
    Column("due", Float, nullable=False),
    Column("not_before", Float),
    Column("event", String(120)),
    Column("parent", Text),
    Column("asked", Float, nullable=False),
    Column("asked_by", Text, nullable=False),
    Column("state", String(10), nullable=False, index=True),
    Column("agent", Text),
    Column("claim", String(40)),
    Column("driver", Text),
    Column("beat", Integer, nullable=False, default=0),
    Column("resumes", Integer, nullable=False, default=0),
    Column("message", Text),
    Column("exit_code", Integer),
    Column("output", Text),
    Column("signature", Text),
    UniqueConstraint("deployment", "event"),
)

#: Agents that are at work; `beat` counts while they are.
agents = Table(
    "agents",
    metadata,
    Column("id", String(120), primary_key=True),
    Column("process", Text, nullable=False),
    Column("labels", Text, nullable=False),
    Column("size", Integer),
    Column("started", Float, nullable=False),
    Column("beat", Integer, nullable=False),
    Column("seen", Float, nullable=False),
    Column("stopped", Float),
)

#: Limits across runs, and how much of each a run holds; `beat` counts while its client lives.
limits = Table(
    "limits",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("size", Integer, nullable=False),
    Column("is_stored", Integer, nullable=False),
)
leases = Table(
    "leases",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("run", String(80), primary_key=True),
    Column("holder", Text, nullable=False),
    Column("size", Integer, nullable=False),
    Column("wanted", Integer, nullable=False),
    Column("beat", Integer, nullable=False),
    Column("seen", Float, nullable=False),
)


def add_tables(connection: Connection) -> None:
    """Create the tables of the history that are missing: those of runs, and these."""
    metadata.create_all(connection)
