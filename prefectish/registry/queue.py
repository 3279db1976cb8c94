"""Runs that were asked for, and wait for their time and an agent; each is taken by one agent, whatever dies meanwhile.

A run that is taken gets a *claim*, a secret that only its driver knows. An agent that finds a driver dead gives the
run a new claim, and with it the old driver, should it still live, has lost the run.
"""

from __future__ import annotations

import json
import math
import secrets
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Connection, func, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from prefectish.engine.driver.run import new_run_id
from prefectish.errors import NotDeployed, ParameterError, RunNotActive
from prefectish.history import child_runs, schema
from prefectish.history.registry_tables import CLAIMED, DRIVEN, ENDED, WAITING, agents, requested
from prefectish.history.registry_tables import deployments as deployed
from prefectish.history.run_requests import requester
from prefectish.history.signing import Signer
from prefectish.history.store import HistoryStore
from prefectish.validation import closest, misfits

_q, _d = requested.c, deployed.c
#: Waiting runs that an agent looks at in one transaction.
PAGE = 50
OPEN = (CLAIMED, DRIVEN)
#: `begun_by` of runs that had ended and are continued: what failed stands, or runs again.
RESUME, RETRY = "resume", "retry"
#: What is signed of a request.
SIGNED = ("run", "deployment", "parameters", "begun_by", "due", "parent", "asked_by")
#: Stands among the parameters of a flow function for ``**kwargs``.
ANY_NAME = "**"


class Deployed(Protocol):
    """What a run is asked of: a version of a deployment."""

    id: int
    version: int
    source: dict[str, Any]

    @property
    def path(self) -> str:
        """Return ``project/name``."""


class Overlap(Enum):
    """What becomes of a scheduled run whose time has come."""

    BEGIN = "begin"
    SKIP = "skip"
    WAIT = "wait"
    CANCEL_OTHERS = "cancel others"
    LEAVE_TO_NEWER = "leave to newer"


class Claimed(NamedTuple):
    """A run that this process has taken."""

    run: str
    deployment: Any  # its row
    parameters: Mapping[str, Any]
    begun_by: str
    due: float
    parent: str | None
    resumes: int
    claim: str


class OpenRun(NamedTuple):
    """A run that an agent has taken, as others see it."""

    run: str
    state: str
    claim: str
    holder: str | None  # the process of its driver, or of its agent before there is one
    beat: int
    resumes: int
    deployment: Any  # its row


def overlap_of(
    policy: str, begun_by: str, due: float, begun: Collection[float] = (), newest: float = -math.inf
) -> Overlap:
    """Decide what becomes of a run whose time has come, while others of its deployment are open.

    A run overlaps with one that was there when its time came. Times that were missed, or are the same, do not overlap:
    they follow one another. Only the newest is left of those that would cancel one another.

    Parameters
    ----------
    due
        When its time came.
    begun
        When the open runs were asked for, or due if that was later.
    newest
        The last time of the schedule that has come.

    Examples
    --------
    >>> overlap_of("skip", "schedule", 9.0, begun=[8.0]), overlap_of("skip", "manual", 9.0, begun=[8.0])
    (<Overlap.SKIP: 'skip'>, <Overlap.BEGIN: 'begin'>)
    >>> overlap_of("skip", "schedule", 9.0, begun=[12.0])  # both were missed
    <Overlap.WAIT: 'wait'>
    >>> overlap_of("cancel", "schedule", 9.0, newest=10.0), overlap_of("cancel", "schedule", 10.0, begun=[8.0])
    (<Overlap.LEAVE_TO_NEWER: 'leave to newer'>, <Overlap.CANCEL_OTHERS: 'cancel others'>)
    """
    if begun_by != "schedule" or policy == "allow":
        return Overlap.BEGIN
    if policy == "cancel" and newest > due:
        return Overlap.LEAVE_TO_NEWER
    if not begun:
        return Overlap.BEGIN
    if policy == "queue" or due <= min(begun):
        return Overlap.WAIT
    return Overlap.SKIP if policy == "skip" else Overlap.CANCEL_OTHERS


