"""Hashes of arguments before and after a body."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass, field
from enum import Enum

import pytest

from prefectish.engine.worker.input_check import changed, hashes
from prefectish.errors import Unhashable
from prefectish.hashing import encoder
from prefectish.hashing.encoder import named_hash


def test_arguments_that_differ_are_named():
    inputs = {"rows": [1], "name": "a", "lock": threading.Lock(), "table": {"x": {1, 2}}}
    before = inputs, hashes(inputs)
    assert changed(before) == []
    inputs["rows"].append(2)
    inputs["table"]["x"].add(3)
    assert changed(before) == ["rows", "table"]


def test_argument_without_a_hash_is_not_compared():
    assert hashes({"lock": threading.Lock()}) == {}


@dataclass
class Row:
    """One field is left out of comparisons."""

    x: int
    note: str = field(default="", compare=False)


class Client:
    """It cannot be hashed, and counts its calls."""

    def __init__(self):
        self.lock, self.calls = threading.Lock(), 0


def frame():
    import pandas

    return pandas.DataFrame({"x": [1]})


CHANGES = {
    "order of a dict": (lambda: {"a": 1, "b": 2}, lambda value: value.update(a=value.pop("a"))),
    "order of a dict inside": (lambda: [{"a": 1, "b": 2}], lambda value: value[0].update(a=value[0].pop("a"))),
    "order of a defaultdict": (lambda: defaultdict(int, a=1, b=2), lambda value: value.update(a=value.pop("a"))),
    "a counter that is asked for what it lacks": (lambda: defaultdict(int), lambda value: value["a"]),
    "order of an OrderedDict": (lambda: OrderedDict(a=1, b=2), lambda value: value.move_to_end("a")),
    "Counter": (lambda: Counter("aab"), lambda value: value.subtract("a")),
    "deque": (lambda: deque([1, 2]), lambda value: value.rotate()),
    "field that is not compared": (lambda: Row(1), lambda value: setattr(value, "note", "x")),
    "attrs of a frame": (frame, lambda value: value.attrs.update(unit="m")),
    "attrs of a series": (lambda: frame()["x"], lambda value: value.attrs.update(unit="m")),
    "beside a lock": (lambda: [threading.Lock(), []], lambda value: value[1].append(1)),
    "in a dict with a client": (lambda: {"client": Client(), "rows": []}, lambda value: value["rows"].append(1)),
    "number of locks": (lambda: [threading.Lock()], lambda value: value.append(threading.Lock())),
    "zero": (lambda: [0.0], lambda value: value.__setitem__(0, -0.0)),
    "bytearray": (lambda: bytearray(b"a"), lambda value: value.append(1)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_kind_of_change_is_found(change):
    if "attrs" in change:
        pytest.importorskip("pandas")
    make, apply = CHANGES[change]
    before = {"x": make()}, hashes({"x": (value := make())})
    assert changed(before) == []  # the hash is that of the content
    inputs = {"x": value}
    before = inputs, hashes(inputs)
    apply(value)
    assert changed(before) == ["x"]


def test_client_that_counts_its_calls_is_not_compared():
    inputs = {"client": Client(), "clients": [Client()]}
    before = inputs, hashes(inputs)
    inputs["client"].calls += 1
    inputs["clients"][0].calls += 1
    assert changed(before) == []


def test_order_and_notes_make_no_other_key_of_a_cache():
    from prefectish.hashing import stable_hash

    assert stable_hash({"a": 1, "b": 2}) == stable_hash({"b": 2, "a": 1})
    assert stable_hash(Row(1, "a")) == stable_hash(Row(1, "b"))


@pytest.mark.parametrize("wrap", [list, lambda lists: Enum("Wrapped", {"ALL": list(lists)}).ALL])
def test_objects_that_all_point_to_one_another_are_given_up_as_a_whole(wrap, monkeypatch):
    monkeypatch.setattr(encoder, "MAX_ROUNDS", 50)
    lists = [[] for _ in range(7)]
    for each in lists:
        each.extend(lists)
    with pytest.raises(Unhashable, match="point to one another in too many ways"):
        named_hash("rows", wrap(lists), exact=True)
    assert list(hashes({"rows": wrap(lists), "n": 1})) == ["n"]


def test_many_objects_that_point_to_one_another_do_not_hold_up_a_body():
    lists = [[] for _ in range(12)]  # a walk along each way would take an hour
    for each in lists:
        each.extend(lists)
    assert hashes({"rows": lists}) == {}
