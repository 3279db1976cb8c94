"""Deployments: flows that are registered under a project, with an environment, parameters and schedules."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, insert, select, update

from prefectish.engine.state import State
from prefectish.environments.as_json import from_json as environment_of
from prefectish.environments.base import Environment
from prefectish.errors import FlowDefinitionError, NotDeployed
from prefectish.history.children import aware_time
from prefectish.history.registry_tables import deployments as table
from prefectish.history.run_requests import requester
from prefectish.history.signing import Signer
from prefectish.history.store import HistoryStore, open_store
from prefectish.registry import queue
from prefectish.registry.attached import attach
from prefectish.registry.options import DeploymentOptions

_d = table.c
#: Lock of a server for those who register, one after the other.
LOCK = 0x64706C79


class Content(NamedTuple):
    """What makes a version of a deployment: as JSON, all of it."""

    source: Mapping[str, Any]
    environment: Mapping[str, Any]
    parameters: Mapping[str, Any]
    schedules: Sequence[Mapping[str, Any]]

    def texts(self) -> dict[str, str]:
        """Return the JSON of each."""
        return {name: json.dumps(value, sort_keys=True) for name, value in self._asdict().items()}

    def digest(self) -> str:
        """Return the hash by which two versions are the same."""
        facts: dict[str, Any] = self._asdict()
        # A pickle is never the same twice; types, for forms, follow from the file.
        facts["source"] = {name: value for name, value in self.source.items() if name not in ("pickle", "types")}
        facts["environment"] = {name: value for name, value in self.environment.items() if name != "image"}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


class Deployment:
    """A version of a deployed flow.

    Attributes
    ----------
    id
        Number of this version in its database.
    project, name
        What it is called: ``project/name``.
    version
        A whole number from 1; others of the same name are former or later ones.
    archived
        When a later version took its place, or it was archived by hand; None if it is in use.
    active
        Whether its schedules are followed.
    flow_name
        Name of its flow.
    created, created_by
        When and by whom it was deployed.
    labels
        An agent takes its runs if it has all of them.
    """

    def __init__(self, store: HistoryStore, row: Any) -> None:
        self._store = store
        self.id: int = row.number
        self.project: str = row.project
        self.name: str = row.name
        self.version: int = row.version
        self.flow_name: str = row.flow_name
        self.archived: datetime | None = None if row.archived is None else aware_time(row.archived)
        self.active: bool = bool(row.active)
        self.created: datetime = aware_time(row.created)
        self.created_by: str = row.created_by
        self.labels: tuple[str, ...] = tuple(json.loads(row.labels))
        self.parameters: dict[str, Any] = json.loads(row.parameters)
        self.source: dict[str, Any] = json.loads(row.source)
        self.schedules: list[dict[str, Any]] = json.loads(row.schedules)
        self.options = DeploymentOptions.from_json(row.options)
        self._environment: dict[str, Any] = json.loads(row.environment)
        self._row = row

    @property
    def path(self) -> str:
        """Return ``project/name``."""
        return f"{self.project}/{self.name}"

    @property
    def environment(self) -> Environment:
        """Return the environment in which it runs."""
        return environment_of(self._environment)

    def next(self, n: int = 5, after: datetime | None = None) -> list[datetime]:
        """Return the times of its next runs by its schedules; none if they are not active."""
        from heapq import merge
        from itertools import islice

        from prefectish.schedules.as_json import from_json

        if not self.active or self.archived is not None:
            return []
        every = (from_json(facts).events(after) for facts in self.schedules)
        return [event.start_time for event in islice(merge(*every, key=lambda event: event.instant), n)]

    def run(
        self, parameters: Mapping[str, Any] | None = None, at: datetime | timedelta | None = None, wait: bool = False
    ) -> Any:
        """Ask for a run, which an agent begins.

        Parameters
        ----------
        parameters
            Values of parameters, over those of the deployment; JSON.
        at
            When it is to begin: an aware datetime, or a timedelta from now. Default: now.
        wait
            Whether to wait for the end of the run.

        Returns
        -------
        str or State
            The identifier that the run has, or will have; with `wait` the state in which it ended.

        Raises
        ------
        NotDeployed
            It was archived.
        TypeError, ValueError
            `at` has no time zone, or the parameters are not JSON.
        """
        with self._store.writing() as connection:
            run_id = queue.ask_for(connection, self, parameters or {}, begun_by="manual", due=due_time(at))
        if not wait:
            return run_id
        state: State = attach(run_id, store=self._store.address).wait()
        return state

    def archive(self) -> None:
        """Take it out of use: its schedules are not followed any more, and what waits for an agent is called off."""
        with self._store.writing() as connection:
            archive_row(connection, self.id)
            queue.call_off(connection, self.id, "its deployment was archived")
        self.archived = datetime.now(UTC)

    def set_active(self, active: bool) -> None:
        """Follow its schedules from now on, or no longer."""
        with self._store.writing() as connection:
            values = {"active": int(active), "planned": time.time()}
            connection.execute(update(table).where(_d.number == self.id).values(values))
        self.active = active

    def refusal(self) -> str | None:
        """Return why this process must not carry it out: its signature does not hold; None if it may."""
        return Signer().refusal(_signed(self._row), self._row.signature)

    def __repr__(self) -> str:
        state = "archived" if self.archived is not None else "active" if self.active else "without its schedule"
        return f"<Deployment: {self.path}, version {self.version}, {state}>"


def deployments(
    project: str | None = None,
    store: str | os.PathLike[str] | None = None,
    *,
    archived: bool = False,
) -> list[Deployment]:
    """Return the deployments of a project, or of all, by name.

    Parameters
    ----------
    project
        Default: all.
    store
        Path or database URL of the history; default: the one in the home folder.
    archived
        Whether to return former versions too.
    """
    opened = open_store(store)
    query = select(table).order_by(_d.project, _d.name, _d.version)
    if project is not None:
        query = query.where(_d.project == project)
    if not archived:
        query = query.where(_d.archived.is_(None))
    with opened.reading() as connection:
        return [Deployment(opened, row) for row in connection.execute(query)]


def find(path: str, store: str | os.PathLike[str] | None = None) -> Deployment:
    """Return the deployment ``project/name`` that is in use.

    Raises
    ------
    NotDeployed
        There is none; the error names those there are.
    """
    opened = open_store(store)
    project, slash, name = path.partition("/")
    if not slash:
        raise NotDeployed(f"a deployment must be named as project/name, got {path!r}")
    query = select(table).where(_d.project == project, _d.name == name, _d.archived.is_(None))
    with opened.reading() as connection:
        row = connection.execute(query).first()
    if row is None:
        known = ", ".join(sorted(found.path for found in deployments(store=store))) or "none"
        raise NotDeployed(f"nothing is deployed as {path!r} in {opened.location}; deployed are: {known}")
    return Deployment(opened, row)


def register(
    store: HistoryStore,
    project: str,
    name: str,
    flow_name: str,
    content: Content,
    labels: Iterable[str],
    options: DeploymentOptions,
    active: bool,
    signer: Signer,
) -> Deployment:
    """Write a deployment: as a new version if its content is new, else the version there is gets what else changed."""
    digest, now = content.digest(), time.time()
    facts = {
        **content.texts(),
        "flow_name": flow_name,
        "labels": json.dumps(sorted(labels)),
        "options": options.to_json(),
    }
    with store.writing() as connection:
        if connection.dialect.name != "sqlite":  # which has one writer at a time anyway: two would make one version
            connection.execute(select(func.pg_advisory_xact_lock(LOCK)))
        last = connection.execute(
            select(table).where(_d.project == project, _d.name == name).order_by(_d.version.desc()).with_for_update()
        ).first()
        if last is not None and last.digest == digest and last.archived is None:
            number = last.number
            signed = {"project": project, "name": name, "version": last.version, **facts}
            values: dict[str, Any] = {**facts, "active": int(active), "signature": signer.sign(signed)}
            if active and not last.active:
                values["planned"] = now
            connection.execute(update(table).where(_d.number == number).values(values))
        else:
            version = 1 if last is None else last.version + 1
            signed = {"project": project, "name": name, "version": version, **facts}
            values = {
                **signed, "digest": digest, "active": int(active), "created": now, "created_by": requester(),
                "planned": now, "signature": signer.sign(signed),
            }  # fmt: skip
            number = _add(store, connection, last, values)
        return Deployment(store, connection.execute(select(table).where(_d.number == number)).one())


def _add(store: HistoryStore, connection: Connection, last: Any, values: dict[str, Any]) -> int:
    """Write a version in the place of the last one, if there is one, and return its number."""
    goes_on = last is not None and _goes_on(last, values)
    if goes_on:
        values["planned"] = last.planned
    if last is not None and last.archived is None:
        archive_row(connection, last.number)
    key = connection.execute(insert(table).values(values)).inserted_primary_key
    assert key is not None
    if last is not None:
        made = connection.execute(select(table).where(_d.number == key[0])).one()
        queue.hand_on(connection, last.number, Deployment(store, made) if goes_on else None)
    return int(key[0])


def _goes_on(former: Any, values: Mapping[str, Any]) -> bool:
    """Whether a new version follows the schedules of the former one, of which no time is to be missed then."""
    return bool(former.archived is None and former.active and values["active"]) and (
        former.schedules == values["schedules"]
    )


def archive_row(connection: Connection, number: int) -> None:
    """Mark a version as former."""
    connection.execute(update(table).where(_d.number == number).values(archived=time.time(), active=0))


def due_time(at: datetime | timedelta | None) -> float:
    """Return a time in seconds; now by default. TypeError, ValueError if it is not an aware datetime."""
    if at is None:
        return time.time()
    if isinstance(at, timedelta):
        return time.time() + at.total_seconds()
    if not isinstance(at, datetime):
        raise TypeError(f"at must be an aware datetime or a timedelta from now, got {at!r}")
    if at.tzinfo is None:
        raise ValueError(f"at must have a time zone, got {at!r}; write at.astimezone() for the zone of this machine")
    return at.timestamp()


def check_name(what: str, name: Any) -> str:
    """Refuse what cannot be a part of ``project/name``."""
    if not isinstance(name, str) or not name.strip() or "/" in name or len(name) > 200 or not name.isprintable():
        raise FlowDefinitionError(f"{what} must be a text of 1 to 200 printable characters without '/', got {name!r}")
    if name in (".", ".."):
        raise FlowDefinitionError(f"{what} must be more than dots, which have a meaning in addresses, got {name!r}")
    return name


def _signed(row: Any) -> dict[str, Any]:
    names = ("project", "name", "version", "source", "environment", "parameters", "schedules", "flow_name", "labels")
    return {name: getattr(row, name) for name in (*names, "options")}
