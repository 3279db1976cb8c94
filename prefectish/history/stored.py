"""Results that are stored and not recorded: a client was killed before it wrote that their children had ended.

The store is listed once for each run that is resumed; only files without a record are read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
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
from prefectish.history.columns import ChildColumns
from prefectish.results.base import Result, place_of
from prefectish.slugs import child_label

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
        #: By map domain, what says which child was at a place; what was asked first knows best.
        self._identities: dict[int, list[Callable[[Row], ItemId | None]]] = {}

    def missing(
        self, step: Step, known: ChildColumns | None, since: int, version: str | None = None
    ) -> dict[ItemId, PreviousResult]:
        """Return the children of a step that ended without a record.

        Parameters
        ----------
        known
            Those that are recorded; None for none.
        since
            First part of the run whose results count.
        version
            Only results that tell that this code made them.
        """
        domain = self._identities.setdefault(-1 - step.number if step.domain is None else step.domain, [])
        if known is not None:
            domain.append(known.identity_of)
        found: dict[ItemId, PreviousResult] = {}
        if step.store is None:
            return found
        places: dict[Row, ItemId] = {}
        domain.append(places.get)
        numbers: Counter[str] = Counter()

        def is_taken(child: ItemId) -> bool:
            return child in found or (known is not None and known.find(child) is not None)

        for row, (attempt, name) in sorted(self._of(step.store).get(step.slug, {}).items(), reverse=True):
            if row[0] < since or (known is not None and known.identity_of(row) is not None):
                continue
            read = capture(_read, step, name, row[1])
            if not isinstance(read, Value) or read.value is None:
                continue
            state, facts = read.value
            if version is not None and facts.get(VERSION) != version:
                continue
            child = _identity(row, facts, domain, is_taken, numbers)
            if child is None or is_taken(child):
                continue
            # One of several of one key that was listed again since may be known by now.
            if row[0] == self._part or not child[1] or child[0] is None:
                places[row] = child
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
        label = child_label(step.label, None if index < 0 else index)
        return Success(SUCCEEDED, Stored(step.store, name, label)), facts
    state = notes.read(step.store, name)
    return (state, facts) if state is not None and state.is_finished() else None


def _identity(
    row: Row,
    facts: Mapping[str, Any],
    domain: Sequence[Callable[[Row], ItemId | None]],
    is_taken: Callable[[ItemId], bool],
    numbers: Counter[str],
) -> ItemId | None:
    """Return which child left a file: by the key of its item, else by the row that it continues.

    Of the children of each key, `numbers` are known to be taken.
    """
    if row[1] < 0:
        return None, 0
    child: ItemId | None
    if ITEM in facts:
        key = facts[ITEM]
        child = None if key is not None else (None, row[1])
    else:
        child = next((child for known in domain if (child := known(row)) is not None), None)
        key = None if child is None or not is_taken(child) else child[0]
    # Which of several of one key it is, its row tells: they are numbered as far as they are recorded.
    while key is not None and is_taken(child := (key, numbers[key])):
        numbers[key] += 1
    return child