def ask_for(
    connection: Connection,
    deployment: Deployed,
    parameters: Mapping[str, Any],
    *,
    begun_by: str,
    due: float,
    event: str | None = None,
    parent: str | None = None,
) -> str:
    """Ask for a run, and return its identifier; of one `event` there is one run, however often it is asked for.

    Raises
    ------
    NotDeployed
        The deployment was archived.
    ParameterError
        The flow does not take a parameter, or not a value of this type, or one that it needs is missing.
    ValueError
        The parameters are not JSON.
    """
    takes = deployment.source["takes"]
    needs = deployment.source.get("needs", ())
    if unknown := unknown_names(parameters, takes):
        meant = [f"did you mean {near!r}, not {name!r}?" for name in unknown if (near := closest(name, takes))]
        listed = f"unknown: {', '.join(unknown)}; {deployment.path} takes {', '.join(takes) or 'none'}"
        raise ParameterError("; ".join([listed, *meant]))
    if missing := sorted(set(needs) - parameters.keys()):
        raise ParameterError(f"missing: {', '.join(missing)}; {deployment.path} has no values of them")
    if faults := "; ".join(mistyped(parameters, deployment.source.get("types", {}), needs)):
        raise ParameterError(f"{faults} (of {deployment.path})")
    if connection.execute(select(_d.archived).where(_d.number == deployment.id)).scalar() is not None:
        raise NotDeployed(f"version {deployment.version} of {deployment.path} is archived; run the one in its place")
    facts = {
        "run": new_run_id(),
        "deployment": deployment.id,
        "parameters": as_json(parameters),
        "begun_by": begun_by,
        "due": due,
        "parent": parent,
        "asked_by": requester(),
    }
    values = {**facts, "event": event, "asked": time.time(), "state": WAITING, "signature": Signer().sign(facts)}
    values |= {"beat": 0, "resumes": 0}
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    done = connection.execute(dialect.insert(requested).values(values).on_conflict_do_nothing())
    if done.rowcount:
        return str(facts["run"])
    known = select(_q.run).where(_q.deployment == deployment.id, _q.event == event)
    return str(connection.execute(known).scalar_one())


def unknown_names(names: Iterable[str], takes: Collection[str]) -> list[str]:
    """Return the names that are not parameters of a flow; one that has `ANY_NAME` takes all.

    Examples
    --------
    >>> unknown_names(["day", "dya"], ["day"]), unknown_names(["dya"], ["day", ANY_NAME])
    (['dya'], [])
    """
    return [] if ANY_NAME in takes else sorted(set(names) - set(takes))


def mistyped(
    parameters: Mapping[str, Any], types: Mapping[str, Mapping[str, Any]], needs: Collection[str]
) -> list[str]:
    """Return what is wrong with the values of parameters of a deployed flow, by the types its environment reported.

    Examples
    --------
    >>> mistyped({"n": None, "region": "eu"}, {"n": {"type": "integer"}, "region": {"type": "string"}}, [])
    []
    """
    # None is the default of one without another, and passes unchecked
    given = {n: v for n, v in parameters.items() if v is not None or n in needs or "default" in types.get(n, {})}
    return [str(error) for error in misfits(given, types)]


def as_json(parameters: Mapping[str, Any]) -> str:
    """Return parameters as JSON; ValueError names what is none."""
    for name, value in parameters.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"parameter {name!r} must be JSON, got {value!r}: {error}") from None
    return json.dumps(dict(parameters), sort_keys=True)


def take(store: HistoryStore, agent: str, labels: Collection[str], now: float) -> Claimed | None:
    """Take a run whose time has come, for an agent with these labels; None if there is none.

    Of what cannot begin because another run is open, what is to be left out ends here.
    """
    with store.writing() as connection:
        seen: tuple[float, int] | None = None
        while rows := _page(connection, now, seen):
            for row in rows:
                if set(json.loads(row.labels)) <= set(labels) and _may_begin(connection, row, now):
                    return _taken(connection, row, agent)
            seen = rows[-1].due, rows[-1].number
    return None


