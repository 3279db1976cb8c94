"""Which children left the files of a run that have no record."""

from __future__ import annotations

from types import SimpleNamespace

from prefectish.engine.worker.storage import ITEM
from prefectish.history.stored import StoredResults

WIDTH = 200
#: The keys of items, each time one was looked for.
looked: list[str] = []


class Key(str):
    """The key of an item."""

    __slots__ = ()

    def __hash__(self):
        looked.append(self)
        return super().__hash__()


class Files:
    """A store that holds the results of a map, all of one item."""

    def list(self, folder):
        return [f"{folder}/0/load-1/{row}.1" for row in range(WIDTH)]

    def facts(self, name):
        return {ITEM: Key("key")}


def test_children_of_one_key_are_numbered_without_counting_from_the_first_each_time():
    step = SimpleNamespace(store=Files(), slug="load-1", domain=0, number=0, label="load")
    found = StoredResults("run", 0).missing(step, None, 0)
    assert list(found) == [("key", number) for number in range(WIDTH)]
    assert len(looked) < 20 * WIDTH
