"""Where the arguments of an item came from, and what they were, where a store has them as text."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import select

from prefectish import config
from prefectish.engine.capture import Error, capture
from prefectish.errors import describe
from prefectish.history import schema
from prefectish.history.children import ChildRow
from prefectish.history.outline import arrows
from prefectish.history.queries import RunRow
from prefectish.results.descriptions import opened
from prefectish.secrets.masking import mask
from prefectish.ui.queries.tasks import item_ref
from prefectish.ui.records import StoredInput
from prefectish.ui.source import Source

_s = schema.steps.c
#: Bytes of a stored value that is read, and characters of it that are shown.
MAX_BYTES, MAX_SHOWN = 1_000_000, 2000


def inputs_of(source: Source, run: RunRow, task: Any, row: int) -> list[StoredInput]:
    """Return the arguments of an item that other tasks gave."""
    query = select(_s.step, _s.slug, _s.mapped, _s.store).where(_s.run == run._number)
    with source.store.reading() as connection:
        steps = {step.slug: step for step in connection.execute(query)}
    found = []
    for arrow in arrows(run):
        step = steps.get(arrow.start)
        if arrow.end == task.slug and step is not None and arrow.key is not None:
            found.append(_input(source, run, arrow.key, step, row, bool(arrow.mapped)))
    return found


def _input(source: Source, run: RunRow, argument: str, step: Any, row: int, mapped: bool) -> StoredInput:
    """Return an argument: an item of a map, all of a map, or a single task, of whose result it may be one element."""
    if step.mapped and not mapped:
        return StoredInput(argument=argument, item=None, location=None, text=f"all of {run.label_of(step.slug)}")
    own = row if step.mapped else 0
    child = child_of(source, run, step.step, own)
    item = item_ref(run, step.step, step.slug, own, bool(step.mapped), None, None)
    location = None if child is None else child.location
    if child is None or location is None:
        return StoredInput(argument=argument, item=item, location=None, text=None)
    text = value_of(step.store, location, child.bytes_out, row if mapped and not step.mapped else None)
    return StoredInput(argument=argument, item=item, location=location, text=text)


def value_of(store: str | None, location: str, size: int | None, element: int | None) -> str | None:
    """Return a stored value as text, or one element of it; None if it is not JSON: to load a pickle is to run code."""
    facts = {} if store is None else json.loads(store)
    if store is None or facts.get("serializer") != "json" or "folder" not in facts:
        return None
    if size is not None and size > MAX_BYTES:
        return f"{size:,} bytes, which are too many to be shown"
    loaded = capture(lambda: opened(store, config.setting("hmac_key")).load(location))
    if isinstance(loaded, Error):
        return f"it cannot be read: {describe(loaded.exception)}"
    value = loaded.value
    if element is not None and isinstance(value, list) and element < len(value):
        value = value[element]
    text = mask(json.dumps(value, default=str, ensure_ascii=False))
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def child_of(source: Source, run: RunRow, step: int, row: int) -> ChildRow | None:
    """Return the newest record of an item; None if it has not ended."""
    table = run._current()
    c = table.c
    query = run._children(table).where(c.step == step, c.row == row).order_by(c.part.desc()).limit(1)
    with source.store.reading() as connection:
        found = connection.execute(query).first()
    return None if found is None else ChildRow(run, found)
