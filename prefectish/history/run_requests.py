"""What is asked of a run by its history, from any process that reaches it: asked here, answered by its driver."""

from __future__ import annotations

import getpass
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, insert, select, update

from prefectish.engine.capture import Error
from prefectish.engine.driver.control import Reply
from prefectish.errors import RunNotActive, describe, text_of
from prefectish.history import schema
from prefectish.history.signing import Signer
from prefectish.history.store import HistoryStore
from prefectish.process_tree import process_name

_a, _r = schema.asks.c, schema.runs.c
#: Seconds between two looks for an answer.
POLL_INTERVAL = 0.1


class PostedRequest(NamedTuple):
    """A request that was left for a run, and what became of it."""

    number: int
    verb: str
    arguments: Mapping[str, Any]
    asked_by: str
    asked: float
    answered: float | None
    answer: Any
    error: str | None

    @classmethod
    def of(cls, row: Any) -> PostedRequest:
        """Create from a row of the database."""
        answer = None if row.answer is None else json.loads(row.answer)
        facts = (row.asked_by, row.asked, row.answered, answer, row.error)
        return cls(row.number, row.verb, json.loads(row.arguments), *facts)


def requester() -> str:
    """Return who asks: ``user@host:pid``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in containers
        user = "unknown"
    return f"{user}@{process_name()}"


def post(
    connection: Connection, run: int, verb: str, arguments: Mapping[str, Any], signer: Signer, by: str | None = None
) -> int:
    """Leave a request for a run, by its number in the history; return the number of the request.

    Parameters
    ----------
    by
        Who asks; default: this process.
    """
    text = json.dumps(arguments, sort_keys=True)
    facts = {"run": run, "verb": verb, "arguments": text, "asked_by": by or requester(), "asked": time.time()}
    signature = signer.sign(facts)
    key = connection.execute(insert(schema.asks).values(signature=signature, **facts)).inserted_primary_key
    assert key is not None
    return int(key[0])


def answer_to(store: HistoryStore, number: int, has_ended: Callable[[], bool]) -> Any:
    """Wait for what a driver answers.

    Raises
    ------
    RuntimeError
        The request was refused; the message says why.
    RunNotActive
        The run has ended, or its driver was lost, before it was answered.
    """
    while True:
        over = has_ended()  # asked first: what ends a run is answered before its end is recorded
        with store.reading() as connection:
            row = connection.execute(select(schema.asks).where(_a.number == number)).one()
        if row.answered is not None:
            if row.error is not None:
                raise RuntimeError(row.error)
            return None if row.answer is None else json.loads(row.answer)
        if over:
            raise RunNotActive(f"{row.verb} was not carried out: the run has ended, or its driver is lost")
        time.sleep(POLL_INTERVAL)


def last_request(connection: Connection, run: int) -> int:
    """Return the number of the last request that was left for a run, 0 if there is none; refuse those left open.

    They were meant for a driver that is gone: those who asked get an error, and may ask again.
    """
    left = (_a.run == run) & _a.answered.is_(None)
    error = "it was not carried out: the driver of the run died before; ask again"
    connection.execute(update(schema.asks).where(left).values(answered=time.time(), error=error))
    return connection.execute(select(func.max(_a.number)).where(_a.run == run)).scalar() or 0


def requests_of(store: HistoryStore, run: int) -> list[PostedRequest]:
    """Return all that was asked of a run, in order."""
    with store.reading() as connection:
        rows = connection.execute(select(schema.asks).where(_a.run == run).order_by(_a.number)).all()
    return [PostedRequest.of(row) for row in rows]


class Answering:
    """Takes the requests of a run from its history, and writes their answers; called by the thread that records it.

    Parameters
    ----------
    run
        Number of the run.
    ask
        Leaves a request for the loop of the run.
    taken
        Number of the last request that was asked of the driver before this one.
    """

    def __init__(self, run: int, ask: Callable[[str, Mapping[str, Any]], Reply], taken: int) -> None:
        self._run = run
        self._ask = ask
        self._taken = taken
        self._open: dict[int, Reply] = {}
        self._signer = Signer()

    def look(self, store: HistoryStore) -> None:
        """Take what was asked since the last look, and write what has been answered."""
        with store.reading() as connection:
            query = select(schema.asks).where(_a.run == self._run, _a.number > self._taken, _a.answered.is_(None))
            rows = connection.execute(query.order_by(_a.number)).all()
        for row in rows:
            self._taken = row.number
            self._open[row.number] = self._reply_to(row)
        known = {number: reply for number, reply in self._open.items() if reply.known.is_set()}
        if known:
            with store.writing() as connection:
                for number, reply in known.items():
                    _write(connection, number, reply)
            for number in known:
                del self._open[number]

    def _reply_to(self, row: Any) -> Reply:
        facts = {name: getattr(row, name) for name in ("run", "verb", "arguments", "asked_by", "asked")}
        refusal = self._signer.refusal(facts, row.signature)
        if refusal is None:
            return self._ask(row.verb, json.loads(row.arguments))
        reply = Reply()
        reply.answer = Error(RuntimeError(f"{row.verb} was not carried out: {refusal}"))
        reply.known.set()
        return reply


def _write(connection: Connection, number: int, reply: Reply) -> None:
    answer = reply.answer
    values: dict[str, Any] = {"answered": time.time()}
    if isinstance(answer, Error):
        values["error"] = text_of(answer.exception) or describe(answer.exception)
    elif answer is not None and answer.value is not None:
        values["answer"] = json.dumps(answer.value)
    connection.execute(update(schema.asks).where(_a.number == number).values(values))
