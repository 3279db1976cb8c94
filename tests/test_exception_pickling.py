"""Exceptions of which a record has the name of the class, the text and the traceback."""

from __future__ import annotations

import json
import sys
import types
from importlib import import_module

import pytest

from prefectish.errors import RemoteError
from prefectish.exception_classes import can_be_of
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
        ("ConnectionError", "no", "json.ConnectionError: no"),  # there is no such class in that module
        ("ConnectionError", "no", "netlib.ConnectionError: no"),  # no such module is loaded
        ("ConnectionError", "no", "test_x.f.<locals>.ConnectionError: no"),
        ("ConnectionError", "no", "Traceback (most recent call last):\n  File… (cut, 20000 characters)"),
        ("ConnectionError", "no", "traceback cannot be formatted: ConnectionError()"),
        ("print", "no", None),
        ("RemoteError", "no", "prefectish.errors.RemoteError: no"),
        ("TRIGGERFAIL", "no", "prefectish.engine.signals.TRIGGERFAIL: no"),
    ],
)
def test_what_cannot_be_made_again_is_stood_for_by_its_text(name, text, traceback):
    found = from_record(name, text, traceback)
    assert (type(found), found.args) == (RemoteError, (name, text, traceback))


class Net(types.ModuleType):
    """A module that is loaded when one of its names is read, and cannot be."""

    def __getattribute__(self, name):
        raise ImportError(f"{name} cannot be loaded")


@pytest.fixture
def netlib(monkeypatch):
    """Return a library with errors of its own that are named like Python's."""
    made = types.ModuleType("netlib")
    for name in ("TimeoutError", "ConnectionError"):
        setattr(made, name, type(name, (Exception,), {"__module__": "netlib"}))
    made.Order = type("Order", (), {"__module__": "netlib"})
    made.Order.KeyError = type("KeyError", (Exception,), {"__module__": "netlib", "__qualname__": "Order.KeyError"})
    monkeypatch.setitem(sys.modules, "netlib", made)
    return made


def chained(error, cause, *notes):
    """Return what a record has of an exception that has a cause, and notes."""
    error.__cause__ = record_of(cause) and cause
    for note in notes:
        error.add_note(note)
    return record_of(error)


def test_class_is_that_of_its_own_module(netlib):
    its = netlib.TimeoutError
    quoting = f"see\n{traceback_of(chained_error(its('inner')))}"
    for error in (its("no"), TimeoutError("no"), netlib.Order.KeyError("no")):
        assert type(from_record(*record_of(error))) is type(error)
    for error, cause in ((TimeoutError("outer"), its("inner")), (its("outer"), TimeoutError("inner"))):
        assert type(from_record(*chained(error, cause))) is type(error)
        assert type(from_record(*chained(error, ExceptionGroup("g", [cause])))) is type(error)
    assert type(from_record(*chained(TimeoutError("o\nnetlib.TimeoutError: i"), KeyError("a")))) is TimeoutError
    assert type(from_record(*chained(TimeoutError(quoting), KeyError("a")))) is TimeoutError
    noted = chained(TimeoutError("outer"), KeyError("a"), "netlib.TimeoutError: inner", "Traceback of it:\nnetlib: x")
    assert type(from_record(*noted)) is TimeoutError
    group = ExceptionGroup("g", [TimeoutError("inner")])
    assert type(from_record(*chained(group, its("inner")))) is RemoteError


def chained_error(cause):
    """Return an exception that was raised from another one."""
    try:
        raise ValueError("quoted") from cause
    except ValueError as error:
        return error


def test_names_of_the_main_program_and_of_python_that_are_alike_are_not_taken_for_each_other(monkeypatch):
    own = type("TimeoutError", (Exception,), {"__module__": "__main__"})
    monkeypatch.setattr("__main__.TimeoutError", own, raising=False)
    monkeypatch.setattr("__main__.Own", type("Own", (Exception,), {"__module__": "__main__"}), raising=False)
    for traceback in (None, "TimeoutError: no"):
        assert type(from_record("TimeoutError", "no", traceback)) is RemoteError
    assert type(from_record("Own", "no", "Own: no")) is sys.modules["__main__"].Own
    assert type(from_record("KeyError", "'no'", None)) is KeyError


def test_module_that_loads_when_it_is_read_is_left_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "lazy", Net("lazy"))
    monkeypatch.setitem(sys.modules, "gone", None)
    plain = types.ModuleType("plain")
    plain.__getattr__ = lambda name: import_module(f"no_such_library.{name}")
    monkeypatch.setitem(sys.modules, "plain", plain)
    for module in ("lazy", "gone", "plain"):
        assert type(from_record("TimeoutError", "no", f"{module}.TimeoutError: no")) is RemoteError


@pytest.mark.parametrize(
    ("kind", "dotted", "fits"),
    [
        (TimeoutError, "TimeoutError", True), (TimeoutError, "netlib.TimeoutError", False),
        (TimeoutError, None, True), (Odd, "Odd", True), (Odd, f"{__name__}.Odd", True), (Odd, "other.Odd", False),
        (Odd, "Even", False),
    ],
)  # fmt: skip
def test_type_is_chosen_by_its_module_too(kind, dotted, fits):
    traceback = None if dotted is None else f"{dotted}: no"
    assert can_be_of(kind, (dotted or kind.__name__).rpartition(".")[2], "no", traceback) is fits
