"""The KV store and artifacts: values in the database of the history, in a table that is made when it is used.

In a run it is the history of the run, in whatever process its bodies are; elsewhere that of the home folder.
"""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

from sqlalchemy import Column, Connection, Float, MetaData, String, Table, Text, delete, insert, select

from prefectish.compat.run_history import KEY
from prefectish.engine.context import context, current, get_run_logger
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
    if not _delete(_VALUE, key):
        raise ValueError(f"No key {key!r} found to delete")
    return True


def list_keys() -> list[str]:
    """Return all keys, sorted."""
    with _store().writing() as connection:
        _table.create(connection, checkfirst=True)
        return sorted(connection.execute(select(_k.key).where(_k.kind == _VALUE)).scalars())


def create_link_artifact(link: str) -> str:
    """Keep a link of the task that runs, log it, and return the identifier of the artifact."""
    return keep_artifact(None, "link", {"link": link})


def create_markdown_artifact(markdown: str) -> str:
    """Keep a text of the task that runs, log it, and return the identifier of the artifact."""
    return keep_artifact(None, "markdown", {"markdown": markdown})


def update_link_artifact(task_run_artifact_id: str, link: str) -> None:
    """Put another link in the place of one."""
    keep_artifact(task_run_artifact_id, "link", {"link": link})


def update_markdown_artifact(task_run_artifact_id: str, markdown: str) -> None:
    """Put another text in the place of one."""
    keep_artifact(task_run_artifact_id, "markdown", {"markdown": markdown})


def delete_artifact(task_run_artifact_id: str) -> None:
    """Delete an artifact; ValueError if there is none."""
    if not _delete(_ARTIFACT, task_run_artifact_id):
        raise ValueError(f"No artifact {task_run_artifact_id!r} found to delete")


def read_artifact(task_run_artifact_id: str) -> dict[str, Any]:
    """Return what an artifact has: its kind, and the link or the text; ValueError if there is none."""
    found = _read(_ARTIFACT, task_run_artifact_id)
    if found is None:
        raise ValueError(f"No artifact {task_run_artifact_id!r} found")
    facts: dict[str, Any] = json.loads(found)
    return facts


def keep_artifact(known: str | None, kind: str | None, data: dict[str, Any]) -> str:
    """Keep an artifact, in the place of a known one, whose kind is that of before by default; return its identifier."""
    if known is not None:
        kind = kind or read_artifact(known)["kind"]
    key = known or str(uuid.uuid4())
    _write(_ARTIFACT, key, _json({"kind": kind, **data}))
    get_run_logger().info("artifact: %s", data.get(str(kind), data))
    return key


def _json(value: Any) -> str:
    try:
        return json.dumps(value)
    except TypeError as error:
        raise ValueError(f"value must be JSON, got {value!r}: {error}") from None


def _store() -> HistoryStore:
    """Return the history of the run in which this is called, else the one in the home folder."""
    of_run = current().get(KEY)
    return open_store(None if of_run is None else of_run.address)


def _write(kind: str, key: str, text: str) -> None:
    if not isinstance(key, str) or not 0 < len(key) <= 200:
        raise ValueError(f"key must be a string of 1 to 200 characters, got {key!r}")
    values = {"value": text, "run": context.get("task_run_id"), "changed": time.time()}
    with _store().writing() as connection:
        _table.create(connection, checkfirst=True)
        _forget(connection, kind, key)
        connection.execute(insert(_table).values(kind=kind, key=key, **values))


def _read(kind: str, key: str) -> str | None:
    with _store().writing() as connection:
        _table.create(connection, checkfirst=True)
        found: str | None = connection.execute(
            select(_k.value).where((_k.kind == kind) & (_k.key == key))
        ).scalar_one_or_none()
        return found


def _delete(kind: str, key: str) -> bool:
    with _store().writing() as connection:
        _table.create(connection, checkfirst=True)
        return _forget(connection, kind, key) > 0


def _forget(connection: Connection, kind: str, key: str) -> int:
    return int(connection.execute(delete(_table).where((_k.kind == kind) & (_k.key == key))).rowcount)
