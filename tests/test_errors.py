import pickle

import pytest

from prefectish import errors
from prefectish.errors import (
    LONGEST_TEXT,
    EnvironmentMismatch,
    FlowDefinitionError,
    ParameterError,
    PrefectishError,
    RemoteError,
    SchedulerLost,
    describe,
    shorten,
    text_of,
)

CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no words")

    __repr__ = __str__


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_has_the_base_and_an_exit_code(cls):
    assert issubclass(cls, PrefectishError)
    assert cls.exit_code in {1, 2, 3}


@pytest.mark.parametrize(
    ("cls", "builtin", "exit_code"),
    [
        (FlowDefinitionError, ValueError, 2),
        (ParameterError, ValueError, 2),
        (SchedulerLost, ConnectionError, 3),
        (EnvironmentMismatch, PrefectishError, 3),
        (PrefectishError, Exception, 1),
    ],
)
def test_error_is_also_what_a_caller_would_expect(cls, builtin, exit_code):
    assert issubclass(cls, builtin)
    assert cls("x").exit_code == exit_code
    assert str(cls("x")) == "x"


def test_remote_error_keeps_its_facts_over_a_pickle():
    copy = pickle.loads(pickle.dumps(RemoteError("Oops", "it broke", "Traceback ...")))
    assert (copy.type_name, copy.message, copy.traceback) == ("Oops", "it broke", "Traceback ...")
    assert str(copy) == "Oops: it broke"


def test_shorten_keeps_a_short_text():
    assert shorten("z" * LONGEST_TEXT) == "z" * LONGEST_TEXT


def test_shorten_marks_what_it_cuts():
    assert shorten("z" * 50_000_000) == "z" * LONGEST_TEXT + "… (cut, 50000000 characters)"


def test_describe_is_the_repr():
    assert describe(ValueError("boom")) == "ValueError('boom')"
    assert text_of(ValueError("boom")) == "boom"


def test_describe_survives_a_broken_repr():
    assert describe(Mute()) == "<Mute whose repr raises RuntimeError>"
    assert text_of(Mute()) == "<Mute whose str raises RuntimeError>"