def _page(connection: Connection, now: float, after: tuple[float, int] | None) -> Sequence[Any]:
    """Return the next runs whose time has come: those that only other agents may take must not hide the rest."""
    query = (
        select(requested, _d.labels, _d.options)
        .join(deployed, _d.number == _q.deployment)
        .where(_q.state == WAITING, _q.due <= now, func.coalesce(_q.not_before, 0.0) <= now)
        .order_by(_q.due, _q.number)
        .limit(PAGE)
        .with_for_update(of=requested, skip_locked=True)
    )
    if after is not None:
        query = query.where(tuple_(_q.due, _q.number) > tuple_(*after))
    return connection.execute(query).all()


def _may_begin(connection: Connection, row: Any, now: float) -> bool:
    policy = json.loads(row.options)["overlap"]
    if policy == "allow" or row.begun_by != "schedule" or row.resumes:  # one that was begun has its place
        return True
    # Two agents that take two runs of one deployment look one after the other; who finds it locked looks again in its
    # next turn, because it holds other rows, for which the other one may wait.
    lock = select(_d.number).where(_d.number == row.deployment).with_for_update(skip_locked=True)
    if connection.execute(lock).first() is None:
        return False
    path = select(_d.project, _d.name).where(_d.number == row.deployment).subquery()
    same = _q.deployment.in_(select(_d.number).join(path, (path.c.project == _d.project) & (path.c.name == _d.name)))
    is_open = _q.state.in_(OPEN) | ((_q.state == WAITING) & (_q.resumes > 0))
    others = connection.execute(select(_q.run, _q.asked, _q.due).where(same, is_open)).all()
    waits = (_q.state == WAITING) & (_q.resumes == 0) & (_q.begun_by == "schedule") & (_q.due <= now)
    newest = connection.execute(select(_q.run, _q.due).where(same, waits).order_by(_q.due.desc()).limit(1)).one()
    begun = [max(other.asked, other.due) for other in others]
    match overlap_of(policy, row.begun_by, row.due, begun, newest.due):
        case Overlap.BEGIN:
            return True
        case Overlap.SKIP:
            _close(connection, row.number, f"left out: run {others[0].run} is not over (overlap='skip')", None)
        case Overlap.LEAVE_TO_NEWER:
            _close(connection, row.number, f"left out: run {newest.run} takes its place (overlap='cancel')", None)
        case Overlap.CANCEL_OTHERS:
            for other in others:
                child_runs.cancel_run(connection, other.run)
    return False


def _taken(connection: Connection, row: Any, agent: str) -> Claimed:
    claim = secrets.token_hex(16)
    values = {"state": CLAIMED, "agent": agent, "claim": claim, "driver": None, "beat": 0}
    connection.execute(update(requested).where(_q.number == row.number).values(values))
    deployment = connection.execute(select(deployed).where(_d.number == row.deployment)).one()
    facts = (json.loads(row.parameters), row.begun_by, row.due, row.parent, row.resumes)
    return Claimed(row.run, deployment, *facts, claim)


def confirm(store: HistoryStore, run: str, claim: str, driver: str) -> Any:
    """Note that a driver begins; return the row of the run, or None if it has not, or no longer, the claim to it."""
    with store.writing() as connection:
        mine = (_q.run == run) & (_q.claim == claim) & (_q.state == CLAIMED)
        done = connection.execute(update(requested).where(mine).values(state=DRIVEN, driver=driver, beat=_q.beat + 1))
        return connection.execute(select(requested).where(_q.run == run)).one() if done.rowcount else None


