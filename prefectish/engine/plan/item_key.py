"""Identify a child by its item, not by its position.

The key of a child is what the task's ``item_key`` says, or a stable hash of the item. A chain of maps carries the key
of the item it began with, so only the first step of a branch computes one: for the history, which finds a child by it,
and for names that are made of it. Such a name travels in the context of the branch's states; of several children with
one key the second is called ``key#2`` there.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from prefectish.engine.capture import Error, capture
from prefectish.engine.plan.steps import Input
from prefectish.engine.state import State, Success
from prefectish.errors import describe
from prefectish.hashing import stable_hash
from prefectish.secrets.masking import mask

#: Where a state keeps the name of its item, and an item its number among those of one key, in their contexts.
ITEM_KEY, ITEM_NUMBER = "item_key", "item_number"
_NUMBERED = re.compile(r"#\d+$")
#: Longest key that is kept as it is; a longer one is hashed.
LONGEST_KEY = 64
#: A key, and the number of the child among those with the same key; without a key None, and the row.
ItemId = tuple[str | None, int]
logger = logging.getLogger("prefectish.engine")
_warned: set[tuple[str, str]] = set()


class KeyedStep(Protocol):
    """What is read of a step: both the steps of a plan and those of a job have it."""

    @property
    def task(self) -> Any:
        """The task, whose option says what an item is."""

    @property
    def slug(self) -> str:
        """Name of the step in the flow."""

    @property
    def label(self) -> str:
        """What the step is called."""

    @property
    def inputs(self) -> Sequence[Input]:
        """The edges into the step."""


def item_key(spec: KeyedStep, upstream: Sequence[State], run: Mapping[str, Any]) -> str | None:
    """Return the key of a child by the states of its inputs; None if its item cannot say what it is.

    An item that cannot be hashed the same way everywhere falls back to the position, with one warning a task and run.
    """
    option = getattr(spec.task, "item_key", None)
    if option is None and len(upstream) == 1 and type(upstream[0]) is Success:  # the usual case, for every child
        outcome = capture(_hash_of, upstream[0])
    else:
        mapped = {i.key: state for i, state in zip(spec.inputs, upstream, strict=True) if i.mapped}
        if not mapped or not all(state.is_successful() for state in mapped.values()):
            return None
        outcome = capture(_key, option, mapped)
    if isinstance(outcome, Error):
        if (run["flow_run_id"], spec.slug) not in _warned:
            _warned.add((run["flow_run_id"], spec.slug))
            logger.warning("%s: children are known by their position: %s", spec.label, describe(outcome.exception))
        return None
    key: str | None = outcome.value
    return key


def _hash_of(state: State) -> str | None:
    return _hashed(state.result)


def _hashed(item: Any) -> str | None:
    if type(item) is str and mask(item) != item:  # who has the hash of a short secret can guess it
        return None
    return stable_hash(item)


def _key(option: Any, mapped: dict[str | None, State]) -> str | None:
    items = {name: state.result for name, state in mapped.items()}
    item = next(iter(items.values())) if len(items) == 1 else items
    if callable(option):
        key = option(item)
        if key is None:
            raise ValueError("item_key returned None")
        return shortened(key)
    if isinstance(option, str):
        return shortened(items[option])
    return _hashed(item)


def shortened(key: Any) -> str:
    """Return a user's key as text of at most :data:`LONGEST_KEY` characters."""
    text = mask(key if isinstance(key, str) else str(key))
    return text if len(text) <= LONGEST_KEY else stable_hash(text)


def item_id_of(key: str | None, row: int, seen: Counter[str]) -> ItemId:
    """Return what distinguishes a child from its siblings; call it row by row.

    `key` is None if the item cannot say what it is; `seen` counts how often each key came up before.
    """
    if key is None:
        return None, row
    seen[key] += 1
    return key, seen[key] - 1


def name_of(spec: KeyedStep, upstream: Sequence[State], key: str | None) -> str | None:
    """Return what an item is called in names; None if it cannot say what it is; `key` if the branch begins here."""
    contexts = [s._context for i, s in zip(spec.inputs, upstream, strict=True) if i.mapped and s._context]
    if key is None:
        return next((context[ITEM_KEY] for context in contexts if ITEM_KEY in context), None)
    return numbered(key, max((context.get(ITEM_NUMBER, 1) for context in contexts), default=1))


def numbered(key: str, number: int) -> str:
    """Return a name for one of several items of one key; no two of them, and no other item, have it.

    Examples
    --------
    >>> numbered("a", 1), numbered("a", 2), numbered("a#2", 1)
    ('a', 'a#2', 'a#2#1')
    """
    return key if number == 1 and not _NUMBERED.search(key) else f"{key}#{number}"
