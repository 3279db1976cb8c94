"""The KV store and artifacts: values in the database of the history, in a table that is made when it is used.

It is the history in the home folder; in a run with another one both, because all processes of the run reach that one,
and some of them perhaps not the home folder. Both are written, and of two values the one that changed last is read.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from typing import Any

from sqlalchemy import Column, ColumnElement, Float, MetaData, String, Table, Text, delete, insert, select

from prefectish.compat.run_history import KEY, RunHistory, home_history
from prefectish.engine.context import context, current, get_run_logger
from prefectish.errors import HistoryUnsafe, HistoryWriteError
from prefectish.history.store import HistoryStore, open_store

_table = Table(
    "kept_values",
    MetaData(),
    Column("kind", String(20), primary_key=True),
    Column("key", String(200), primary_key=True),
    Column("value", Text, nullable=False),
    Column("run", Text),
    Column("changed", Float, nullable=False),
)
_k = _table.c
_VALUE, _ARTIFACT = "value", "artifact"
#: In the place of the JSON of a value that was deleted, so that an older one elsewhere does not come up again.
_DELETED = ""
#: Length of the JSON of a value, at most, as there.
MAX_SIZE = 1_000_000


def set_key_value(key: str, value: Any) -> str:
    """Keep a value, as JSON, under a key, in the place of a former one; return the key.

    Raises
    ------
    ValueError
        The value is not JSON serializable, or is larger than 1 MB.
    """
    text = _json(value)
    if len(text) > MAX_SIZE:
        raise ValueError(f"Value payload exceeds 1 MB: key {key!r} has {len(text)} characters of JSON")
    _write(_VALUE, key, text)
    return key


def get_key_value(key: str) -> Any:
    """Return the value under a key; ValueError if there is none."""
    found = _read(_VALUE, key)
    if found is None:
        raise ValueError(f"No value found for key: {key!r}")
    return json.loads(found)


def delete_key(key: str) -> bool:
    """Delete a key; ValueError if there is none."""
    if _read(_VALUE, key) is None:
        raise ValueError(f"No key {key!r} found to delete")
    _write(_VALUE, key, _DELETED)
    return True


def list_keys() -> list[str]:
    """Return all keys, sorted."""
    return sorted(_known(_k.kind == _VALUE))


def create_link_artifact(link: str) -> str:
    """Keep a link of the task that runs, log it, and return the identifier of the artifact."""
    return keep_artifact(None, "link", {"link": link})


def create_markdown_artifact(markdown: str) -> str:
    """Keep a text of the task that runs, log it, and return the identifier of the artifact."""
    return keep_artifact(None, "markdown", {"markdown": markdown})


def update_link_artifact(task_run_artifact_id: str, link: str) -> None:
    """Put another link in the place of one; ValueError if there is none."""
    keep_artifact(task_run_artifact_id, "link", {"link": link})


def update_markdown_artifact(task_run_artifact_id: str, markdown: str) -> None:
    """Put another text in the place of one; ValueError if there is none."""
    keep_artifact(task_run_artifact_id, "markdown", {"markdown": markdown})


def delete_artifact(task_run_artifact_id: str) -> None:
    """Delete an artifact; ValueError if there is none."""
    if _read(_ARTIFACT, task_run_artifact_id) is None:
        raise ValueError(f"No artifact {task_run_artifact_id!r} found to delete")
    _write(_ARTIFACT, task_run_artifact_id, _DELETED)


def read_artifact(task_run_artifact_id: str) -> dict[str, Any]:
    """Return what an artifact has: its kind, and the link or the text; ValueError if there is none."""
    found = _read(_ARTIFACT, task_run_artifact_id)
    if found is None:
        raise ValueError(f"No artifact {task_run_artifact_id!r} found")
    facts: dict[str, Any] = json.loads(found)
    return facts


def keep_artifact(known: str | None, kind: str | None, data: dict[str, Any]) -> str:
    """Keep an artifact, in the place of a known one, whose kind is that of before by default; return its identifier.

    Raises
    ------
    ValueError
        There is no artifact with the known identifier.
    """
    if known is not None:
        former = read_artifact(known)
        kind = kind or former["kind"]
    key = known or str(uuid.uuid4())
    _write(_ARTIFACT, key, _json({"kind": kind, **data}))
    get_run_logger().info("artifact: %s", data.get(str(kind), data))
    return key


def _json(value: Any) -> str:
    try:
        return json.dumps(value)
    except TypeError as error:
        raise ValueError(f"value must be JSON, got {value!r}: {error}") from None


def _stores() -> list[HistoryStore]:
    """Return the history of the run in which this is called, if it has one of its own, and that of the home folder.

    The home folder is that of the process that began the run, if it can be reached from here.
    """
    of_run: RunHistory | None = current().get(KEY)
    if of_run is None:
        return [open_store(None)]
    first = open_store(of_run.address)
    if of_run.home != home_history() and not os.path.exists(of_run.home):
        return [first]  # this is another machine
    try:
        home = open_store(of_run.home)
    except (HistoryUnsafe, HistoryWriteError) as error:
        get_run_logger().warning("values are kept in the history of the run only: %s", error)
        return [first]
    return [first] if home is first else [first, home]


def _write(kind: str, key: str, text: str) -> None:
    if not isinstance(key, str) or not 0 < len(key) <= 200:
        raise ValueError(f"key must be a string of 1 to 200 characters, got {key!r}")
    row = {"kind": kind, "key": key, "value": text, "run": context.get("task_run_id"), "changed": time.time()}
    for store in _stores():
        with store.writing() as connection:
            _table.create(connection, checkfirst=True)
            connection.execute(delete(_table).where((_k.kind == kind) & (_k.key == key)))
            connection.execute(insert(_table).values(row))


def _read(kind: str, key: str) -> str | None:
    return _known((_k.kind == kind) & (_k.key == key)).get(key)


def _known(which: ColumnElement[bool]) -> dict[str, str]:
    """Return the texts of one kind by their keys, of each the one that has changed last."""
    rows: list[tuple[float, str, str]] = []
    for store in reversed(_stores()):  # of two that changed at the same time the one of the run stays
        with store.writing() as connection:
            _table.create(connection, checkfirst=True)
            rows += [tuple(row) for row in connection.execute(select(_k.changed, _k.key, _k.value).where(which))]
    rows.sort(key=lambda row: row[0])
    return {key: text for key, text in {key: text for _, key, text in rows}.items() if text != _DELETED}