def beat(store: HistoryStore, run: str, claim: str) -> bool:
    """Show that a driver is alive; return whether it still has its claim."""
    with store.writing() as connection:
        mine = (_q.run == run) & (_q.claim == claim)
        return bool(connection.execute(update(requested).where(mine).values(beat=_q.beat + 1)).rowcount)


def end(
    store: HistoryStore, run: str, claim: str, message: str, exit_code: int | None, output: str | None = None
) -> bool:
    """Note that a run is over; return whether the claim was the one that holds."""
    with store.writing() as connection:
        mine = (_q.run == run) & (_q.claim == claim) & (_q.state != ENDED)
        values = {"state": ENDED, "message": message, "exit_code": exit_code}
        if output is not None:
            values["output"] = output
        return bool(connection.execute(update(requested).where(mine).values(values)).rowcount)


def add_output(store: HistoryStore, run: str, output: str) -> None:
    """Keep what a driver printed."""
    with store.writing() as connection:
        connection.execute(update(requested).where(_q.run == run).values(output=output))


def open_runs(store: HistoryStore) -> list[OpenRun]:
    """Return the runs that were taken and are not over."""
    holder = func.coalesce(_q.driver, agents.c.process).label("holder")
    query = select(requested, holder).outerjoin(agents, agents.c.id == _q.agent).where(_q.state.in_(OPEN))
    with store.reading() as connection:
        rows = connection.execute(query).all()
        numbers = {row.deployment for row in rows}
        found = {r.number: r for r in connection.execute(select(deployed).where(_d.number.in_(numbers))).all()}
    return [OpenRun(r.run, r.state, r.claim, r.holder, r.beat, r.resumes, found[r.deployment]) for r in rows]


def give_back(store: HistoryStore, lost: OpenRun, why: str, began: bool) -> bool:
    """Let another driver continue a run whose driver is dead; return whether nothing has moved since it was seen.

    Parameters
    ----------
    began
        Whether a driver was lost, which is counted; not an agent that had not started one.
    """
    with store.writing() as connection:
        same = (_q.run == lost.run) & (_q.claim == lost.claim) & (_q.beat == lost.beat) & _q.state.in_(OPEN)
        values = {"state": WAITING, "claim": None, "driver": None, "message": why, "resumes": lost.resumes + began}
        return bool(connection.execute(update(requested).where(same).values(values)).rowcount)


def hand_on_run(store: HistoryStore, run: str, claim: str, why: str) -> bool:
    """Let another driver continue a run whose own was terminated; return whether the claim was the one that holds."""
    with store.writing() as connection:
        mine = (_q.run == run) & (_q.claim == claim) & (_q.state == DRIVEN)
        values = {"state": WAITING, "claim": None, "driver": None, "message": why, "resumes": _q.resumes + 1}
        return bool(connection.execute(update(requested).where(mine).values(values)).rowcount)


def put_off(store: HistoryStore, found: OpenRun, until: float) -> None:
    """Let a driver try again later: the run is in other hands still. When it was due stays, which is signed."""
    with store.writing() as connection:
        same = (_q.run == found.run) & (_q.claim == found.claim) & _q.state.in_(OPEN)
        values = {"state": WAITING, "claim": None, "driver": None, "not_before": until}
        connection.execute(update(requested).where(same).values(values))


def take_lost(store: HistoryStore, lost: OpenRun, agent: str) -> str | None:
    """Take over a run whose driver is dead, to end it; return the new claim, None if it has moved since."""
    claim = secrets.token_hex(16)
    with store.writing() as connection:
        same = (_q.run == lost.run) & (_q.claim == lost.claim) & (_q.beat == lost.beat) & _q.state.in_(OPEN)
        values = {"claim": claim, "agent": agent, "state": CLAIMED, "driver": None, "resumes": lost.resumes + 1}
        return claim if connection.execute(update(requested).where(same).values(values)).rowcount else None


