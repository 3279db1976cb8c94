"""Events of a run as rows of the history; repeated texts are stored once and referenced by number."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

from sqlalchemy import Connection, Table, select
from sqlalchemy.dialects import postgresql, sqlite

from prefectish.engine.jobs.envelope import Encoded, EncodedError
from prefectish.engine.jobs.references import Held
from prefectish.engine.scheduling.causes import cause_of
from prefectish.engine.scheduling.events import AttemptEvent
from prefectish.engine.state import Paused, Scheduled, State, Success
from prefectish.engine.state_column import SUCCEEDED
from prefectish.engine.worker.stored_result import Stored
from prefectish.history import schema
from prefectish.history.cells import BadCell
from prefectish.kinds import is_a
from prefectish.secrets.masking import mask

#: The message of a plain success, which is not stored.
#: Location of a result that is None.
NO_RESULT = ""
#: Maximum length of the stored context of a pause, in characters of JSON.
MAX_CONTEXT_LENGTH = 10_000
#: Maximum number of texts whose numbers are cached.
MAX_CACHED_TEXTS = 10_000
#: Maximum length of a text whose number is cached; longer ones are hardly ever repeated.
LONGEST_CACHED_TEXT = 500
#: Maximum number of rows of a task that are noted as running.
MAX_OPEN = 100_000
_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
_SUCCESS = schema.CODES["Success"]


class EventRows:
    """Converts the events of one run to rows, in the order of the columns of their tables."""

    def __init__(self, run: int, part: int, steps: Mapping[int, int]) -> None:
        self.run = run  # number of the run
        self.part = part  # how often the run was resumed
        self._steps = steps  # number of each step in the history, by its number in the plan
        self._spaces: dict[int, int | None] = {}
        self._members: Counter[int | None] = Counter()
        self._keys: dict[tuple[int, int], tuple[str | None, int]] = {}
        self._texts: dict[str, int] = {}
        self._errors: dict[str, tuple[int, str]] = {}

    def add_step(self, number: int, space: int | None) -> None:
        """Note the map domain of a step, None for an unmapped one.

        Chained maps share a domain, and the item keys of its first step.
        """
        if number not in self._spaces:
            self._spaces[number] = space
            self._members[space] += 1

    def forget(self) -> None:
        """Forget numbers from a transaction that was not committed."""
        self._texts.clear()
        self._errors.clear()

    def child(self, connection: Connection, e: AttemptEvent) -> tuple[Any, ...]:
        """Return the row of a child that ended."""
        state = e.state
        key = self._key(e)
        worker = None if e.worker is None else self._text(connection, e.worker)
        made = self.part if e.generation is None else e.generation
        head = (self.run, self._steps[e.step], e.row, self.part, made)
        at, seconds = round(e.wall.timestamp(), 3), round(e.seconds, 6)
        if type(state) is Success and state._context is None and state.message == SUCCEEDED:
            location = _location(state)
            return (*head, _SUCCESS, e.attempt, seconds, at, worker, key, None, None, None, location, *_cost(e))
        return (
            *head,
            schema.CODES[type(state).__name__],
            e.attempt,
            seconds,
            at,
            worker,
            key,
            _name(state),
            *(self._error(connection, state) if state.is_failed() else (self._message(connection, state), None)),
            _location(state),
            *_cost(e),
        )

    def attempt(self, connection: Connection, e: AttemptEvent) -> tuple[Any, ...]:
        """Return the row of an attempt that did not end its child."""
        state = e.state
        due = state.start_time if isinstance(state, Scheduled) else None
        return (
            self.run,
            self._steps[e.step],
            e.row,
            self.part,
            e.attempt,
            schema.CODES[type(state).__name__],
            round(e.seconds, 6),
            round(e.wall.timestamp(), 3),
            None if e.worker is None else self._text(connection, e.worker),
            self._key(e),
            self._message(connection, state),
            self._error(connection, state)[1] if is_a(state._raw_result, (BaseException, EncodedError)) else None,
            None if due is None else due.timestamp(),
            _pause_context(state) if isinstance(state, Paused) else None,
        )

    def _key(self, e: AttemptEvent) -> str | None:
        """Return the item key of a child: its own, or that of its chain."""
        key = None if e.item_key is None else clean(e.item_key)
        space = self._spaces.get(e.step)
        if space is None or self._members[space] == 1:
            return key
        known, remaining = self._keys.pop((space, e.row), (None, self._members[space]))
        key = known if key is None else key
        remaining -= e.state.is_finished()
        if remaining:  # other steps of the chain will follow
            self._keys[space, e.row] = key, remaining
        return key

    def _message(self, connection: Connection, state: State) -> int | None:
        message = state.message
        if message is None or message == SUCCEEDED:
            return None
        return self._text(connection, str(message))

    def _text(self, connection: Connection, text: str) -> int:
        if len(text) > LONGEST_CACHED_TEXT:
            return text_number(connection, text)
        number = self._texts.get(text)
        if number is None:
            if len(self._texts) >= MAX_CACHED_TEXTS:
                self._texts.clear()
            number = self._texts[text] = text_number(connection, text)
        return number

    def _error(self, connection: Connection, state: State) -> tuple[int | None, int]:
        """Return the number of the message of a failure, None if it equals that of its cause, and of the cause."""
        cause = cause_of(state)
        # Of this part of this run: after an edit, or in another flow, the same words may have another traceback.
        fingerprint = text_digest(f"{self.run} {self.part} {cause.fingerprint}")
        known = self._errors.get(fingerprint)
        if known is None:
            traceback = None if cause.traceback is None else clean(cause.traceback)
            values = {"type": cause.type, "message": clean(cause.message), "traceback": traceback}
            number = _intern(connection, schema.errors, "fingerprint", fingerprint, values)
            first = select(schema.errors.c.message).where(schema.errors.c.number == number)
            if len(self._errors) >= MAX_CACHED_TEXTS:
                self._errors.clear()
            known = self._errors[fingerprint] = number, text_digest(connection.execute(first).scalar_one())
        number, digest = known
        own = clean(cause.message)
        return None if text_digest(own) == digest else self._text(connection, own), number


def _cost(e: AttemptEvent) -> tuple[float | None, int | None, int | None, int | None]:
    """Return time of the processor, growth of the peak memory, and bytes of result and inputs, as far as known."""
    cost = e.cost
    cpu, memory, taken = (None, None, None) if cost is None else (round(cost[0], 6), cost[1] or None, cost[2] or None)
    result = e.state._raw_result
    size = len(result) if type(result) is str or type(result) is bytes else None
    return cpu, memory, result.nbytes if is_a(result, (Encoded, Held)) else size, taken


def _name(state: State) -> str | None:
    """Return the name of the run of a child, from ``task_run_name``."""
    name = state._context.get("task_run_name") if state._context else None
    return None if name is None else clean(str(name))


def _location(state: State) -> str | None:
    """Return the location of a result; `NO_RESULT` if it is None, None if it was not stored."""
    result = state._raw_result
    if result is None:
        return NO_RESULT if state.is_successful() else None
    return result.location if is_a(result, Stored) else None


def _pause_context(state: State) -> str | None:
    """Return the context of a pause as JSON, as far as possible, for the approver."""
    shown = {name: value for name, value in state.context.items() if not name.startswith("task_") and _is_json(value)}
    text = json.dumps(shown)
    return clean(text) if shown and len(text) <= MAX_CONTEXT_LENGTH else None


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def clean(text: str) -> str:
    r"""Return a text that every database accepts: secrets are masked, NUL and lone surrogates escaped.

    Examples
    --------
    >>> print(clean("a" + chr(0) + chr(0xD800)))
    a\x00\ud800
    """
    text = mask(text)
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\\x00").encode(errors="backslashreplace").decode()


def text_number(connection: Connection, text: str) -> int:
    """Return the number of a text, storing it if it is new."""
    return _intern(connection, schema.texts, "digest", text_digest(text), {"text": clean(text)})


def text_digest(text: str) -> str:
    """Return the digest by which a text is found."""
    return blake2b(text.encode(errors="replace"), digest_size=16).hexdigest()


def _intern(connection: Connection, table: Table, key: str, value: str, others: Mapping[str, Any]) -> int:
    """Return the number of a text, inserting it if it is new; safe if two clients insert the same text."""
    found = select(table.c.number).where(table.c[key] == value)
    number = connection.execute(found).scalar()
    if number is None:
        statement = _dialect(connection).insert(table).values({key: value, **others}).on_conflict_do_nothing()
        connection.execute(statement)
        number = connection.execute(found).scalar_one()
    return int(number)


def upsert(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows, in the order of the table's columns, replacing those with the same key."""
    if not rows:
        return
    names = [column.name for column in table.columns]
    statement = _dialect(connection).insert(table)
    others = {name: statement.excluded[name] for name in names if not table.c[name].primary_key}
    statement = statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=others)
    if connection.dialect.name != "sqlite":
        connection.execute(statement, [dict(zip(names, row, strict=True)) for row in rows])
        return
    # SQLAlchemy spends as much time on the parameters of a row as SQLite on the row, so rows are passed to the driver.
    compiled = statement.compile(dialect=connection.dialect, column_keys=names)
    assert list(compiled.positiontup or ()) == names
    connection.exec_driver_sql(str(compiled), list(rows))


def _dialect(connection: Connection) -> Any:
    return sqlite if connection.dialect.name == "sqlite" else postgresql


def ranges(rows: Sequence[int]) -> str:
    """Return row numbers as compact ranges.

    Examples
    --------
    >>> ranges([3, 0, 1, 2, 9])
    '0-3,9'
    """
    parts: list[list[int]] = []
    for row in sorted(rows)[:MAX_OPEN]:
        if parts and parts[-1][1] == row - 1:
            parts[-1][1] = row
        else:
            parts.append([row, row])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def rows_of(text: str) -> list[int]:
    """Return the row numbers that :func:`ranges` wrote; BadCell if it cannot have written them."""
    rows: list[int] = []
    for part in filter(None, text.split(",")):
        found = _RANGE.fullmatch(part)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, -1)
        if not 0 <= last - first < MAX_OPEN - len(rows):
            raise BadCell(f"open must be at most {MAX_OPEN:,} rows, as 0-7,12, got {text[:60]!r}")
        rows.extend(range(first, last + 1))
    return rows
