"""Results that are stored and not recorded: a client was killed before it wrote that their children had ended.

The store is listed once for each run that is resumed; only files without a record are read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from prefectish.engine.capture import Value, capture
from prefectish.engine.plan.item_key import ItemId
from prefectish.engine.plan.steps import Step
from prefectish.engine.scheduling.previous_run import PreviousResult
from prefectish.engine.state import State, Success
from prefectish.engine.state_column import SUCCEEDED
from prefectish.engine.worker import notes
from prefectish.engine.worker.notes import HOLDS, STATE
from prefectish.engine.worker.storage import ITEM, VERSION
from prefectish.engine.worker.stored_result import Stored
from prefectish.results.base import Result, place_of

_NAME = re.compile(r"(?P<part>\d+)/(?P<slug>.+)/(?P<index>\d+|single)\.(?P<attempt>\d+)")
#: Part of a run, and row in it.
Row = tuple[int, int]


class StoredResults:
    """What a run left in its stores.

    Parameters
    ----------
    run_id
        Id of the run, the folder of its results.
    part
        The last part of the run: how often it was resumed.
    """

    def __init__(self, run_id: str, part: int) -> None:
        self._run_id = run_id
        self._part = part
        self._files: dict[Any, dict[str, dict[Row, tuple[int, str]]]] = {}
        self._identities: dict[int, dict[Row, ItemId]] = {}

    def missing(
        self, step: Step, known: Mapping[ItemId, Row], since: int, version: str | None = None
    ) -> dict[ItemId, PreviousResult]:
        """Return the children of a step that ended without a record.

        Parameters
        ----------
        known
            Those that are recorded, with their places.
        since
            First part of the run whose results count.
        version
            Only results that tell that this code made them.
        """
        rows = {row: identity for identity, row in known.items()}
        domain = self._identities.setdefault(-1 - step.number if step.domain is None else step.domain, {})
        for row, known_as in rows.items():
            domain.setdefault(row, known_as)
        found: dict[ItemId, PreviousResult] = {}
        if step.store is None:
            return found
        for row, (attempt, name) in sorted(self._of(step.store).get(step.slug, {}).items(), reverse=True):
            if row in rows or row[0] < since:
                continue
            read = capture(_read, step, name, row[1])
            if not isinstance(read, Value) or read.value is None:
                continue
            state, facts = read.value
            if version is not None and facts.get(VERSION) != version:
                continue
            child = _identity(step, row, facts, domain, {*known, *found})
            if child is None or child in known or child in found:
                continue
            # One of several of one key that was listed again since may be known by now.
            if row[0] == self._part or not child[1] or child[0] is None:
                domain.setdefault(row, child)
                found[child] = PreviousResult(state, lambda: True, max(row[1], 0), row[0], attempt, 0.0, None)
        return found

    def _of(self, store: Result) -> dict[str, dict[Row, tuple[int, str]]]:
        """Return the last file of each row in a store by slug, listed once."""
        place = place_of(store)
        place = id(store) if place is None else place
        if place not in self._files:
            files: dict[str, dict[Row, tuple[int, str]]] = {}
            for name in store.list(self._run_id):
                found = _NAME.fullmatch(name.removeprefix(f"{self._run_id}/"))
                if found is None:
                    continue
                row = int(found["part"]), -1 if found["index"] == "single" else int(found["index"])
                last = int(found["attempt"]), name
                rows = files.setdefault(found["slug"], {})
                rows[row] = max(last, rows.get(row, last))
            self._files[place] = files
        return self._files[place]


def _read(step: Step, name: str, index: int) -> tuple[State, dict[str, Any]] | None:
    """Return how an attempt ended, and what is noted with it; None if it did not end the child."""
    assert step.store is not None
    facts = step.store.facts(name)
    if facts.get(HOLDS) != STATE:
        label = step.slug if index < 0 else f"{step.slug}[{index}]"
        return Success(SUCCEEDED, Stored(step.store, name, label)), facts
    state = notes.read(step.store, name)
    return (state, facts) if state is not None and state.is_finished() else None


def _identity(
    step: Step, row: Row, facts: Mapping[str, Any], domain: Mapping[Row, ItemId], taken: set[ItemId]
) -> ItemId | None:
    """Return which child left a file: by the key of its item, else by the row that it continues."""
    if row[1] < 0:
        return None, 0
    if ITEM not in facts:
        return domain.get(row)
    key = facts[ITEM]
    if key is None:
        return None, row[1]
    return key, next(n for n in range(len(taken) + 1) if (key, n) not in taken)
