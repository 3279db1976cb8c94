import copyreg
import pickle

import pytest
from tblib.pickling_support import pickle_exception

from prefectish import errors
from prefectish.errors import (
    MAX_TEXT_LENGTH,
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
from prefectish.exception_pickling import rebuild_exception, reduce_exception

CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no words")

    __repr__ = __str__


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_has_the_base_and_an_exit_code(cls):
    assert issubclass(cls, PrefectishError)
    assert cls.exit_code in {1, 2, 3, 4, 7}  # 7: the run is in other hands


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
    assert repr(copy) == "RemoteError('Oops: it broke')"


def test_shorten_keeps_a_short_text():
    assert shorten("z" * MAX_TEXT_LENGTH) == "z" * MAX_TEXT_LENGTH


def test_shorten_marks_what_it_cuts():
    assert shorten("z" * 50_000_000) == "z" * MAX_TEXT_LENGTH + "… (cut, 50000000 characters)"


def test_describe_is_the_repr():
    assert describe(ValueError("boom")) == "ValueError('boom')"
    assert text_of(ValueError("boom")) == "boom"


def test_describe_survives_a_broken_repr():
    assert describe(Mute()) == "<Mute whose repr raises RuntimeError>"
    assert text_of(Mute()) == "<Mute whose str raises RuntimeError>"


def _syntax_error() -> SyntaxError:
    with pytest.raises(SyntaxError) as caught:
        compile("f(\n", "some.py", "exec")
    return caught.value


def _noted() -> ValueError:
    error = ValueError("noted")
    error.add_note("by hand")
    error.level = 3  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    "error",
    [
        _syntax_error(),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        FileNotFoundError(2, "No such file", "a.txt"),
        KeyError("k"),
        _noted(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_error_taken_apart_is_put_together_whole(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    # As importing distributed does, for every exception there is.
    monkeypatch.setitem(copyreg.dispatch_table, type(error), pickle_exception)
    again = rebuild_exception(pickle.loads(pickle.dumps(reduce_exception(error))))
    assert (type(again), str(again), again.args) == (type(error), str(error), error.args)
    assert vars(again) == vars(error)


def test_error_that_is_not_made_of_its_arguments_cannot_be_put_together() -> None:
    class TwoArguments(Exception):
        def __init__(self, name: str, value: int) -> None:
            super().__init__(f"{name}={value}")

    with pytest.raises(TypeError):
        rebuild_exception(reduce_exception(TwoArguments("a", 1)))
