"""What stands for a large result while a function makes a name notices a look (rules, without an executor)."""

from __future__ import annotations

import contextlib

import pytest

from prefectish.engine.scheduling.away import Away, Looked

LOOKS = {
    "attribute": lambda value: value.size,
    "class": lambda value: isinstance(value, dict),
    "item": lambda value: value[0],
    "length": len,
    "truth": bool,
    "text": str,
    "repr": repr,
    "format": lambda value: f"{value:>4}",
    "iteration": list,
    "sum": lambda value: value + 1,
    "sum from the right": lambda value: 1 + value,
    "equality": lambda value: value == 1,
    "order": lambda value: value < 1,
    "hash": hash,
    "member": lambda value: 1 in value,
    "call": lambda value: value(),
    "number": int,
    "change": lambda value: setattr(value, "size", 1),
}


@pytest.mark.parametrize("look", LOOKS)
def test_look_is_noticed(look):
    looked = []
    with pytest.raises(Looked):
        LOOKS[look](Away(looked))
    assert looked


def test_look_whose_exception_is_swallowed_is_noticed_all_the_same():
    looked = []
    value = Away(looked)
    with contextlib.suppress(BaseException):
        len(value)
    assert looked == [True]


def test_what_only_passes_it_on_does_not_look():
    looked = []
    value = Away(looked)
    fields = {"x": value, "n": 1}
    assert fields["x"] is value
    assert "file-{n}".format(**fields) == "file-1"
    assert type(value) is Away
    assert not looked
