"""Approvals of paused tasks, recorded in the history for the next resume."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from prefectish.engine.clock import now
from prefectish.engine.pause import answered
from prefectish.history import schema
from prefectish.history.rows import MAX_CONTEXT_LENGTH, clean, text_number, upsert
from prefectish.secrets.masking import mask
from prefectish.slugs import meant

if TYPE_CHECKING:
    from prefectish.history.children import WaitingRow
    from prefectish.history.store import HistoryStore


def approve(store: HistoryStore, run: int, children: list[WaitingRow], answer: Any) -> None:
    """Record an approval, so that paused children continue when the run is resumed.

    Parameters
    ----------
    run
        Number of the run.
    which
        Children that wait for an approval.
    answer
        The answer to them; JSON serializable; None: no answer.

    Raises
    ------
    ValueError
        If the answer is not JSON serializable, or too long.
    """
    contexts = [_context(row, answer) for row in children]
    with store.writing() as connection:
        s = schema.steps.c
        found = connection.execute(select(s.slug, s.step).where(s.run == run))
        steps = {row.slug: row.step for row in found}
        message = text_number(connection, "approved")
        rows = []
        for row, context in zip(children, contexts, strict=True):
            again = row.state == "Resume"  # approved before, and not resumed since
            key = (run, steps[row.slug], row.index or 0, row.part, row.attempt + (not again))
            at = round(now().timestamp(), 3)
            rows.append((*key, schema.CODES["Resume"], 0.0, at, None, row.item_key, message, None, None, context))
        upsert(connection, schema.attempts, rows)


def _context(row: WaitingRow, answer: Any) -> str:
    context = answered(row.context, row.message, answer)
    try:
        text = json.dumps(context)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"input={answer!r} cannot be stored until the run is resumed: {error}") from None
    if len(text) > MAX_CONTEXT_LENGTH:
        raise ValueError(f"input must have at most {MAX_CONTEXT_LENGTH:,} characters, got {len(text):,}")
    if answer is not None and mask(text) != text:
        raise ValueError("input must not contain a secret, which would be stored; read the secret in the task instead")
    return clean(text)


def choose(paused: list[WaitingRow], task: str | None, item: int | str | None, run_id: str) -> list[WaitingRow]:
    """Return the selected paused children.

    Parameters
    ----------
    task
        Slug or name of their task; None: all.
    item
        Map index or item key of one of them.

    Raises
    ------
    KeyError
        If there are none.
    """
    meant_ones = () if task is None else meant(task, ((row.slug, row.task, row.name) for row in paused))
    found = [
        row
        for row in paused
        if (task is None or row.slug in meant_ones)
        and (item is None or item in (row.index, row.item_key) or str(item) == str(row.index))
    ]
    if found:
        return found
    waiting = ", ".join(row.label for row in paused[:10]) or "nothing"
    selection = "" if task is None else f" as {task}" if item is None else f" as {task}[{item}]"
    raise KeyError(f"nothing waits for an approval{selection} in run {run_id}; paused: {waiting}")
