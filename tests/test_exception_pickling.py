"""Exceptions of which a record has the name of the class, the text and the traceback."""

from __future__ import annotations

import json

import pytest

from prefectish.errors import RemoteError
from prefectish.exception_pickling import from_record, traceback_of


class Odd(Exception):
    """Shows what its constructor noted."""

    def __init__(self, code):
        self.code = code

    def __str__(self):
        return f"code {self.code}"


def record_of(error):
    """Raise an exception, and return what a record has of it."""
    try:
        raise error
    except Exception as raised:
        return type(error).__name__, str(raised), traceback_of(raised)


def read_json():
    try:
        json.loads("{")
    except ValueError as error:
        return error


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a: b"), ValueError(), KeyError(("a", 1)), KeyError("b"), OSError("plain"),
        TimeoutError(110, "late"), FileNotFoundError(2, "No such file", "it's here"), read_json(),
    ],
    ids=repr,
)  # fmt: skip
def test_exception_has_its_class_and_text_again(error):
    found = from_record(*record_of(error))
    assert (type(found), str(found)) == (type(error), str(error))
    assert isinstance(found.__cause__, RemoteError)
    assert "record_of" in traceback_of(found)


@pytest.mark.parametrize(
    ("name", "text", "traceback"),
    [
        record_of(Odd(3)),
        record_of(ExceptionGroup("several", [ValueError("a")])),
        ("Unknown", "no", "elsewhere.Unknown: no"),
        ("Odd", "no", None),
        ("KeyError", "no literal", None),
        ("ConnectionError", "no", "json.ConnectionError"),  # not the class of that module: there is none
        ("print", "no", None),
        ("RemoteError", "no", "prefectish.errors.RemoteError: no"),
        ("TRIGGERFAIL", "no", "prefectish.engine.signals.TRIGGERFAIL: no"),
    ],
)
def test_what_cannot_be_made_again_is_stood_for_by_its_text(name, text, traceback):
    found = from_record(name, text, traceback)
    if name == "ConnectionError":
        assert type(found) is ConnectionError
    else:
        assert (type(found), found.args) == (RemoteError, (name, text, traceback))
