"""The base of slotted records: fields, copies, pickles."""

from __future__ import annotations

import pickle

import pytest

from prefectish.engine.jobs.struct import Struct


class Point(Struct):
    __slots__ = ("sum", "x", "y")

    def __init__(self, x, y=0):
        self.x = x
        self.y = y
        self.sum = x + y


class Single(Struct):
    __slots__ = ("only",)

    def __init__(self, only):
        self.only = only


def test_fields_are_the_parameters_in_their_order():
    assert Point.fields == ("x", "y")
    assert Point(3, 4).values() == (3, 4)
    assert Point(3, 4).values(y=5) == (3, 5)


def test_replace_runs_init_again_and_leaves_the_original_alone():
    old = Point(3, 4)
    new = old.replace(y=10)
    assert (new.x, new.y, new.sum) == (3, 10, 13)
    assert (old.y, old.sum) == (4, 7)


def test_unknown_field_is_refused_by_name():
    with pytest.raises(TypeError, match="'z'"):
        Point(1).replace(z=2)


@pytest.mark.parametrize("record", [Point(3, 4), Single((1, 2)), Single(None)], ids=["two", "tuple", "none"])
def test_record_survives_a_pickle(record):
    copy = pickle.loads(pickle.dumps(record))
    assert type(copy) is type(record)
    assert copy.values() == record.values()


def test_subclass_without_fields_of_its_own_has_those_of_its_base():
    class Named(Point):
        __slots__ = ()

    assert Named(1, 2).replace(x=5).values() == (5, 2)


def test_repr_shows_the_fields():
    assert repr(Point(3)) == "<Point x=3, y=0>"