def call_off(connection: Connection, deployment: int, why: str) -> None:
    """End what waits of a deployment, and was not begun."""
    waits = (_q.deployment == deployment) & (_q.state == WAITING) & (_q.resumes == 0)
    connection.execute(update(requested).where(waits).values(state=ENDED, message=f"called off: {why}"))


def cancel_waiting(store: HistoryStore, run: str) -> bool:
    """End a run that no driver drives; return whether it did. A driver that is about to begin it finds no claim."""
    with store.writing() as connection:
        return child_runs.cancel_waiting(connection, run)


def hand_on(connection: Connection, former: int, successor: Deployed | None) -> None:
    """Call off what schedules of a former version have planned; what was asked for by hand stays as it was asked.

    Parameters
    ----------
    successor
        The version that follows the same schedules, which gets what was called off; None if it has others.
    """
    waits = (_q.deployment == former) & (_q.state == WAITING) & (_q.begun_by == "schedule") & (_q.resumes == 0)
    planned = connection.execute(select(requested).where(waits).order_by(_q.due)).all()
    values = {"state": ENDED, "message": "called off: a new version was deployed"}
    connection.execute(update(requested).where(waits).values(values))
    for row in planned if successor is not None else ():
        assert successor is not None
        ask_for(
            connection, successor, json.loads(row.parameters), begun_by="schedule", due=row.due, event=row.event
        )  # fmt: skip


def why_not_again(row: Any) -> str | None:
    """Return why no agent can continue a run that has ended, by its row here, None for none; None if one can."""
    if row is None:
        return "it was not asked of an agent"
    return None if row.state == ENDED else "an agent has it already"


def ask_again(store: HistoryStore, run: str, retry_failed: bool, who: str) -> None:
    """Ask for a run that has ended to be continued from its record, by an agent.

    Parameters
    ----------
    retry_failed
        Whether what failed runs again.
    who
        Who asks.

    Raises
    ------
    RunNotActive
        No agent can, and why.
    """
    with store.writing() as connection:
        row = connection.execute(select(requested).where(_q.run == run).with_for_update()).first()
        if (reason := why_not_again(row)) is not None:
            raise RunNotActive(f"run {run} cannot be continued by an agent: {reason}")
        assert row is not None
        facts = {name: getattr(row, name) for name in SIGNED}
        facts |= {"begun_by": RETRY if retry_failed else RESUME, "asked_by": who}
        values = {**facts, "signature": Signer().sign(facts), "asked": time.time(), "state": WAITING, "resumes": 1}
        values |= {"claim": None, "driver": None, "not_before": None, "message": None, "exit_code": None}
        connection.execute(update(requested).where(_q.number == row.number).values(values))


def row_of(store: HistoryStore, run: str) -> Any:
    """Return the row of a run that was asked for; None if there is none."""
    with store.reading() as connection:
        return connection.execute(select(requested).where(_q.run == run)).first()


def ids_that_begin_with(store: HistoryStore, text: str) -> list[str]:
    """Return the identifiers of runs, recorded or asked for, that begin with a text; two at most of each."""
    with store.reading() as connection:
        found: list[str] = []
        for column in (schema.runs.c.id, _q.run):
            query = select(column).where(column.startswith(text, autoescape=True)).limit(2)
            found.extend(connection.execute(query).scalars())
    return found


def waiting(store: HistoryStore) -> int:
    """Return how many runs wait for their time or an agent."""
    with store.reading() as connection:
        query = select(func.count()).select_from(requested).where(_q.state == WAITING)
        return int(connection.execute(query).scalar_one())


def refusal(row: Any) -> str | None:
    """Return why a request must not be carried out by this process; None if it may.

    Schedules do not make an exception: who writes rows could say of each that a schedule began it.
    """
    return Signer().refusal({name: getattr(row, name) for name in SIGNED}, row.signature)


def _close(connection: Connection, number: int, message: str, exit_code: int | None) -> None:
    values = {"state": ENDED, "message": message, "exit_code": exit_code}
    connection.execute(update(requested).where(_q.number == number).values(values))
